/* DOC: proxy-config's tables, from both spellings of field names, and that no private key survives the way in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/proxy/rows.h"
#include "common/base/clock.h"
#include "common/base/base64.h"
#include "common/pki/pki.h"

static json_t *parse(const char *text)
{
	json_error_t e;
	json_t *v = json_loads(text, 0, &e);
	if (!v)
		fail_msg("line %d: %s", e.line, e.text);
	return v;
}

static void assert_rows(const struct dump *d, enum dump_part p, const char *want)
{
	const struct part_table *t = part_table(p);
	struct strbuf out = {0};
	json_t *rows = t->rows(d);
	table_write(rows, t->columns, t->n_columns, &out);
	assert_string_equal(out.ptr, want);
	strbuf_done(&out);
	json_decref(rows);
}

static struct dump pilot_dump(const char *text)
{
	struct dump d;
	json_t *v = parse(text);
	dump_from_pilot(v, &d);
	json_decref(v);
	return d;
}

static struct dump envoy_dump(const char *text)
{
	struct dump d;
	struct err e = {0};
	json_t *v = parse(text);
	assert_true(dump_from_envoy(v, &d, &e));
	json_decref(v);
	return d;
}

static void clusters_of_pilot(void **state)
{
	(void)state;
	struct dump d = pilot_dump(
		"{\"proxy\":\"x\",\"cds\":[{\"name\":\"outbound|9080|v1|reviews.default.svc.cluster.local\","
		"\"version\":\"1\",\"resource\":"
		"{\"name\":\"outbound|9080|v1|reviews.default.svc.cluster.local\",\"type\":\"EDS\",\"metadata\":{"
		"\"filterMetadata\":{\"istio\":"
		"{\"config\":\"/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews\"}}}}},"
		"{\"name\":\"BlackHoleCluster\",\"version\":\"1\",\"resource\":{\"name\":\"BlackHoleCluster\"}},"
		"{\"name\":\"without a body\",\"version\":\"1\"}]}");
	assert_rows(&d, DUMP_CLUSTERS,
		"SERVICE FQDN                        PORT   SUBSET   DIRECTION   TYPE     DESTINATION RULE\n"
		"BlackHoleCluster                    -      -        -           STATIC   -\n"
		"reviews.default.svc.cluster.local   9080   v1       outbound    EDS      reviews.default\n");
	dump_done(&d);
}

static void listeners_of_envoy(void **state)
{
	(void)state;
	struct dump d = envoy_dump(
		"{\"configs\":[{\"@type\":\"type.googleapis.com/"
		"envoy.admin.v3.ListenersConfigDump\",\"dynamic_listeners\":[{\"name\":\"v\","
		"\"active_state\":{\"version_info\":\"7\",\"listener\":{\"name\":\"v\",\"address\":{\"socket_address\":"
		"{\"address\":\"0.0.0.0\","
		"\"port_value\":15006}},\"filter_chains\":[{\"filter_chain_match\":{\"destination_port\":9080,"
		"\"transport_protocol\":\"tls\","
		"\"application_protocols\":[\"istio\",\"h2\"],\"server_names\":[\"a\"],\"prefix_ranges\":[{\"address_"
		"prefix\":\"10.0.0.1\","
		"\"prefix_len\":32}]},\"filters\":[{\"name\":\"x\",\"typed_config\":{\"@type\":\"type.googleapis.com/"
		"envoy.extensions.filters."
		"network.http_connection_manager.v3.HttpConnectionManager\",\"route_config\":{\"virtual_hosts\":[{"
		"\"routes\":[{\"match\":"
		"{\"prefix\":\"/\"}},{\"match\":{\"path\":\"/"
		"x\"}}]}]}}}]},{\"filter_chain_match\":{\"destination_port\":80},\"filters\":"
		"[{\"typed_config\":{\"@type\":\"type.googleapis.com/"
		"envoy.extensions.filters.network.http_connection_manager.v3."
		"HttpConnectionManager\",\"rds\":{\"route_config_name\":\"80\"}}}]}],\"default_filter_chain\":{"
		"\"filters\":[{\"typed_config\":"
		"{\"@type\":\"type.googleapis.com/"
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\",\"cluster\":\"Pass\"}}]}}}}]}]}");
	assert_rows(&d, DUMP_LISTENERS,
		"ADDRESSES   PORT    MATCH                                                       DESTINATION\n"
		"0.0.0.0     15006   SNI: a; Trans: tls; App: istio,h2; Addr: 10.0.0.1/32:9080   Inline Route: /*,/x\n"
		"0.0.0.0     15006   Addr: *:80                                                  Route: 80\n"
		"0.0.0.0     15006   ALL                                                         Cluster: Pass\n");
	dump_done(&d);
}

static void routes_in_both_spellings(void **state)
{
	(void)state;
	struct dump pilot = pilot_dump(
		"{\"rds\":[{\"name\":\"9080\",\"version\":\"1\",\"resource\":{\"name\":\"9080\",\"virtualHosts\":[{"
		"\"name\":\"r:9080\",\"domains\":"
		"[\"r\",\"r:9080\",\"r.shop\"],\"routes\":[{\"match\":{\"pathSeparatedPrefix\":\"/"
		"a\",\"headers\":[{\"name\":\"h\"}]},"
		"\"metadata\":{\"filterMetadata\":{\"istio\":{\"config\":\"/apis/networking.istio.io/v1/namespaces/"
		"shop/virtual-service/rev\"}}},"
		"\"route\":{\"weightedClusters\":{\"clusters\":[{\"name\":\"one\",\"weight\":90},{\"name\":\"two\","
		"\"weight\":10}]}}},"
		"{\"match\":{\"safeRegex\":{\"regex\":\"/b.*\"}},\"redirect\":{\"hostRedirect\":\"x\"}},"
		"{\"match\":{\"path\":\"/c\"},\"directResponse\":{\"status\":503}}]}]}}]}");
	struct dump envoy = envoy_dump("{\"configs\":[{\"@type\":\"type.googleapis.com/"
				       "envoy.admin.v3.RoutesConfigDump\",\"dynamic_route_configs\":[{\"version_info\":"
				       "\"1\",\"route_config\":{\"name\":\"9080\",\"virtual_hosts\":[{\"name\":\"r:"
				       "9080\",\"domains\":[\"r\",\"r:9080\",\"r.shop\"],"
				       "\"routes\":[{\"match\":{\"path_separated_prefix\":\"/"
				       "a\",\"headers\":[{\"name\":\"h\"}]},\"metadata\":{\"filter_metadata\":"
				       "{\"istio\":{\"config\":\"/apis/networking.istio.io/v1/namespaces/shop/"
				       "virtual-service/rev\"}}},\"route\":{\"weighted_clusters\":"
				       "{\"clusters\":[{\"name\":\"one\",\"weight\":90},{\"name\":\"two\",\"weight\":"
				       "10}]}}},{\"match\":{\"safe_regex\":{\"regex\":"
				       "\"/b.*\"}},\"redirect\":{\"host_redirect\":\"x\"}},{\"match\":{\"path\":\"/"
				       "c\"},\"direct_response\":{\"status\":503}}]}]}}]}]}");
	json_t *a = part_table(DUMP_ROUTES)->rows(&pilot), *b = part_table(DUMP_ROUTES)->rows(&envoy);
	assert_true(json_equal(a, b));
	assert_int_equal(json_array_size(a), 3);
	json_decref(a);
	json_decref(b);
	struct strbuf out = {0};
	json_t *rows = part_table(DUMP_ROUTES)->rows(&pilot);
	static const char *const cells[] = {"/a/* (1 more condition)", "rev.shop", "one=90,two=10", "regex /b.*",
		"redirect", "status 503", "r + 2 more"};
	table_write(rows, part_table(DUMP_ROUTES)->columns, part_table(DUMP_ROUTES)->n_columns, &out);
	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		assert_non_null(strstr(out.ptr, cells[i]));
	json_decref(rows);
	strbuf_done(&out);
	dump_done(&pilot);
	dump_done(&envoy);
}

static void endpoints_sent_and_seen(void **state)
{
	(void)state;
	struct dump d = pilot_dump("{\"eds\":[{\"name\":\"outbound|80||a\",\"version\":\"1\",\"resource\":{"
				   "\"clusterName\":\"outbound|80||a\",\"endpoints\":"
				   "[{\"lbEndpoints\":[{\"endpoint\":{\"address\":{\"socketAddress\":{\"address\":\"10."
				   "0.0.1\",\"portValue\":80}}},"
				   "\"healthStatus\":\"DRAINING\"},{\"endpoint\":{\"address\":{\"socketAddress\":{"
				   "\"address\":\"fd00::1\",\"portValue\":80}}}}]}]}}]}");
	assert_rows(&d, DUMP_ENDPOINTS,
		"ENDPOINT       STATUS     OUTLIER CHECK   CLUSTER\n"
		"10.0.0.1:80    DRAINING   -               outbound|80||a\n"
		"[fd00::1]:80   HEALTHY    -               outbound|80||a\n");
	d.health = parse("{\"cluster_statuses\":[{\"name\":\"b\",\"host_statuses\":[{\"address\":{\"socket_address\":{"
			 "\"address\":\"1.2.3.4\","
			 "\"port_value\":5}},\"health_status\":{\"eds_health_status\":\"UNHEALTHY\",\"failed_outlier_"
			 "check\":true}}]}]}");
	assert_rows(&d, DUMP_ENDPOINTS,
		"ENDPOINT    STATUS      OUTLIER CHECK   CLUSTER\n"
		"1.2.3.4:5   UNHEALTHY   FAILED          b\n");
	dump_done(&d);
}

/* A self-signed certificate with one SPIFFE id, as PEM in base64. */
static char *certificate(int64_t from_ms, int64_t to_ms)
{
	struct err e = {0};
	struct pki_key *key = pki_key_new(PKI_P256, &e);
	assert_non_null(key);
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct str spki;
	char *pem = NULL;
	assert_true(pki_spki_of(key, a, &spki, &e));
	const char *const uris[] = {"spiffe://td/ns/a/sa/b", NULL};
	const struct pki_cert_request r = {.spki_der = spki,
		.common_name = "",
		.organization = "td",
		.uris = uris,
		.not_before_ms = from_ms,
		.not_after_ms = to_ms,
		.path_len = -1};
	if (!pki_issue(key, (struct str){0}, &r, &pem, &e))
		fail_msg("%s", e.text);
	struct strbuf out = {0};
	base64_write(str_of(pem), &out);
	free(pem);
	pki_key_free(key);
	return strbuf_take(&out);
}

static void secrets_show_certificates_and_never_keys(void **state)
{
	(void)state;
	int64_t now = clock_wall_ms();
	char *good cleanup(free_p) = certificate(now - 60000, now + 60000);
	char *old cleanup(free_p) = certificate(now - 60000, now - 30000);
	char *text cleanup(free_p) = xasprintf(
		"{\"configs\":[{\"@type\":\"type.googleapis.com/"
		"envoy.admin.v3.SecretsConfigDump\",\"dynamic_active_secrets\":["
		"{\"name\":\"default\",\"version_info\":\"1\",\"secret\":{\"name\":\"default\",\"tls_certificate\":{"
		"\"certificate_chain\":"
		"{\"inline_bytes\":\"%s\"},\"private_key\":{\"inline_string\":\"SECRET\"}}}},"
		"{\"name\":\"ROOTCA\",\"secret\":{\"name\":\"ROOTCA\",\"validation_context\":{\"trusted_ca\":{\"inline_"
		"bytes\":\"%s\"}}}}],"
		"\"dynamic_warming_secrets\":[{\"name\":\"late\",\"secret\":{\"name\":\"late\"}}]}]}",
		good, old);
	struct dump d = envoy_dump(text);
	json_t *rows = secret_rows(&d);
	assert_int_equal(json_array_size(rows), 3);
	const json_t *leaf = json_array_get(rows, 0), *root = json_array_get(rows, 1), *late = json_array_get(rows, 2);
	assert_string_equal(json_text_at(leaf, "identity"), "spiffe://td/ns/a/sa/b");
	assert_true(json_is_true(json_at(leaf, "valid")));
	assert_string_equal(json_text_at(root, "type"), "CA");
	assert_true(json_is_false(json_at(root, "valid")));
	assert_string_equal(json_text_at(late, "status"), "WARMING");
	char *all = json_dumps(d.parts[DUMP_SECRETS], 0);
	assert_null(strstr(all, "SECRET"));
	assert_null(strstr(all, "private_key"));
	free(all);
	json_decref(rows);
	dump_done(&d);
}

static void what_is_no_dump_is_refused(void **state)
{
	(void)state;
	struct dump d;
	struct err e = {0};
	json_t *v = parse("{\"config\":[]}");
	assert_false(dump_from_envoy(v, &d, &e));
	assert_non_null(strstr(e.text, "not a config dump"));
	json_decref(v);
	/* Odd forms are read as empty, not as a crash. */
	v = parse(
		"{\"configs\":[1,{\"@type\":\"x.ListenersConfigDump\",\"dynamic_listeners\":[3,{\"active_state\":[]}]},"
		"{\"@type\":\"x.RoutesConfigDump\",\"static_route_configs\":{\"a\":1}}]}");
	assert_true(dump_from_envoy(v, &d, &e));
	assert_int_equal(json_array_size(d.parts[DUMP_LISTENERS]), 0);
	assert_int_equal(json_array_size(d.parts[DUMP_ROUTES]), 0);
	dump_done(&d);
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clusters_of_pilot),
		cmocka_unit_test(listeners_of_envoy),
		cmocka_unit_test(routes_in_both_spellings),
		cmocka_unit_test(endpoints_sent_and_seen),
		cmocka_unit_test(secrets_show_certificates_and_never_keys),
		cmocka_unit_test(what_is_no_dump_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
