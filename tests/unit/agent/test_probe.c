/* DOC: What the agent makes of ISTIO_KUBE_APP_PROBERS, and the two messages of gRPC's health check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/health.h"
#include "agent/probe.h"

#define ONE(prober) "{\"/app-health/c/livez\":" prober "}"

static void A11_every_kind_of_probe(void **state)
{
	struct probe_specs s;
	struct err e = {0};
	assert_true(probe_specs_parse(
		"{\"/app-health/a/livez\":{\"httpGet\":{\"path\":\"x#y\",\"port\":80},\"timeoutSeconds\":7},"
		"\"/app-health/a/readyz\":{\"httpGet\":{\"port\":443,\"scheme\":\"HTTPS\"}},"
		"\"/app-health/a/startupz\":{\"tcpSocket\":{\"port\":81}},"
		"\"/app-health/b/livez\":{\"grpc\":{\"port\":82,\"service\":\"s\"}},"
		"\"/app-lifecycle/b/prestopz\":{\"httpGet\":{\"port\":83}}}",
		"10.0.0.9", &s, &e));
	assert_int_equal(s.len, 5);
	assert_string_equal(s.items[0].url, "http://10.0.0.9:80/x%23y");
	assert_int_equal(s.items[0].timeout_ms, 7000);
	assert_string_equal(s.items[1].url, "https://10.0.0.9:443/");
	assert_int_equal(s.items[1].timeout_ms, 1000);
	assert_string_equal(s.items[2].target, "10.0.0.9:81");
	assert_int_equal(s.items[3].kind, PROBE_GRPC);
	assert_string_equal(s.items[3].service, "s");
	assert_int_equal(s.items[4].timeout_ms, 60000);
	assert_ptr_equal(probe_specs_find(&s, STR("/app-health/b/livez")), &s.items[3]);
	assert_null(probe_specs_find(&s, STR("/app-health/b/live")));
	probe_specs_done(&s);
}

static void A11_addresses(void **state)
{
	static const char *const rows[][2] = {
		{"10.1.2.3", "10.1.2.3:80"}, {"fd00::1", "[::1]:80"}, {"", "127.0.0.1:80"}, {"name", "127.0.0.1:80"}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct probe_specs s;
		struct err e;
		assert_true(probe_specs_parse(ONE("{\"tcpSocket\":{\"port\":80}}"), rows[i][0], &s, &e));
		assert_string_equal(s.items[0].target, rows[i][1]);
		probe_specs_done(&s);
	}
}

static void A11_what_cannot_be_done_is_refused(void **state)
{
	static const struct {
		const char *json, *why;
	} rows[] = {
		{"{", "line 1"},
		{"[]", "a JSON object"},
		{"{\"/healthz\":{\"tcpSocket\":{\"port\":1}}}", "/healthz: neither below /app-health/"},
		{ONE("{}"), "httpGet, tcpSocket or grpc"},
		{ONE("{\"exec\":{}}"), "httpGet, tcpSocket or grpc"},
		{ONE("{\"tcpSocket\":{\"port\":\"http\"}}"), "tcpSocket: port"},
		{ONE("{\"tcpSocket\":{\"port\":65536}}"), "tcpSocket: port"},
		{ONE("{\"httpGet\":{\"port\":1,\"scheme\":\"FTP\"}}"), "httpGet: scheme"},
		{ONE("{\"httpGet\":{\"port\":1,\"httpHeaders\":[{\"name\":\"a b\"}]}}"), "httpHeaders[0]"},
		{ONE("{\"httpGet\":{\"port\":1,\"httpHeaders\":[{\"name\":\"a\",\"value\":\"b\\nc\"}]}}"),
			"httpHeaders[0]"},
		{ONE("{\"tcpSocket\":{\"port\":1},\"timeoutSeconds\":-1}"), "timeoutSeconds"},
		{ONE("{\"tcpSocket\":{\"port\":1},\"timeoutSeconds\":3601}"), "timeoutSeconds"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct probe_specs s;
		struct err e = {0};
		assert_false(probe_specs_parse(rows[i].json, "10.0.0.1", &s, &e));
		if (!strstr(e.text, rows[i].why))
			fail_msg("%s: %s", rows[i].json, e.text);
	}
}

static void P61_A14_readiness_of_a_proxy_config(void **state)
{
	struct readiness *r = NULL;
	struct err e = {0};
	assert_true(readiness_parse("{\"concurrency\":1}", "10.0.0.1", &r, &e));
	assert_null(r);
	assert_true(
		readiness_parse("{\"readinessProbe\":{\"httpGet\":{\"port\":80,\"host\":\"h\",\"scheme\":\"https\"}}}",
			"10.0.0.1", &r, &e));
	assert_string_equal(r->spec.url, "https://h:80/");
	assert_int_equal(r->period_ms, 10000);
	assert_int_equal(r->spec.timeout_ms, 1000);
	assert_int_equal(r->success, 1);
	assert_int_equal(r->failure, 1);
	readiness_free(r);
	assert_true(readiness_parse(
		"{\"readinessProbe\":{\"initialDelaySeconds\":3,\"periodSeconds\":4,\"timeoutSeconds\":5,"
		"\"successThreshold\":6,\"failureThreshold\":7,\"exec\":{\"command\":[\"a\",\"b c\"]}}}",
		"10.0.0.1", &r, &e));
	assert_int_equal(r->initial_delay_ms, 3000);
	assert_int_equal(r->success, 6);
	assert_int_equal(r->failure, 7);
	assert_string_equal(r->spec.command[1], "b c");
	assert_null(r->spec.command[2]);
	readiness_free(r);
	static const char *const wrong[][2] = {
		{"{\"readinessProbe\":{}}", "readinessProbe: httpGet, tcpSocket, grpc or exec is needed"},
		{"{\"readinessProbe\":{\"periodSeconds\":-1,\"grpc\":{\"port\":1}}}",
			"readinessProbe: periodSeconds: a number of 0..3600 is expected"},
		{"{\"readinessProbe\":{\"exec\":{\"command\":[]}}}",
			"readinessProbe: exec: command: a list of 1..100 texts is expected"},
		{"{\"readinessProbe\":{\"exec\":{\"command\":[1]}}}",
			"readinessProbe: exec: command[0]: a text is expected"},
	};
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		assert_false(readiness_parse(wrong[i][0], "10.0.0.1", &r, &e));
		assert_string_equal(e.text, wrong[i][1]);
		e = (struct err){0};
	}
}

static void P61_A14_thresholds(void **state)
{
	const struct readiness r = {.success = 2, .failure = 3};
	struct health_state s = {0};
	/* What comes, and whether it is news; the first word needs its threshold, too. */
	static const struct {
		bool ok, news;
	} steps[] = {{true, false}, {false, false}, {true, false}, {true, true}, {true, false}, {false, false},
		{false, false}, {true, false}, {false, false}, {false, false}, {false, true}, {false, false},
		{true, false}, {true, true}};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		assert_int_equal(health_step(&s, &r, steps[i].ok), steps[i].news);
	assert_true(s.known && s.healthy);
}

static void A11_nothing_to_probe(void **state)
{
	struct probe_specs s;
	struct err e;
	assert_true(probe_specs_parse(NULL, NULL, &s, &e));
	assert_int_equal(s.len, 0);
	probe_specs_done(&s);
}

static void A11_health_messages(void **state)
{
	struct strbuf b = {0};
	char service[151];
	probe_health_request("", &b);
	assert_int_equal(b.len, 0);
	probe_health_request("ab", &b);
	assert_true(str_eq(strbuf_str(&b), STR("\x0a\x02"
					       "ab")));
	strbuf_clear(&b);
	memset(service, 'x', 150);
	service[150] = 0;
	probe_health_request(service, &b);
	assert_int_equal(b.len, 153);
	assert_memory_equal(b.ptr, "\x0a\x96\x01x", 4);
	strbuf_done(&b);
	assert_true(probe_health_is_serving(STR("\x08\x01")));
	assert_false(probe_health_is_serving(STR("\x08\x02")));
	assert_false(probe_health_is_serving(STR("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A11_every_kind_of_probe),
		cmocka_unit_test(A11_addresses),
		cmocka_unit_test(A11_what_cannot_be_done_is_refused),
		cmocka_unit_test(P61_A14_readiness_of_a_proxy_config),
		cmocka_unit_test(P61_A14_thresholds),
		cmocka_unit_test(A11_nothing_to_probe),
		cmocka_unit_test(A11_health_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
