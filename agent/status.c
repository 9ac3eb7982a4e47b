/*
 * DOC: The status port, 15020. /healthz/ready asks Envoy's admin whether Envoy serves; /stats/prometheus is one answer made of
 * Envoy's metrics, the application's (scrape.c: where its annotations say so) and the agent's own, asked for at the same time; what does not
 * answer is left out and counted, as scrapes of a half-dead pod are worth having. /stats/envoy has Envoy's alone: port
 * 15090 leads here. Probes of the application's containers are probe.c's. POST /quitquitquit, from inside the pod only, ends the agent as SIGTERM does.
 *
 * Names: the metrics that pilot configures come out of Envoy with envoy_ in front, which is taken away; the agent's own get istio_agent_ in
 * front so that its process_* are not taken for the application's.
 */
#include "agent/agent.h"
#include "agent/probe.h"
#include "agent/scrape.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/daemon/admin.h"
#include "common/io/addr.h"
#include "common/io/http.h"

#define STATUS_PORT 15020u
#define TEXT "text/plain; charset=utf-8"
#define PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"
#define SCRAPE_TIMEOUT_MS 10000u
#define READY_TIMEOUT_MS 2000u
#define READY_STATS \
	"/stats?filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.update_(success|rejected)$" \
	"|^server\\.state$|^listener_manager\\.workers_started$"

LOG_SCOPE(status_log, "status", "the agent's status port");

METRIC(scrapes_total, COUNTER, "istio_agent_scrapes_total", "Scrapes of the agent's metrics page");
METRIC(scrape_failures, COUNTER, "istio_agent_scrape_failures_total", "Parts that a scrape did not get", "type");

struct status {
	struct admin *server;
	struct http_client *http;
	struct probes *probes;
	char *ready_url, *envoy_url;
	struct scrape_targets application; /* none: it has no metrics, or does not want them merged */
	unsigned scrapes; /* under way */
	bool metrics_inside_only;
	bool draining;
	void (*on_drain)(void *ctx);
	void *drain_ctx;
};

/* ---- reading Envoy's statistics */

static bool stat_line(struct str line, struct str *name, uint64_t *value)
{
	struct str text;
	return str_cut(line, ':', name, &text) && str_u64(str_trim(text), UINT64_MAX, value);
}

enum ready_stat {
	STAT_CDS_ACCEPTED,
	STAT_CDS_REJECTED,
	STAT_LDS_ACCEPTED,
	STAT_LDS_REJECTED,
	STAT_STATE,
	STAT_WORKERS,
	STAT_COUNT
};

static const char *const ready_stats[STAT_COUNT] = {"cluster_manager.cds.update_success",
	"cluster_manager.cds.update_rejected", "listener_manager.lds.update_success",
	"listener_manager.lds.update_rejected", "server.state", "listener_manager.workers_started"};

/* Envoy's numbers of server.state. */
static const char *const server_states[] = {"live", "draining", "preinitializing", "initializing"};

static void read_stats(struct str stats, uint64_t values[STAT_COUNT], bool found[STAT_COUNT])
{
	struct str line, name;
	uint64_t value;
	while (str_split(&stats, '\n', &line)) {
		if (!stat_line(line, &name, &value))
			continue;
		for (size_t i = 0; i < STAT_COUNT; i++)
			if (str_eqc(name, ready_stats[i])) {
				values[i] = value;
				found[i] = true;
			}
	}
}

bool status_is_ready(struct str stats, char why[128])
{
	uint64_t v[STAT_COUNT] = {0};
	bool found[STAT_COUNT] = {0};
	read_stats(stats, v, found);
	if (!found[STAT_STATE] || !found[STAT_WORKERS])
		(void)snprintf(why, 128, "Envoy's statistics do not tell %s",
			ready_stats[found[STAT_STATE] ? STAT_WORKERS : STAT_STATE]);
	else if (!v[STAT_CDS_ACCEPTED] || !v[STAT_LDS_ACCEPTED])
		(void)snprintf(why, 128,
			"no configuration yet: clusters accepted %llu, rejected %llu; listeners accepted %llu, "
			"rejected %llu",
			(unsigned long long)v[STAT_CDS_ACCEPTED], (unsigned long long)v[STAT_CDS_REJECTED],
			(unsigned long long)v[STAT_LDS_ACCEPTED], (unsigned long long)v[STAT_LDS_REJECTED]);
	else if (v[STAT_STATE])
		(void)snprintf(why, 128, "Envoy is not live but %s",
			v[STAT_STATE] < ARRAY_LEN(server_states) ? server_states[v[STAT_STATE]]
								 : "in a state that is not known");
	else if (!v[STAT_WORKERS])
		(void)snprintf(why, 128, "Envoy's workers have not started");
	else
		return true;
	return false;
}

static bool is_own_listener(struct str name)
{
	static const char *const own[] = {"admin", "0.0.0.0_15021", "0.0.0.0_15090", "[__]_15021", "[__]_15090"};
	struct str listener = str_from(name, sizeof("listener.") - 1);
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (str_starts(listener, str_of(own[i])) && str_starts(str_from(listener, strlen(own[i])), STR(".")))
			return true;
	return false;
}

uint64_t status_connections(struct str stats)
{
	uint64_t sum = 0, value;
	struct str line, name;
	while (str_split(&stats, '\n', &line)) {
		bool counts = stat_line(line, &name, &value) && str_starts(name, STR("listener.")) &&
			      str_ends(name, STR(".downstream_cx_active"));
		if (counts && !is_own_listener(name) && value <= UINT64_MAX - sum)
			sum += value;
	}
	return sum;
}

/* ---- names in Prometheus text */

/* The metric's name in a line: in a sample it comes first, in "# TYPE name type" and "# HELP name text" third. False: no name to change. */
static bool metric_name_at(struct str line, size_t *at)
{
	*at = 0;
	if (!line.len || line.ptr[0] != '#')
		return line.len > 0;
	*at = sizeof("# TYPE ") - 1;
	return line.len > *at && (str_starts(line, STR("# TYPE ")) || str_starts(line, STR("# HELP ")));
}

static void add_line(struct strbuf *out, struct str line, size_t name_at, const char *prefix, size_t skip)
{
	strbuf_add(out, str_sub(line, 0, name_at));
	strbuf_adds(out, prefix);
	strbuf_add(out, str_from(line, name_at + skip));
	strbuf_addc(out, '\n');
}

void status_rename_metrics(struct str in, struct strbuf *out)
{
	const struct str ours = STR("envoy_istio_");
	struct str line;
	size_t at;
	while (str_split(&in, '\n', &line)) {
		if (metric_name_at(line, &at) && str_starts(str_from(line, at), ours))
			add_line(out, line, at, "", sizeof("envoy_") - 1);
		else if (line.len)
			add_line(out, line, 0, "", 0);
	}
}

static void add_own_metrics(struct strbuf *out)
{
	struct strbuf own cleanup(strbuf_done) = {0};
	struct str line;
	size_t at;
	metric_write(&own);
	for (struct str rest = strbuf_str(&own); str_split(&rest, '\n', &line);) {
		if (metric_name_at(line, &at) && !str_starts(str_from(line, at), STR("istio_agent_")))
			add_line(out, line, at, "istio_agent_", 0);
		else if (line.len)
			add_line(out, line, 0, "", 0);
	}
}

/* ---- /stats/prometheus */

struct scrape {
	struct status *status;
	struct admin_request *request;
	unsigned missing; /* answers */
	struct strbuf envoy, application;
	char *envoy_url; /* with what Prometheus asks for in particular */
	bool envoy_only;
	bool envoy_failed;
};

static void finish_scrape(struct scrape *s)
{
	if (--s->missing)
		return;
	struct strbuf out cleanup(strbuf_done) = {0};
	strbuf_add(&out, strbuf_str(&s->envoy));
	strbuf_add(&out, strbuf_str(&s->application));
	if (!s->envoy_only)
		add_own_metrics(&out);
	if (s->envoy_only && s->envoy_failed)
		admin_respond(s->request, 503, TEXT, STR("Envoy's metrics are not there\n"));
	else
		admin_respond(s->request, 200, PROMETHEUS, strbuf_str(&out));
	s->status->scrapes--;
	strbuf_done(&s->envoy);
	strbuf_done(&s->application);
	free(s->envoy_url);
	free(s);
}

static void scrape_failed(const char *type, int status, struct str body)
{
	metric_add(&scrape_failures, 1, type);
	log_debug(
		&status_log, "no metrics", KV("type", type), KV("status", status), KV("error", str_sub(body, 0, 200)));
}

static void on_envoy_metrics(void *ctx, int status, struct str body, struct str type)
{
	struct scrape *s = ctx;
	s->envoy_failed = status != 200;
	if (s->envoy_failed)
		scrape_failed("envoy", status, body);
	else
		status_rename_metrics(body, &s->envoy);
	finish_scrape(s);
}

/* The application was asked for text; OpenMetrics is rewritten, as a page of both formats would be neither. */
static bool add_application(struct scrape *s, struct str body, struct str type)
{
	size_t before = s->application.len;
	if (!str_starts(type, STR("application/openmetrics-text"))) {
		strbuf_add(&s->application, body);
	} else if (!scrape_from_openmetrics(body, &s->application)) {
		s->application.len = before;
		return false;
	}
	if (s->application.len > before && s->application.ptr[s->application.len - 1] != '\n')
		strbuf_addc(&s->application, '\n');
	return true;
}

static void on_application_metrics(void *ctx, int status, struct str body, struct str type)
{
	struct scrape *s = ctx;
	if (status != 200 || !add_application(s, body, type))
		scrape_failed("application", status, body);
	finish_scrape(s);
}

/* Prometheus says how long it waits; a part that takes longer would cost it everything. */
static uint64_t scrape_timeout(const struct admin_request *r)
{
	double s;
	if (!str_double(admin_request_header(r, "X-Prometheus-Scrape-Timeout-Seconds"), &s) || !(s > 0.1) || s > 60)
		return SCRAPE_TIMEOUT_MS;
	return (uint64_t)(s * 900);
}

static void start_scrape(struct status *s, struct admin_request *r, bool envoy_only)
{
	static const char *const headers[] = {"Accept: text/plain;version=0.0.4", NULL};
	metric_add(&scrapes_total, 1);
	if (s->scrapes >= LIMIT_SCRAPES) {
		admin_respond(r, 503, TEXT, STR("too many scrapes at a time\n"));
		return;
	}
	s->scrapes++;
	struct scrape *x = xzalloc(sizeof(*x));
	size_t targets = envoy_only ? 0 : s->application.urls.len;
	struct str query = admin_request_query_string(r);
	*x = (struct scrape){.status = s, .request = r, .missing = 1 + (unsigned)targets, .envoy_only = envoy_only};
	x->envoy_url = xasprintf("%s%s" STR_FMT, s->envoy_url, query.len ? "?" : "", STR_ARG(query));
	struct http_request ask = {.url = x->envoy_url,
		.headers = headers,
		.timeout_ms = scrape_timeout(r),
		.max_body_bytes = LIMIT_SCRAPE_BYTES,
		.insecure = true};
	http_send(s->http, &ask, on_envoy_metrics, x);
	for (size_t i = 0; i < targets; i++) {
		ask.url = s->application.urls.items[i];
		http_send(s->http, &ask, on_application_metrics, x);
	}
}

static bool from_inside(struct admin_request *r, const char *what)
{
	if (admin_request_is_local(r))
		return true;
	log_warn(&status_log, "refused from outside", KV("page", what));
	admin_respond(r, 403, TEXT, STR("only from 127.0.0.1 or ::1\n"));
	return false;
}

static void give_metrics(struct status *s, struct admin_request *r, bool envoy_only)
{
	if (!s->metrics_inside_only || from_inside(r, "metrics"))
		start_scrape(s, r, envoy_only);
}

static void metrics_page(void *ctx, struct admin_request *r)
{
	give_metrics(ctx, r, false);
}

static void envoy_metrics_page(void *ctx, struct admin_request *r)
{
	give_metrics(ctx, r, true);
}

/* ---- /healthz/ready */

static void refuse(struct admin_request *r, const char *why)
{
	char *text cleanup(free_p) = xasprintf("not ready: %s\n", why);
	admin_respond(r, 503, TEXT, str_of(text));
}

static void on_ready_answer(void *ctx, int status, struct str body, struct str type)
{
	struct admin_request *r = ctx;
	char why[128];
	if (status == 200 && status_is_ready(body, why)) {
		admin_respond(r, 200, TEXT, STR("ready\n"));
		return;
	}
	if (!status)
		(void)snprintf(why, sizeof(why), "Envoy's admin does not answer");
	else if (status != 200)
		(void)snprintf(why, sizeof(why), "Envoy's admin answered with status %d", status);
	refuse(r, why);
}

static void ready_page(void *ctx, struct admin_request *r)
{
	struct status *s = ctx;
	if (s->draining) {
		refuse(r, "draining");
		return;
	}
	struct http_request ask = {.url = s->ready_url, .timeout_ms = READY_TIMEOUT_MS};
	http_send(s->http, &ask, on_ready_answer, r);
}

void status_draining(struct status *s)
{
	s->draining = true;
}

/* ---- /quitquitquit, /drain */

/* As pilot-agent does: listeners are drained, and nothing ends. */
static void drain_page(void *ctx, struct admin_request *r)
{
	const struct status *s = ctx;
	if (!from_inside(r, "/drain"))
		return;
	if (!s->on_drain) {
		admin_respond(r, 404, TEXT, STR("this agent runs no Envoy\n"));
		return;
	}
	log_info(&status_log, "asked to drain by /drain");
	s->on_drain(s->drain_ctx);
	admin_respond(r, 200, TEXT, STR("draining\n"));
}

void status_on_drain(struct status *s, void (*fn)(void *ctx), void *ctx)
{
	s->on_drain = fn;
	s->drain_ctx = ctx;
}

static void quit_page(void *ctx, struct admin_request *r)
{
	if (!from_inside(r, "/quitquitquit"))
		return;
	log_info(&status_log, "asked to end by /quitquitquit");
	admin_respond(r, 200, TEXT, STR("ending\n"));
	(void)raise(SIGTERM); /* the daemon's ordinary way out */
}

/* ---- life */

void status_mount(struct status *s, struct admin *a)
{
	admin_route(a, "GET", "/healthz/ready", ready_page, s);
	admin_route(a, "GET", "/stats/prometheus", metrics_page, s);
	admin_route(a, "GET", "/stats/envoy", envoy_metrics_page, s);
	admin_route(a, "POST", "/quitquitquit", quit_page, s);
	admin_route(a, "POST", "/drain", drain_page, s);
	probes_mount(s->probes, a);
}

/* Characters of the filter that a URL may not hold. */
static char *escaped(const char *url)
{
	struct strbuf out = {0};
	for (; *url; url++)
		if (strchr("^\\|", *url))
			strbuf_addf(&out, "%%%02X", (unsigned)(unsigned char)*url);
		else
			strbuf_addc(&out, *url);
	return strbuf_take(&out);
}

unsigned status_port(const struct agent_config *c)
{
	struct str host;
	uint16_t port = 0;
	return addr_split(str_of(c->status_address), &host, &port, NULL) && port ? port : STATUS_PORT;
}

struct status *status_new(struct loop *l, const struct agent_config *c, struct err *e)
{
	struct status *s = xzalloc(sizeof(*s));
	char *ready cleanup(free_p) = xasprintf("http://127.0.0.1:%u" READY_STATS, c->envoy_admin_port);
	uint16_t port = 0;
	s->ready_url = escaped(ready);
	s->envoy_url = xasprintf("http://127.0.0.1:%u/stats/prometheus", c->envoy_admin_port);
	s->metrics_inside_only = c->metrics_inside_only;
	s->http = http_client_new(l);
	s->server = admin_new(l, c->status_address, &port, e);
	if (!s->server)
		(void)err_in(e, "--status-address");
	s->probes = s->server ? probes_new(l, c->app_probers, c->pod_ip, e) : NULL;
	if (!s->probes || !scrape_targets_parse(c->annotations, port, &s->application, e)) {
		status_free(s);
		return NULL;
	}
	status_mount(s, s->server);
	log_info(&status_log, "status address", KV("address", c->status_address), KV("port", port));
	return s;
}

void status_free(struct status *s)
{
	if (!s)
		return;
	/* First the client: its questions end, and with them the requests that wait for an answer. */
	http_client_free(s->http);
	probes_free(s->probes);
	admin_free(s->server);
	free(s->ready_url);
	free(s->envoy_url);
	scrape_targets_done(&s->application);
	free(s);
}
