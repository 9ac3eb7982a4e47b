/*
 * DOC: Probes of the kubelet. Each is one request to the agent and one question to the application (probe_run.c), whose answer it gets. Which
 * questions there are is checked when the agent starts.
 */
#include "agent/probe.h"

#include <stdlib.h>

#include "agent/probe_run.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"

#define TEXT "text/plain; charset=utf-8"

LOG_SCOPE(probe_log, "probe", "probes of the application");

METRIC(probes_total, COUNTER, "istio_agent_application_probes_total", "Probes of the application's containers",
	"result");

struct probes {
	struct prober *prober;
	struct probe_specs specs;
};

static void on_answer(void *ctx, unsigned status, struct str text)
{
	struct admin_request *request = ctx;
	bool ok = status >= 200 && status < 400;
	metric_add(&probes_total, 1, ok ? "success" : "failure");
	if (!ok)
		log_debug(&probe_log, "probe failed", KV("path", admin_request_path(request)), KV("status", status),
			KV("answer", text));
	admin_respond(request, status, TEXT, text);
}

static void on_request(void *ctx, struct admin_request *r)
{
	struct probes *p = ctx;
	const struct probe_spec *spec = probe_specs_find(&p->specs, admin_request_path(r));
	struct str agent = admin_request_header(r, "User-Agent");
	if (!spec) {
		admin_respond(r, 404, TEXT, STR("no such probe: ISTIO_KUBE_APP_PROBERS does not have it\n"));
		return;
	}
	if (prober_busy(p->prober) >= LIMIT_PROBES) {
		admin_respond(r, 503, TEXT, STR("too many probes at a time\n"));
		return;
	}
	char *name cleanup(free_p) = xstrndup(agent.ptr ? agent.ptr : "", agent.len);
	prober_ask(p->prober, spec, name, on_answer, r);
}

void probes_mount(struct probes *p, struct admin *a)
{
	admin_route(a, "GET", "/app-health/", on_request, p);
	admin_route(a, "GET", "/app-lifecycle/", on_request, p);
}

struct probes *probes_new(struct loop *l, const char *json, const char *pod_ip, struct err *e)
{
	const char *text = json ? json : getenv("ISTIO_KUBE_APP_PROBERS");
	struct probe_specs specs;
	if (!probe_specs_parse(text, pod_ip, &specs, e)) {
		(void)err_in(e, json ? "--app-probers" : "ISTIO_KUBE_APP_PROBERS");
		return NULL;
	}
	struct probes *p = xzalloc(sizeof(*p));
	p->specs = specs;
	p->prober = prober_new(l);
	return p;
}

void probes_free(struct probes *p)
{
	if (!p)
		return;
	prober_free(p->prober);
	probe_specs_done(&p->specs);
	free(p);
}
