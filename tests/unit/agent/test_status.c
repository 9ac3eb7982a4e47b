/*
 * DOC: What the status port makes of Envoy's texts: readiness from /stats, names in the Prometheus text, open connections.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/agent.h"

#define CONFIGURED \
	"cluster_manager.cds.update_rejected: 0\ncluster_manager.cds.update_success: 2\n" \
	"listener_manager.lds.update_rejected: 0\nlistener_manager.lds.update_success: 1\n"

static const struct {
	const char *stats;
	const char *why; /* NULL: ready */
} readiness[] = {
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: 0\n", NULL},
	/* Once something was accepted, later refusals leave Envoy serving what it has. */
	{"cluster_manager.cds.update_rejected: 7\ncluster_manager.cds.update_success: 1\n"
	 "listener_manager.lds.update_rejected: 7\nlistener_manager.lds.update_success: 1\n"
	 "listener_manager.workers_started: 1\nserver.state: 0",
		NULL},
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: 1\n", "not live but draining"},
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: 2\n", "not live but preinitializing"},
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: 3\n", "not live but initializing"},
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: 9\n", "not live but in a state"},
	{CONFIGURED "listener_manager.workers_started: 0\nserver.state: 0\n", "workers have not started"},
	{CONFIGURED "listener_manager.workers_started: 1\n", "do not tell server.state"},
	{CONFIGURED "server.state: 0\n", "do not tell listener_manager.workers_started"},
	{"cluster_manager.cds.update_rejected: 3\ncluster_manager.cds.update_success: 0\n"
	 "listener_manager.lds.update_success: 0\nlistener_manager.workers_started: 0\nserver.state: 2\n",
		"clusters accepted 0, rejected 3; listeners accepted 0, rejected 0"},
	{"cluster_manager.cds.update_success: 4\nlistener_manager.workers_started: 1\nserver.state: 0\n",
		"clusters accepted 4, rejected 0; listeners accepted 0"},
	{"", "do not tell server.state"},
	/* A number that is none is no statistic. */
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: live\n", "do not tell server.state"},
	{CONFIGURED "listener_manager.workers_started: 1\nserver.state: -1\n", "do not tell server.state"},
	{"x" CONFIGURED "listener_manager.workers_started: 1\nserver.state: 0\n", NULL},
	{"not found\n", "do not tell server.state"},
};

static void A12_ready_when_live_configured_and_started(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(readiness); i++) {
		char why[128] = "";
		bool ready = status_is_ready(str_of(readiness[i].stats), why);
		assert_int_equal(ready, readiness[i].why == NULL);
		if (!ready && !strstr(why, readiness[i].why))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, why, readiness[i].why);
	}
}

static const struct {
	const char *in, *out;
} names[] = {
	{"envoy_istio_requests_total{reporter=\"source\"} 3\n", "istio_requests_total{reporter=\"source\"} 3\n"},
	{"# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{} 1\n",
		"# TYPE istio_requests_total counter\nistio_requests_total{} 1\n"},
	{"# HELP envoy_istio_request_bytes envoy_istio_ stays here\n",
		"# HELP istio_request_bytes envoy_istio_ stays here\n"},
	{"envoy_istio_request_bytes_bucket{a=\"envoy_istio_x\",le=\"0.5\"} 0\n",
		"istio_request_bytes_bucket{a=\"envoy_istio_x\",le=\"0.5\"} 0\n"},
	{"envoy_server_state{} 0\n", "envoy_server_state{} 0\n"},
	{"envoy_istiod{} 0\n", "envoy_istiod{} 0\n"},
	{"my_envoy_istio_requests_total{} 0\n", "my_envoy_istio_requests_total{} 0\n"},
	{"# a remark about envoy_istio_requests_total\n", "# a remark about envoy_istio_requests_total\n"},
	{"\n\nenvoy_istio_a 1", "istio_a 1\n"},
	{"#", "#\n"},
	{"# TYPE ", "# TYPE \n"},
	{"envoy_istio_", "istio_\n"},
	{"", ""},
};

static void T01_standard_metrics_have_istios_names(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct strbuf out = {0};
		status_rename_metrics(str_of(names[i].in), &out);
		assert_string_equal(out.ptr ? out.ptr : "", names[i].out);
		strbuf_done(&out);
	}
}

static void A13_connections_of_callers_are_counted(void **state)
{
	static const char stats[] = "listener.0.0.0.0_15006.downstream_cx_active: 3\n"
				    "listener.10.0.0.1_80.downstream_cx_active: 2\n"
				    "listener.0.0.0.0_15006.downstream_cx_total: 50\n"
				    "listener.admin.downstream_cx_active: 9\n"
				    "listener.0.0.0.0_15021.downstream_cx_active: 9\n"
				    "listener.0.0.0.0_15090.worker_0.downstream_cx_active: 9\n"
				    "listener.0.0.0.0_150901.downstream_cx_active: 4\n"
				    "http.admin.downstream_cx_active: 9\n";
	assert_int_equal(status_connections(str_of(stats)), 9);
	assert_int_equal(status_connections(STR("")), 0);
	assert_int_equal(status_connections(STR("listener.a.downstream_cx_active: 18446744073709551615\n"
						"listener.b.downstream_cx_active: 2\n")),
		UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A12_ready_when_live_configured_and_started),
		cmocka_unit_test(T01_standard_metrics_have_istios_names),
		cmocka_unit_test(A13_connections_of_callers_are_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
