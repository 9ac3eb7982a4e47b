/*
 * DOC: Kubernetes' rules for readiness: a first question after the initial delay, then one each period; so many successes in a row make the
 * workload ready, so many failures make it not. Before that it is neither, and pilot, which waits for a word, sends it nothing. Envoy is asked
 * first: a workload whose proxy cannot serve is not ready, whatever the application says.
 */
#include "agent/health.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/probe_run.h"
#include "common/base/log.h"
#include "common/base/metric.h"

#define USER_AGENT "istio-probe/1.0"
#define READY_TIMEOUT_MS 1000

METRIC(health_gauge, GAUGE, "istio_agent_workload_healthy", "1 while the readiness probe of the workload succeeds");

LOG_SCOPE(health_log, "health", "the readiness probe of a workload outside Kubernetes");

struct health {
	struct prober *prober;
	struct readiness *readiness;
	struct probe_spec envoy; /* url NULL: not asked */
	struct timer *timer;
	struct health_state state;
	void (*on_change)(void *ctx, bool healthy, const char *why);
	void *ctx;
	bool ending;
	char last[256];
};

bool health_step(struct health_state *s, const struct readiness *r, bool ok)
{
	unsigned *count = ok ? &s->successes : &s->failures;
	*(ok ? &s->failures : &s->successes) = 0;
	++*count;
	if (*count < (ok ? r->success : r->failure) || (s->known && s->healthy == ok))
		return false;
	s->known = true;
	s->healthy = ok;
	return true;
}

static void result(struct health *h, bool ok, struct str why)
{
	(void)snprintf(h->last, sizeof(h->last), STR_FMT, STR_ARG(str_trim(why)));
	timer_start(h->timer, h->readiness->period_ms, 0);
	if (!health_step(&h->state, h->readiness, ok))
		return;
	metric_set(&health_gauge, ok);
	LOG_AT(&health_log, ok ? LOG_INFO : LOG_WARN, ok ? "the workload is ready" : "the workload is not ready",
		KV("probe", h->last));
	h->on_change(h->ctx, ok, ok ? "" : h->last);
}

static void on_application(void *ctx, unsigned status, struct str text)
{
	struct health *h = ctx;
	bool ok = status >= 200 && status < 400;
	char *failed cleanup(free_p) = xasprintf("status %u: " STR_FMT, status, STR_ARG(str_trim(text)));
	if (!h->ending)
		result(h, ok, ok ? STR("ok") : str_of(failed));
}

static void on_envoy(void *ctx, unsigned status, struct str text)
{
	struct health *h = ctx;
	if (h->ending)
		return;
	if (status >= 200 && status < 400)
		prober_ask(h->prober, &h->readiness->spec, USER_AGENT, on_application, h);
	else
		result(h, false, text.len ? text : STR("Envoy is not ready"));
}

static void on_time(void *ctx)
{
	struct health *h = ctx;
	if (h->envoy.url)
		prober_ask(h->prober, &h->envoy, USER_AGENT, on_envoy, h);
	else
		prober_ask(h->prober, &h->readiness->spec, USER_AGENT, on_application, h);
}

bool health_new(struct loop *l, const struct health_options *o, struct health **out, struct err *e)
{
	struct readiness *r = NULL;
	*out = NULL;
	if (!readiness_parse(o->proxy_config, o->pod_ip, &r, e))
		return err_in(e, "--proxy-config");
	if (!r)
		return true;
	struct health *h = xzalloc(sizeof(*h));
	*h = (struct health){.readiness = r, .on_change = o->on_change, .ctx = o->ctx, .last = "not asked yet"};
	if (o->ready_url)
		h->envoy = (struct probe_spec){
			.kind = PROBE_HTTP, .url = xstrdup(o->ready_url), .timeout_ms = READY_TIMEOUT_MS};
	h->prober = prober_new(l);
	h->timer = timer_new(l, on_time, h);
	timer_start(h->timer, r->initial_delay_ms, 0);
	*out = h;
	return true;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	h->ending = true;
	prober_free(h->prober);
	timer_free(h->timer);
	readiness_free(h->readiness);
	free(h->envoy.url);
	free(h);
}

void health_debug(const struct health *h, struct strbuf *json)
{
	strbuf_addf(json, "{\"state\":\"%s\",\"successes\":%u,\"failures\":%u,\"last\":",
		!h->state.known    ? "unknown"
		: h->state.healthy ? "healthy"
				   : "unhealthy",
		h->state.successes, h->state.failures);
	strbuf_add_json(json, str_of(h->last));
	strbuf_addc(json, '}');
}
