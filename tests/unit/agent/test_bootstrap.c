/*
 * DOC: Envoy's bootstrap by its fields: the node as pilot reads it, the way to the agent's sockets, the statistics that are kept, the mark.
 * That Envoy takes it is tests/daemons/test_capture.py's to show, with the real Envoy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/agent.h"

static struct agent_config config(void)
{
	return (struct agent_config){.type = "sidecar",
		.pod_name = "reviews-1",
		.pod_namespace = "shop",
		.pod_ip = "10.0.0.7",
		.service_account = "reviews",
		.workload = "reviews",
		.labels = "{\"app\":\"reviews\",\"version\":\"v2\"}",
		.annotations = "{\"a\":\"b\"}",
		.cluster_id = "Kubernetes",
		.mesh_id = "m",
		.locality = "eu/a",
		.domain_suffix = "cluster.local",
		.discovery_address = "istiod:15012",
		.status_address = "0.0.0.0:15020",
		.envoy_admin_port = 15000,
		.drain_duration_ms = 5000,
		.concurrency = 2};
}

static json_t *bootstrap(const struct agent_config *c)
{
	char *text = NULL;
	struct err e = {0};
	if (!bootstrap_json(c, "/run/agent", &text, &e))
		fail_msg("refused: %s", e.text);
	json_t *j = json_loads(text, 0, NULL);
	assert_non_null(j);
	free(text);
	return j;
}

/* "a/b/0/c": the value there, as JSON text; "" when there is none. */
static const char *at(json_t *j, const char *path)
{
	static char *last;
	struct str rest = str_of(path), part;
	while (j && str_split(&rest, '/', &part)) {
		char key[128];
		uint32_t index;
		assert_true(part.len < sizeof(key));
		memcpy(key, part.ptr, part.len);
		key[part.len] = '\0';
		j = json_is_array(j) && str_u32(part, UINT32_MAX, &index) ? json_array_get(j, index)
									  : json_object_get(j, key);
	}
	free(last);
	last = j ? json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : xstrdup("");
	return last;
}

static const struct {
	const char *path, *want;
} fields[] = {
	{"node/id", "\"sidecar~10.0.0.7~reviews-1.shop~shop.svc.cluster.local\""},
	{"node/cluster", "\"reviews.shop\""},
	{"node/locality", "{\"region\":\"eu\",\"zone\":\"a\"}"},
	{"node/metadata/NAME", "\"reviews-1\""},
	{"node/metadata/NAMESPACE", "\"shop\""},
	{"node/metadata/SERVICE_ACCOUNT", "\"reviews\""},
	{"node/metadata/WORKLOAD_NAME", "\"reviews\""},
	{"node/metadata/LABELS", "{\"app\":\"reviews\",\"version\":\"v2\"}"},
	{"node/metadata/ANNOTATIONS", "{\"a\":\"b\"}"},
	{"node/metadata/INSTANCE_IPS", "\"10.0.0.7\""},
	{"node/metadata/INTERCEPTION_MODE", "\"REDIRECT\""},
	{"node/metadata/NETWORK", ""},
	{"node/metadata/EXIT_ON_ZERO_ACTIVE_CONNECTIONS", ""},
	{"node/metadata/PROXY_CONFIG",
		"{\"concurrency\":2,\"discoveryAddress\":\"istiod:15012\",\"proxyAdminPort\":15000,"
		"\"terminationDrainDuration\":\"5.000s\"}"},
	{"admin/address/socket_address", "{\"address\":\"127.0.0.1\",\"port_value\":15000}"},
	{"dynamic_resources/ads_config/api_type", "\"DELTA_GRPC\""},
	{"dynamic_resources/ads_config/grpc_services/0/envoy_grpc/cluster_name", "\"xds-grpc\""},
	{"dynamic_resources/cds_config/initial_fetch_timeout", "\"0s\""},
	{"dynamic_resources/lds_config/initial_fetch_timeout", "\"0s\""},
	{"static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path",
		"\"/run/agent/xds.sock\""},
	{"static_resources/clusters/1/name", "\"sds-grpc\""},
	{"static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path",
		"\"/run/agent/sds.sock\""},
	{"static_resources/clusters/2/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/"
	 "port_value",
		"15020"},
	{"static_resources/listeners/0/address/socket_address/port_value", "15090"},
	{"static_resources/listeners/1/address/socket_address/port_value", "15021"},
	{"cluster_manager", "{\"enable_deferred_cluster_creation\":true}"},
	{"stats_config/stats_matcher/inclusion_list/patterns/0", "{\"prefix\":\"istio.\"}"},
};

static void A01_bootstrap_fields(void **state)
{
	struct agent_config c = config();
	json_t *j = bootstrap(&c);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (!streq(at(j, fields[i].path), fields[i].want))
			fail_msg("%s is %s, not %s", fields[i].path, at(j, fields[i].path), fields[i].want);
	json_decref(j);
}

static void A01_mark_is_on_every_upstream_but_our_own(void **state)
{
	struct agent_config c = config();
	c.proxy_mark = 4000000000u;
	json_t *j = bootstrap(&c);
	assert_string_equal(at(j, "cluster_manager/upstream_bind_config/socket_options/0/int_value"), "4000000000");
	assert_string_equal(at(j, "cluster_manager/upstream_bind_config/socket_options/0/name"), "36");
	for (int i = 0; i < 3; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "static_resources/clusters/%d/upstream_bind_config", i);
		assert_string_equal(at(j, path), "{}");
	}
	json_decref(j);
}

static void P34_self_discovery_makes_the_own_cluster_the_local_one(void **state)
{
	char *const environment[] = {"ISTIO_META_ENABLE_SELF_DISCOVERY=true", "ISTIO_META_NAMESPACE=other",
		"ISTIO_METAJSON_LABELS={\"app\":\"x\",\"track\":\"a\"}", "PATH=/bin", "ISTIO_META_NETWORK=n1", NULL};
	struct agent_config c = config();
	c.environment = environment;
	json_t *j = bootstrap(&c);
	assert_string_equal(at(j, "cluster_manager/local_cluster_name"), "\"local_cluster\"");
	assert_string_equal(at(j, "static_resources/clusters/3/name"), "\"local_cluster\"");
	assert_string_equal(at(j, "static_resources/clusters/3/eds_cluster_config"),
		"{\"eds_config\":{\"ads\":{},\"resource_api_version\":\"V3\"},\"service_name\":\"local_cluster\"}");
	assert_string_equal(at(j, "node/metadata/ENABLE_SELF_DISCOVERY"), "\"true\"");
	assert_string_equal(at(j, "node/metadata/NETWORK"), "\"n1\"");
	assert_string_equal(at(j, "node/metadata/NAMESPACE"), "\"shop\""); /* an option said it */
	assert_string_equal(at(j, "node/metadata/LABELS"), "{\"app\":\"reviews\",\"track\":\"a\",\"version\":\"v2\"}");
	json_decref(j);

	char *const broken[] = {"ISTIO_METAJSON_LABELS=[]", NULL};
	char *text = NULL;
	struct err e = {0};
	c.environment = broken;
	assert_false(bootstrap_json(&c, "/run/agent", &text, &e));
	assert_string_equal(e.text, "ISTIO_METAJSON_LABELS: a JSON object is expected");
}

static void P118_proxy_config_goes_to_pilot_and_into_the_limits(void **state)
{
	struct agent_config c = config();
	c.proxy_config =
		"{\"concurrency\":7,\"gatewayTopology\":{\"numTrustedProxies\":2},\"runtimeValues\":{\"a.b\":\"1\"},"
		"\"connectionSettings\":{\"globalDownstreamConnectionLimit\":50}}";
	json_t *j = bootstrap(&c);
	assert_string_equal(at(j, "node/metadata/PROXY_CONFIG/gatewayTopology"), "{\"numTrustedProxies\":2}");
	assert_string_equal(at(j, "node/metadata/PROXY_CONFIG/concurrency"), "2"); /* what is so */
	assert_string_equal(at(j, "layered_runtime/layers/0/static_layer"),
		"{\"a.b\":\"1\",\"re2.max_program_size.error_level\":32768}");
	assert_string_equal(
		at(j, "overload_manager/resource_monitors/0/typed_config/max_active_downstream_connections"), "50");
	json_decref(j);
}

static void P120_services_that_envoy_calls(void **state)
{
	char *const environment[] = {"HOST_IP=192.0.2.1", NULL};
	static const char of[] = "static_resources/clusters/3/transport_socket/typed_config/";
	struct agent_config c = config();
	c.environment = environment;
	c.pod_ips = "10.0.0.7,fd00::7";
	c.proxy_config =
		"{\"envoyAccessLogService\":{\"address\":\"logs.observe:9000\",\"tlsSettings\":{"
		"\"mode\":\"ISTIO_MUTUAL\",\"subjectAltNames\":[\"spiffe://td/ns/o/sa/l\",\"logs\"]},"
		"\"tcpKeepalive\":{\"probes\":3,\"time\":\"7200s\",\"interval\":\"75s\"}},"
		"\"envoyMetricsServiceAddress\":\"$(HOST_IP):9001\",\"statsdUdpAddress\":\"[2001:db8::1]:8125\"}";
	json_t *j = bootstrap(&c);
	assert_string_equal(at(j, "static_resources/clusters/3/name"), "\"envoy_accesslog_service\"");
	assert_string_equal(at(j, "static_resources/clusters/3/dns_lookup_family"), "\"ALL\"");
	assert_string_equal(at(j, "static_resources/clusters/3/upstream_bind_config"), ""); /* it has the mark */
	assert_string_equal(at(j, "static_resources/clusters/3/upstream_connection_options/tcp_keepalive"),
		"{\"keepalive_interval\":75,\"keepalive_probes\":3,\"keepalive_time\":7200}");
	char path[256];
	(void)snprintf(path, sizeof(path), "%ssni", of);
	assert_string_equal(at(j, path), "\"envoy_accesslog_service\"");
	(void)snprintf(path, sizeof(path),
		"%scommon_tls_context/combined_validation_context/default_validation_context/"
		"match_typed_subject_alt_names",
		of);
	assert_string_equal(at(j, path), "[{\"matcher\":{\"exact\":\"spiffe://td/ns/o/sa/l\"},\"san_type\":\"URI\"},{"
					 "\"matcher\":{\"exact\":\"logs\"},\"san_type\":\"DNS\"}]");
	assert_string_equal(at(j, "static_resources/clusters/4/load_assignment/endpoints/0/lb_endpoints/0/endpoint/"
				  "address/socket_address"),
		"{\"address\":\"192.0.2.1\",\"port_value\":9001}");
	assert_string_equal(at(j, "static_resources/clusters/4/transport_socket"), "");
	assert_string_equal(
		at(j, "stats_sinks/0/typed_config/grpc_service/envoy_grpc/cluster_name"), "\"envoy_metrics_service\"");
	assert_string_equal(at(j, "stats_sinks/1/typed_config/address/socket_address"),
		"{\"address\":\"2001:db8::1\",\"port_value\":8125}");
	json_decref(j);
}

static void P120_services_that_are_wrong_are_named(void **state)
{
	static const struct {
		const char *config, *why;
	} rows[] = {
		{"{\"envoyAccessLogService\":{\"address\":\"logs\"}}", "proxy-config: envoyAccessLogService: "},
		{"{\"envoyMetricsService\":{\"address\":\"$(HOST_IP):1\"}}",
			"envoyMetricsService: \"$(HOST_IP):1\": HOST_IP is not set"},
		{"{\"envoyMetricsService\":{\"address\":\"a:1\",\"tlsSettings\":{\"mode\":\"TLS\"}}}",
			"tlsSettings.mode: \"TLS\" is not"},
		{"{\"envoyMetricsService\":{\"address\":\"a:1\",\"tlsSettings\":{\"mode\":\"MUTUAL\"}}}",
			"MUTUAL needs clientCertificate and privateKey"},
		{"{\"envoyMetricsService\":{\"address\":\"a:1\",\"tlsSettings\":{\"mode\":\"SIMPLE\","
		 "\"credentialName\":\"c\"}}}",
			"credentialName: a bootstrap has files only"},
		{"{\"envoyMetricsService\":{\"address\":\"a:1\",\"tcpKeepalive\":{\"time\":\"x\"}}}",
			"tcpKeepalive.time: \"x\" is not a duration"},
		{"{\"statsdUdpAddress\":\"name:1\"}", "proxy-config: statsdUdpAddress: "},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct agent_config c = config();
		struct err e = {0};
		char *out = NULL;
		c.proxy_config = rows[i].config;
		assert_false(bootstrap_json(&c, "/run/agent", &out, &e));
		if (!strstr(e.text, rows[i].why))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, rows[i].why);
	}
}

static void P34_P87_locality_of_option_label_and_machine(void **state)
{
	static const struct {
		const char *option, *labels, *want;
	} cases[] = {
		{"eu/a/s", "{\"topology.istio.io/locality\":\"us/b\"}",
			"{\"region\":\"eu\",\"sub_zone\":\"s\",\"zone\":\"a\"}"},
		{"", "{\"topology.istio.io/locality\":\"us.b\",\"istio-locality\":\"no\"}",
			"{\"region\":\"us\",\"zone\":\"b\"}"},
		{"", "{\"istio-locality\":\"us/b.c\"}", "{\"region\":\"us\",\"zone\":\"b.c\"}"},
		{"", "{\"topology.kubernetes.io/zone\":\"z\",\"topology.kubernetes.io/region\":\"r\"}",
			"{\"region\":\"r\",\"zone\":\"z\"}"},
		{"", "{}", "{}"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct agent_config c = config();
		c.locality = cases[i].option;
		c.labels = cases[i].labels;
		json_t *j = bootstrap(&c);
		assert_string_equal(at(j, "node/locality"), cases[i].want);
		json_decref(j);
	}
}

static void P83_envoys_own_listeners_have_the_families_of_the_pod(void **state)
{
	static const struct {
		const char *ips, *address, *more;
	} rows[] = {
		{"", "\"0.0.0.0\"", ""},
		{"10.0.0.7,fd00::7", "\"0.0.0.0\"", "\"::\""},
		{"fd00::7", "\"::\"", ""},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned l = 0; l < 2; l++) {
			struct agent_config c = config();
			char path[128];
			c.pod_ips = rows[i].ips;
			json_t *j = bootstrap(&c);
			(void)snprintf(
				path, sizeof(path), "static_resources/listeners/%u/address/socket_address/address", l);
			assert_string_equal(at(j, path), rows[i].address);
			(void)snprintf(path, sizeof(path),
				"static_resources/listeners/%u/additional_addresses/0/address/socket_address/address",
				l);
			assert_string_equal(at(j, path), rows[i].more);
			json_decref(j);
		}
}

static void A16_how_traffic_reaches_it(void **state)
{
	char *const environment[] = {"ISTIO_META_INTERCEPTION_MODE=TPROXY", NULL};
	const struct {
		const char *option, *config;
		char *const *environment;
		const char *mode;
	} rows[] = {{NULL, NULL, NULL, "\"REDIRECT\""}, {"TPROXY", NULL, NULL, "\"TPROXY\""},
		{NULL, "{\"interceptionMode\":\"TPROXY\"}", NULL, "\"TPROXY\""},
		{NULL, "{\"interceptionMode\":\"NONE\"}", environment, "\"TPROXY\""},
		{"REDIRECT", "{\"interceptionMode\":\"NONE\"}", environment, "\"REDIRECT\""}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct agent_config c = config();
		c.interception_mode = rows[i].option;
		c.proxy_config = rows[i].config;
		c.environment = rows[i].environment;
		json_t *j = bootstrap(&c);
		assert_string_equal(at(j, "node/metadata/INTERCEPTION_MODE"), rows[i].mode);
		json_decref(j);
	}
}

static void A01_router(void **state)
{
	struct agent_config c = config();
	c.type = "router";
	c.status_address = "127.0.0.1:16000";
	c.exit_on_zero_connections = true;
	json_t *j = bootstrap(&c);
	assert_string_equal(at(j, "node/metadata/INTERCEPTION_MODE"), "\"NONE\"");
	assert_string_equal(at(j, "node/metadata/EXIT_ON_ZERO_ACTIVE_CONNECTIONS"), "\"true\"");
	assert_non_null(strstr(at(j, "node/id"), "\"router~"));
	assert_string_equal(at(j, "static_resources/clusters/2/load_assignment/endpoints/0/lb_endpoints/0/endpoint/"
				  "address/socket_address/port_value"),
		"16000");
	assert_non_null(strstr(at(j, "stats_config/stats_matcher"), "{\"suffix\":\".downstream_cx_active\"}"));
	json_decref(j);
}

static void A01_kept_statistics_grow_by_annotation(void **state)
{
	struct agent_config c = config();
	c.annotations = "{\"sidecar.istio.io/statsInclusionPrefixes\":\"cluster.outbound, tcp.\","
			"\"sidecar.istio.io/statsInclusionSuffixes\":\"upstream_cx_active\","
			"\"sidecar.istio.io/statsInclusionRegexps\":\"http.*rq_total\"}";
	json_t *j = bootstrap(&c);
	const char *matcher = at(j, "stats_config/stats_matcher");
	assert_non_null(strstr(matcher, "{\"prefix\":\"cluster.outbound\"},{\"prefix\":\"tcp.\"}"));
	assert_non_null(strstr(matcher, "{\"suffix\":\"upstream_cx_active\"}"));
	assert_non_null(strstr(matcher, "{\"safe_regex\":{\"regex\":\"http.*rq_total\"}}"));
	json_decref(j);
}

static const struct {
	const char *labels, *annotations, *state_dir, *why;
} refused[] = {
	{"[]", "{}", "/run", "--labels: a JSON object is expected"},
	{"{", "{}", "/run", "--labels: line 1"},
	{"{}", "7", "/run", "--annotations: "},
	{"{}", "{\"sidecar.istio.io/statsInclusionRegexps\":\"(\"}", "/run",
		"annotation sidecar.istio.io/statsInclusionRegexps: "},
	{"{}", "{}",
		"/a/very/long/directory/that/no/unix/socket/can/be/in/because/the/kernel/allows/108/bytes/of/path/in/"
		"all/",
		"too long for the names of Unix sockets"},
};

static void A01_what_is_wrong_is_named(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct agent_config c = config();
		struct err e = {0};
		char *out = NULL;
		c.labels = refused[i].labels;
		c.annotations = refused[i].annotations;
		assert_false(bootstrap_json(&c, refused[i].state_dir, &out, &e));
		assert_null(out);
		if (!strstr(e.text, refused[i].why))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, refused[i].why);
	}
}

static bool has(char **env, const char *entry)
{
	for (size_t i = 0; env[i]; i++)
		if (streq(env[i], entry))
			return true;
	return false;
}

static void T01_environment_of_the_metrics_labels(void **state)
{
	struct agent_config c = config();
	char **env = bootstrap_env(&c);
	assert_true(has(env, "ISTIO_META_WORKLOAD_NAME=reviews"));
	assert_true(has(env, "POD_NAMESPACE=shop"));
	assert_true(has(env, "ISTIO_META_CLUSTER_ID=Kubernetes"));
	assert_true(has(env, "FAIRLEAD_APP=reviews"));
	assert_true(has(env, "FAIRLEAD_VERSION=v2"));
	assert_true(has(env, "FAIRLEAD_CANONICAL_SERVICE=reviews"));
	assert_true(has(env, "FAIRLEAD_CANONICAL_REVISION=v2"));
	bootstrap_env_free(env);
	/* Istio's order: the canonical-name label, then app.kubernetes.io/name, then app, then the workload. */
	c.labels = "{\"app.kubernetes.io/name\":\"n\",\"service.istio.io/canonical-name\":\"c\"}";
	env = bootstrap_env(&c);
	assert_true(has(env, "FAIRLEAD_APP=n"));
	assert_true(has(env, "FAIRLEAD_VERSION=unknown"));
	assert_true(has(env, "FAIRLEAD_CANONICAL_SERVICE=c"));
	assert_true(has(env, "FAIRLEAD_CANONICAL_REVISION=latest"));
	bootstrap_env_free(env);
	c = (struct agent_config){0};
	env = bootstrap_env(&c);
	assert_true(has(env, "ISTIO_META_WORKLOAD_NAME=unknown"));
	assert_true(has(env, "FAIRLEAD_CANONICAL_SERVICE=unknown"));
	bootstrap_env_free(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A01_bootstrap_fields),
		cmocka_unit_test(A01_mark_is_on_every_upstream_but_our_own),
		cmocka_unit_test(A01_router),
		cmocka_unit_test(A16_how_traffic_reaches_it),
		cmocka_unit_test(P83_envoys_own_listeners_have_the_families_of_the_pod),
		cmocka_unit_test(P34_self_discovery_makes_the_own_cluster_the_local_one),
		cmocka_unit_test(P118_proxy_config_goes_to_pilot_and_into_the_limits),
		cmocka_unit_test(P120_services_that_envoy_calls),
		cmocka_unit_test(P120_services_that_are_wrong_are_named),
		cmocka_unit_test(P34_P87_locality_of_option_label_and_machine),
		cmocka_unit_test(A01_kept_statistics_grow_by_annotation),
		cmocka_unit_test(A01_what_is_wrong_is_named),
		cmocka_unit_test(T01_environment_of_the_metrics_labels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
