/* DOC: The Pods of a directory: what is read of them, and that a broken file harms none that run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/up/pods.h"
#include "cli/up/config.h"
#include "cli/up/pod_agent.h"
#include "cli/up/spec.h"
#include "common/io/file.h"

struct bench {
	char root[64];
	struct arena *arena;
	struct diags warnings;
};

static int setup(void **state)
{
	struct bench *b = xzalloc(sizeof(*b));
	(void)snprintf(b->root, sizeof(b->root), "/tmp/pods-XXXXXX");
	b->arena = arena_new();
	*state = b;
	return mkdtemp(b->root) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"a.yaml", "b.yaml", "spec.json"};
	struct bench *b = *state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path cleanup(free_p) = xasprintf("%s/%s", b->root, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(b->root);
	arena_free(b->arena);
	free(b);
	return 0;
}

static void write_file(const struct bench *b, const char *name, const char *text)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", b->root, name);
	assert_true(file_write_atomic(path, str_of(text), 0600, NULL));
}

static struct pods read_pods(struct bench *b, const struct pods *before)
{
	static const struct pods none;
	struct pods out = {0};
	struct err e = {0};
	diags_init(&b->warnings, b->arena);
	assert_true(pods_read(b->arena, b->root, before ? before : &none, &out, &b->warnings, &e));
	return out;
}

#define POD(name, ip) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", labels: {app: " name "}}\n" \
	"spec: {containers: [{name: app, command: [run, " name \
	"], env: [{name: K, value: V}], ports: [{containerPort: 9080}]}]}\n" \
	"status: {podIP: " ip "}\n---\n"

static void a_pod_is_read(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml",
		"apiVersion: v1\nkind: Pod\n"
		"metadata: {name: web-1, generateName: web-, namespace: shop, labels: {app: web}, annotations: {x: "
		"z}}\n"
		"spec:\n  serviceAccountName: clerk\n  containers:\n  - {name: app, command: [a, b], args: [c]}\n"
		"status: {podIP: 10.88.1.9, podIPs: [{ip: 10.88.1.9}, {ip: 'fd88::9'}]}\n---\n"
		"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n");
	struct pods p = read_pods(b, NULL);
	assert_int_equal(p.len, 1);
	assert_string_equal(p.items[0].name, "web-1");
	assert_string_equal(p.items[0].ns, "shop");
	assert_string_equal(p.items[0].workload, "web");
	assert_string_equal(p.items[0].ip, "10.88.1.9");
	assert_string_equal(p.items[0].ips, "10.88.1.9,fd88::9");
	assert_string_equal(p.items[0].service_account, "clerk");
	assert_string_equal(p.items[0].labels_json, "{\"app\":\"web\"}");
	assert_string_equal(p.items[0].annotations_json, "{\"x\":\"z\"}");
	assert_string_equal(p.items[0].command[2], "c");
	assert_null(p.items[0].command[3]);
	assert_true(p.items[0].proxy);
	assert_false(p.items[0].gateway);
	assert_int_equal(b->warnings.len, 0);
}

static void injection_is_read(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {sidecar.istio.io/inject: "
		"\"false\"}}\nstatus: {podIP: 10.88.1.1}\n"
		"---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, annotations: {inject.istio.io/templates: "
		"gateway}}\n"
		"status: {podIP: 10.88.1.2}\n");
	struct pods p = read_pods(b, NULL);
	assert_int_equal(p.len, 2);
	assert_false(p.items[0].proxy);
	assert_true(p.items[1].proxy && p.items[1].gateway);
	assert_null(p.items[1].command);
}

static void what_cannot_run_is_named(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml",
		POD("one", "10.88.1.1") POD("two", "10.88.1.1")
			POD("one", "10.88.1.3") "apiVersion: v1\nkind: Pod\nmetadata: {name: nowhere}\n");
	struct pods p = read_pods(b, NULL);
	assert_int_equal(p.len, 1);
	assert_string_equal(p.items[0].name, "one");
	assert_int_equal(b->warnings.len, 3);
	assert_string_equal(b->warnings.items[0].rule, "duplicate-address");
	assert_string_equal(b->warnings.items[1].rule, "duplicate-object");
	assert_string_equal(b->warnings.items[2].rule, "pod-without-address");
	assert_string_equal(b->warnings.items[2].object, "Pod nowhere");
	assert_non_null(strstr(b->warnings.items[0].file, "/a.yaml"));
	assert_int_equal(b->warnings.items[0].line, 7);
}

static void a_name_is_no_path(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml",
		POD("../../x", "10.88.1.1") POD("a/b", "10.88.1.2") POD(".a", "10.88.1.3") POD("a.b-1", "10.88.1.4"));
	struct pods p = read_pods(b, NULL);
	assert_int_equal(p.len, 1);
	assert_string_equal(p.items[0].name, "a.b-1");
	assert_int_equal(b->warnings.len, 3);
	assert_string_equal(b->warnings.items[0].rule, "pod-name");
}

static void a_broken_file_stops_nobody(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml", POD("one", "10.88.1.1") POD("two", "10.88.1.2"));
	write_file(b, "b.yaml", POD("three", "10.88.1.3"));
	struct pods before = read_pods(b, NULL);
	assert_int_equal(before.len, 3);
	write_file(b, "a.yaml", POD("one", "10.88.1.1") "kind: [\n");
	struct pods now = read_pods(b, &before);
	assert_int_equal(now.len, 3);
	assert_non_null(pods_find(&now, "default", "two"));
	assert_int_equal(pods_find(&now, "default", "two")->hash, pods_find(&before, "default", "two")->hash);
	assert_true(b->warnings.len > 0);
	/* Twice broken is broken all the same. */
	struct pods later = read_pods(b, &now);
	assert_int_equal(later.len, 3);
	/* Whole again, without it: it goes. */
	write_file(b, "a.yaml", POD("one", "10.88.1.1"));
	struct pods end = read_pods(b, &later);
	assert_int_equal(end.len, 2);
	assert_null(pods_find(&end, "default", "two"));
}

static void a_change_changes_the_hash(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml", POD("one", "10.88.1.1"));
	uint64_t first = read_pods(b, NULL).items[0].hash;
	write_file(b, "a.yaml", "# a comment\n" POD("one", "10.88.1.1"));
	assert_int_equal(read_pods(b, NULL).items[0].hash, first);
	write_file(b, "a.yaml", POD("one", "10.88.1.4"));
	assert_int_not_equal(read_pods(b, NULL).items[0].hash, first);
}

static void no_directory_is_an_error(void **state)
{
	struct bench *b = *state;
	static const struct pods none;
	struct pods out = {0};
	struct err e = {0};
	diags_init(&b->warnings, b->arena);
	assert_false(pods_read(b->arena, "/nowhere/at/all", &none, &out, &b->warnings, &e));
	assert_non_null(strstr(e.text, "/nowhere/at/all"));
}

static void the_specification_survives_its_file(void **state)
{
	struct bench *b = *state;
	write_file(b, "a.yaml", POD("one", "10.88.1.1"));
	struct pods p = read_pods(b, NULL);
	const struct mesh_paths paths = {.state = "/s",
		.dir = "/d",
		.bin = "/b",
		.envoy = "/e",
		.discovery = "1.2.3.4:5",
		.ca = "1.2.3.4:6",
		.trust_domain = "td",
		.cert_ttl = "30s"};
	char *path cleanup(free_p) = xasprintf("%s/spec.json", b->root);
	struct err e = {0};
	p.items[0].port = 9080;
	assert_true(spec_write(&paths, &p.items[0], path, &e));
	struct spec s = {0};
	assert_true(spec_read(b->arena, path, &s, &e));
	assert_int_equal(s.pod.port, 9080);
	assert_string_equal(s.pod.name, "one");
	assert_string_equal(s.pod.command[1], "one");
	assert_string_equal(s.pod.env[0], "K=V");
	assert_true(s.pod.proxy);
	assert_string_equal(s.mesh.hosts, "/s/hosts/default");
	assert_string_equal(s.pod_dir, "/s/pods/default.one");
	assert_string_equal(s.mesh.cert_ttl, "30s");
	write_file(b, "spec.json", "[1]");
	assert_false(spec_read(b->arena, path, &s, &e));
}

/* ---- the proxy's settings */

static const char *value_of(const char *const *list, const char *option)
{
	for (size_t i = 0; list[i]; i++)
		if (streq(list[i], option))
			return list[i + 1];
	return NULL;
}

static bool holds(const char *const *list, const char *text)
{
	for (size_t i = 0; list[i]; i++)
		if (streq(list[i], text))
			return true;
	return false;
}

static const struct config mesh_settings = {.root_namespace = "root",
	.outbound_port = "15101",
	.inbound_port = "15106",
	.default_config = "{\"concurrency\":4,\"interceptionMode\":\"NONE\",\"terminationDrainDuration\":\"40s\"}",
	.proxy_configs = "[{\"metadata\":{\"namespace\":\"root\"},\"spec\":{\"environmentVariables\":{\"A\":\"root\","
			 "\"B\":\"root\","
			 "\"EXIT_ON_ZERO_ACTIVE_CONNECTIONS\":\"true\"}}},"
			 "{\"metadata\":{\"namespace\":\"n\"},\"spec\":{\"environmentVariables\":{\"A\":\"n\"}}}]"};

static void P124_the_agent_is_started_with_the_pods_proxy_config(void **state)
{
	struct bench *b = *state;
	static const char *const env[] = {"B=pod", NULL};
	struct err e = {0};
	struct spec s = {.pod = {.name = "p",
				 .ns = "n",
				 .ip = "10.88.1.1",
				 .ips = "10.88.1.1",
				 .labels_json = "{}",
				 .annotations_json =
					 "{\"proxy.istio.io/config\":\"proxyStatsMatcher: {inclusionPrefixes: [a]}\"}",
				 .proxy = true,
				 .env = env},
		.mesh = {.bin = "/b", .state = "/s"},
		.pod_dir = "/s/pods/n.p"};
	struct pod_agent got = {0};
	diags_init(&b->warnings, b->arena);
	assert_true(config_for_pod(b->arena, &mesh_settings, &s.pod, &b->warnings, &e));
	pod_agent_build(b->arena, &s, &got);
	assert_string_equal(got.argv[0], "/b/agent/agent");
	assert_string_equal(value_of(got.argv, "--concurrency"), "4");
	assert_string_equal(value_of(got.argv, "--drain-duration"), "40s");
	assert_string_equal(value_of(got.argv, "--drain-timeout"), "60s");
	assert_string_equal(value_of(got.argv, "--interception-mode"), "NONE");
	assert_true(holds(got.argv, "--exit-on-zero-connections"));
	assert_non_null(strstr(value_of(got.argv, "--proxy-config"), "\"proxyMetadata\":{\"A\":\"n\",\"B\":\"root\""));
	assert_non_null(strstr(value_of(got.argv, "--annotations"), "statsInclusionPrefixes\":\"a\""));
	assert_true(holds(got.env, "A=n") && holds(got.env, "B=root") && !holds(got.env, "B=pod"));
	assert_string_equal(pod_agent_mode(b->arena, &s), "NONE");
	assert_string_equal(s.pod.outbound_port, "15101");
	assert_string_equal(s.pod.inbound_port, "15106");
	/* The container of a gateway is the proxy, and has the last word. */
	s.pod.gateway = true;
	pod_agent_build(b->arena, &s, &got);
	assert_string_equal(got.env[0], "B=pod");
	assert_string_equal(value_of(got.argv, "--type"), "router");
	assert_false(holds(got.argv, "--interception-mode"));
}

static void P124_without_a_word_a_proxy_has_one_thread(void **state)
{
	struct bench *b = *state;
	static const struct config nothing = {.root_namespace = "root", .default_config = "", .proxy_configs = "[]"};
	struct err e = {0};
	struct spec s = {
		.pod = {.name = "p", .ns = "n", .ip = "fd88::1:1", .labels_json = "{}", .annotations_json = "{}"},
		.mesh = {.bin = "/b", .state = "/s"}};
	struct pod_agent got = {0};
	diags_init(&b->warnings, b->arena);
	assert_true(config_for_pod(b->arena, &nothing, &s.pod, &b->warnings, &e));
	pod_agent_build(b->arena, &s, &got);
	assert_string_equal(value_of(got.argv, "--concurrency"), "1");
	assert_false(holds(got.argv, "--proxy-config") || holds(got.argv, "--drain-duration"));
	assert_string_equal(pod_agent_mode(b->arena, &s), "REDIRECT");
	assert_string_equal(value_of(got.argv, "--interception-mode"), "REDIRECT");
	s.pod.proxy_config_json = "{\"interceptionMode\":\"TPROXY\"}";
	assert_string_equal(pod_agent_mode(b->arena, &s), "TPROXY");
	s.pod.annotations_json = "{\"sidecar.istio.io/interceptionMode\":\"REDIRECT\"}";
	assert_string_equal(pod_agent_mode(b->arena, &s), "REDIRECT");
	s.pod.annotations_json = "{\"proxy.istio.io/config\":\"concurrency: many\"}";
	assert_false(config_for_pod(b->arena, &nothing, &s.pod, &b->warnings, &e));
	assert_non_null(strstr(e.text, "annotation proxy.istio.io/config: concurrency: "));
	s.pod.annotations_json = "{\"proxy.istio.io/config\":\"interceptionMode: TPROXY\"}";
	assert_true(config_for_pod(b->arena, &nothing, &s.pod, &b->warnings, &e));
	assert_string_equal(pod_agent_mode(b->arena, &s), "TPROXY");
	s.pod.annotations_json = "{\"sidecar.istio.io/interceptionMode\":\"tproxy\"}";
	assert_false(config_for_pod(b->arena, &nothing, &s.pod, &b->warnings, &e));
	assert_string_equal(
		e.text, "annotation sidecar.istio.io/interceptionMode: \"tproxy\" is not REDIRECT, TPROXY or NONE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_pod_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(injection_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_run_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(a_name_is_no_path, setup, teardown),
		cmocka_unit_test_setup_teardown(a_broken_file_stops_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(a_change_changes_the_hash, setup, teardown),
		cmocka_unit_test_setup_teardown(no_directory_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(P124_the_agent_is_started_with_the_pods_proxy_config, setup, teardown),
		cmocka_unit_test_setup_teardown(P124_without_a_word_a_proxy_has_one_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(the_specification_survives_its_file, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
