/*
 * DOC: Envoy's process. It is started with the bootstrap from the state directory, started again with growing pauses when it ends unasked,
 * and ended in three steps when asked: its listeners are drained (a sidecar's inbound ones only, so that an application that is
 * shutting down can still call others), for the drain time connections are asked to go while new ones are still served, since callers learn only
 * little by little that this workload is leaving; then SIGTERM; then, after a grace, SIGKILL. With exit_on_zero_connections the
 * drain time is a minimum, and the end comes with the last connection.
 *
 * One state, one timer: what the timer means is in the state's row.
 */
#include "agent/agent.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/io/http.h"
#include "common/io/proc.h"

#define BOOTSTRAP_FILE "envoy-rev.json"
#define RESTART_FIRST_MS 200u
#define RESTART_MOST_MS 30000u
#define RESTART_FORGIVEN_MS 60000u /* having run this long, the next end counts as the first */
#define KILL_GRACE_MS 5000u
#define CONNECTIONS_POLL_MS 500u
#define ARGUMENTS_MAX 30u
#define OVERRIDE_MAX 100000u /* one argument of a process may have 128 KiB */
#define FLUSH_MS 1000u /* Istio's default for log files; Envoy's is ten times that */

LOG_SCOPE(envoy_log, "envoy", "Envoy's process");

METRIC(starts_total, COUNTER, "istio_agent_envoy_starts_total", "Starts of Envoy");
METRIC(exits_total, COUNTER, "istio_agent_envoy_exits_total",
	"Ends of Envoy: asked, or unasked with a status or a signal", "reason");
METRIC(running_gauge, GAUGE, "istio_agent_envoy_running", "1 while Envoy's process lives");

enum envoy_state {
	ENVOY_IDLE,
	ENVOY_RUNNING,
	ENVOY_PAUSING, /* ended unasked; the timer starts it again */
	ENVOY_DRAINING, /* the timer sends SIGTERM */
	ENVOY_ENDING, /* SIGTERM is sent; the timer sends SIGKILL */
	ENVOY_ENDED,
	ENVOY_STATE_COUNT
};

static const char *const state_names[ENVOY_STATE_COUNT] = {
	"idle", "running", "waiting to restart", "draining", "ending", "ended"};

struct envoy {
	struct loop *loop;
	const struct agent_config *config;
	enum envoy_state state;
	struct proc *proc;
	struct timer *timer;
	struct http_client *http;
	char *bootstrap;
	char flush_ms[24], flush_kb[24]; /* when log files are written; flush_kb "": Envoy's default */
	char **own_env;
	char *override; /* text that Envoy merges over the bootstrap, NULL: none */
	bool drained; /* on request, while it goes on */
	uint64_t starts;
	uint64_t started_ms;
	uint64_t pause_ms; /* before the next start */
	unsigned failures; /* in a row */
	int last_status, last_signo; /* of the last end; status -1: none yet, or by signal */
	void (*done)(void *ctx);
	void *ctx;
};

static const char *program(const struct agent_config *c)
{
	return str_empty(c->envoy) ? "envoy" : c->envoy;
}

/* A program that is not there is the user's mistake, told at once and not by restarts. */
static bool find_program(const char *name, struct err *e)
{
	if (strchr(name, '/'))
		return access(name, X_OK) == 0 || err_errno(e, "--envoy %s", name);
	struct str rest = str_of(getenv("PATH")), folder;
	while (str_split(&rest, ':', &folder)) {
		char *path cleanup(free_p) = xasprintf(STR_FMT "/%s", STR_ARG(folder), name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return err_set(e, ERR_SYSTEM, "--envoy %s: not found on PATH", name);
}

static bool write_bootstrap(struct envoy *v, const char *state_dir, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	v->bootstrap = xasprintf("%s/" BOOTSTRAP_FILE, state_dir);
	if (!bootstrap_json(v->config, state_dir, &text, e))
		return err_in(e, "Envoy's bootstrap");
	return file_write_atomic(v->bootstrap, str_of(text), 0600, e);
}

/* Read at each start of the agent; whether it fits is for Envoy to say, which then does not start. */
static bool read_override(struct envoy *v, const char *path, struct err *e)
{
	size_t len;
	return str_empty(path) || file_read(path, OVERRIDE_MAX, &v->override, &len, e) ||
	       err_in(e, "--bootstrap-override");
}

/* fileFlushInterval and fileFlushMinSizeKb of the ProxyConfig. */
static bool read_flush(struct envoy *v, const char *proxy_config, struct err *e)
{
	json_t *config = json_loads(str_empty(proxy_config) ? "{}" : proxy_config, 0, NULL);
	const char *interval = json_string_value(json_object_get(config, "fileFlushInterval"));
	json_int_t size = json_integer_value(json_object_get(config, "fileFlushMinSizeKb"));
	int64_t ns = FLUSH_MS * INT64_C(1000000);
	bool ok = !interval || (str_duration(str_of(interval), &ns) && ns >= 1000000) ||
		  err_set(e, ERR_PEER, "proxy-config: fileFlushInterval: \"%.40s\" is not a duration of 1ms or more",
			  interval);
	(void)snprintf(v->flush_ms, sizeof(v->flush_ms), "%lld", (long long)(ns / 1000000));
	if (size > 0)
		(void)snprintf(v->flush_kb, sizeof(v->flush_kb), "%lld", (long long)size);
	json_decref(config);
	return ok;
}

/* ---- starting */

/* "warning,misc:error": the level of all, then levels of components. */
static void split_level(const char *spec, char **level, char **components)
{
	struct str first, others;
	(void)str_cut(str_of(str_empty(spec) ? "warning" : spec), ',', &first, &others);
	if (str_find(first, ':', &(size_t){0})) {
		others = str_of(spec);
		first = STR("warning");
	}
	*level = xstrndup(first.ptr, first.len);
	*components = others.len ? xstrndup(others.ptr, others.len) : NULL;
}

static bool check_level(const char *spec, struct err *e)
{
	static const char *const levels[] = {"trace", "debug", "info", "warning", "warn", "error", "critical", "off"};
	char *level cleanup(free_p) = NULL, *components cleanup(free_p) = NULL;
	split_level(spec, &level, &components);
	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (streq(level, levels[i]))
			return true;
	return err_set(e, ERR_PEER,
		"--envoy-log-level: \"%.40s\" is not trace, debug, info, warning, error, critical or off", level);
}

struct arguments {
	const char *items[ARGUMENTS_MAX + 1];
	size_t n;
};

static void add(struct arguments *a, const char *option, const char *value)
{
	assert(a->n + 2 <= ARGUMENTS_MAX);
	a->items[a->n++] = option;
	if (value)
		a->items[a->n++] = value;
}

/* The inherited environment behind our own: the first of two entries with a name is the one that is found. */
static const char **whole_env(char **own)
{
	size_t n = 0, own_n = 0;
	while (environ[n])
		n++;
	while (own[own_n])
		own_n++;
	const char **all = xzalloc((n + own_n + 1) * sizeof(*all));
	for (size_t i = 0; i < own_n; i++)
		all[i] = own[i];
	for (size_t i = 0; i < n; i++)
		all[own_n + i] = environ[i];
	return all;
}

static void on_exit_of(void *ctx, int status, int signo);

static bool launch(struct envoy *v, struct err *e)
{
	const struct agent_config *c = v->config;
	char *level cleanup(free_p) = NULL, *components cleanup(free_p) = NULL;
	char *drain cleanup(free_p) = xasprintf("%llu", (unsigned long long)(c->drain_duration_ms + 999) / 1000);
	char *concurrency cleanup(free_p) = xasprintf("%u", c->concurrency);
	char *base_id cleanup(free_p) = xasprintf("%u", c->base_id);
	struct arguments a = {0};
	split_level(c->envoy_log_level, &level, &components);
	add(&a, program(c), NULL);
	add(&a, "-c", v->bootstrap);
	if (v->override)
		add(&a, "--config-yaml", v->override);
	add(&a, "-l", level);
	if (components)
		add(&a, "--component-log-level", components);
	add(&a, "--drain-strategy", "immediate");
	add(&a, "--drain-time-s", streq(drain, "0") ? "1" : drain);
	add(&a, "--file-flush-interval-msec", v->flush_ms);
	if (*v->flush_kb)
		add(&a, "--file-flush-min-size-kb", v->flush_kb);
	if (c->concurrency)
		add(&a, "--concurrency", concurrency);
	/* Without a base id there is no shared memory to collide over, and any number of Envoys run on a machine. */
	if (c->base_id)
		add(&a, "--base-id", base_id);
	else
		add(&a, "--disable-hot-restart", NULL);
	const char **env cleanup(free_p) = whole_env(v->own_env);
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = a.items;
	o.env = env;
	v->proc = proc_start(v->loop, &o, on_exit_of, v, e);
	return v->proc != NULL;
}

/* Doubles from the first pause to the longest; jitter, so that the Envoys of a machine do not start together. */
static void pause_then_restart(struct envoy *v)
{
	v->pause_ms = random_backoff(++v->failures, RESTART_FIRST_MS, RESTART_MOST_MS, 0.2);
	v->state = ENVOY_PAUSING;
	timer_start(v->timer, v->pause_ms, 0);
}

void envoy_start(struct envoy *v)
{
	struct err e = {0};
	if (v->state != ENVOY_IDLE && v->state != ENVOY_PAUSING)
		return;
	timer_stop(v->timer);
	if (!launch(v, &e)) {
		pause_then_restart(v);
		log_error(&envoy_log, "Envoy does not start", KV("error", e.text), KV("again_in_ms", v->pause_ms));
		return;
	}
	v->state = ENVOY_RUNNING;
	v->drained = false;
	v->started_ms = clock_mono_ms();
	v->starts++;
	metric_add(&starts_total, 1);
	metric_set(&running_gauge, 1);
	log_info(&envoy_log, "Envoy started", KV("pid", proc_pid(v->proc)), KV("starts", v->starts));
}

/* ---- ending */

static void report_done(struct envoy *v)
{
	void (*done)(void *ctx) = v->done;
	v->state = ENVOY_ENDED;
	v->done = NULL;
	timer_stop(v->timer);
	if (done)
		done(v->ctx); /* may free v */
}

static void on_exit_of(void *ctx, int status, int signo)
{
	struct envoy *v = ctx;
	bool asked = v->state == ENVOY_DRAINING || v->state == ENVOY_ENDING;
	uint64_t ran_ms = clock_mono_ms() - v->started_ms;
	proc_free(take(v->proc));
	v->last_status = status;
	v->last_signo = signo;
	metric_set(&running_gauge, 0);
	metric_add(&exits_total, 1, asked ? "asked" : signo ? "signal" : "status");
	if (asked) {
		log_info(&envoy_log, "Envoy ended", KV("status", status), KV("signal", signo));
		report_done(v);
		return;
	}
	if (ran_ms >= RESTART_FORGIVEN_MS)
		v->failures = 0;
	pause_then_restart(v);
	log_warn(&envoy_log, "Envoy ended unasked and is started again", KV("status", status), KV("signal", signo),
		KV("ran_ms", ran_ms), KV("again_in_ms", v->pause_ms));
}

static void terminate(struct envoy *v)
{
	v->state = ENVOY_ENDING;
	timer_start(v->timer, KILL_GRACE_MS, 0);
	proc_kill(v->proc, SIGTERM);
}

static void on_connections(void *ctx, int status, struct str body, struct str type)
{
	struct envoy *v = ctx;
	if (v->state != ENVOY_DRAINING)
		return;
	uint64_t n = status_connections(body);
	if (status == 200 && n > 0) {
		log_debug(&envoy_log, "Envoy still has connections", KV("connections", n));
		timer_start(v->timer, CONNECTIONS_POLL_MS, 0);
		return;
	}
	if (status != 200)
		log_warn(&envoy_log, "Envoy's connections are not known: it is ended", KV("status", status));
	terminate(v);
}

static void ask(struct envoy *v, const char *method, const char *path,
	void (*answer)(void *ctx, int status, struct str body, struct str type))
{
	char *url cleanup(free_p) = xasprintf("http://127.0.0.1:%u%s", v->config->envoy_admin_port, path);
	struct http_request r = {.method = method, .url = url};
	http_send(v->http, &r, answer, v);
}

static void on_timer(void *ctx)
{
	struct envoy *v = ctx;
	switch (v->state) {
	case ENVOY_PAUSING:
		envoy_start(v);
		break;
	case ENVOY_DRAINING:
		if (v->config->exit_on_zero_connections)
			ask(v, "GET", "/stats?usedonly&filter=%5Elistener.*downstream_cx_active$", on_connections);
		else
			terminate(v);
		break;
	case ENVOY_ENDING:
		log_warn(&envoy_log, "Envoy does not end and is killed", KV("after_ms", KILL_GRACE_MS));
		proc_kill(v->proc, SIGKILL);
		break;
	case ENVOY_ENDED:
		report_done(v);
		break;
	case ENVOY_IDLE:
	case ENVOY_RUNNING:
	case ENVOY_STATE_COUNT:
		assert(false);
	}
}

static void on_drain_answer(void *ctx, int status, struct str body, struct str type)
{
	struct envoy *v = ctx;
	if ((v->state == ENVOY_DRAINING || v->drained) && status != 200)
		log_warn(&envoy_log, "Envoy does not drain its listeners", KV("status", status),
			KV("answer", str_sub(body, 0, 200)));
}

/* skip_exit: when Envoy ends is decided here. */
static void drain_listeners(struct envoy *v)
{
	ask(v, "POST",
		streq(v->config->type, "router") ? "/drain_listeners?graceful&skip_exit"
						 : "/drain_listeners?inboundonly&graceful&skip_exit",
		on_drain_answer);
}

void envoy_drain_now(struct envoy *v)
{
	if (v->drained || !v->proc || v->state != ENVOY_RUNNING)
		return;
	v->drained = true;
	log_info(&envoy_log, "draining Envoy, which goes on");
	drain_listeners(v);
}

void envoy_drain(struct envoy *v, void (*done)(void *ctx), void *ctx)
{
	assert(!v->done);
	v->done = done;
	v->ctx = ctx;
	if (v->state == ENVOY_DRAINING || v->state == ENVOY_ENDING)
		return;
	if (!v->proc) {
		v->state = ENVOY_ENDED;
		timer_start(v->timer, 0, 0);
		return;
	}
	if (v->drained) { /* whoever asked for it has waited as long as he wanted */
		log_info(&envoy_log, "Envoy has been drained already");
		terminate(v);
		return;
	}
	v->state = ENVOY_DRAINING;
	log_info(&envoy_log, "draining Envoy", KV("drain_ms", v->config->drain_duration_ms));
	drain_listeners(v);
	timer_start(v->timer, v->config->drain_duration_ms, 0);
}

/* ---- life */

struct envoy *envoy_new(struct loop *l, const struct agent_config *c, const char *state_dir, struct err *e)
{
	struct envoy *v = xzalloc(sizeof(*v));
	*v = (struct envoy){.loop = l, .config = c, .last_status = -1};
	if (!check_level(c->envoy_log_level, e) || !find_program(program(c), e) || !read_flush(v, c->proxy_config, e) ||
		!read_override(v, c->bootstrap_override, e) || !write_bootstrap(v, state_dir, e)) {
		envoy_free(v);
		return NULL;
	}
	v->own_env = bootstrap_env(c);
	v->timer = timer_new(l, on_timer, v);
	v->http = http_client_new(l);
	return v;
}

void envoy_free(struct envoy *v)
{
	if (!v)
		return;
	v->state = ENVOY_ENDED; /* answers that come from closing the client mean nothing */
	v->done = NULL;
	http_client_free(v->http);
	timer_free(v->timer);
	proc_free(v->proc);
	bootstrap_env_free(v->own_env);
	free(v->bootstrap);
	free(v->override);
	free(v);
}

void envoy_debug(const struct envoy *v, struct strbuf *json)
{
	strbuf_addf(json, "{\"state\":\"%s\",\"starts\":%llu", state_names[v->state], (unsigned long long)v->starts);
	if (v->proc)
		strbuf_addf(json, ",\"pid\":%d,\"running_ms\":%llu", proc_pid(v->proc),
			(unsigned long long)(clock_mono_ms() - v->started_ms));
	if (v->state == ENVOY_PAUSING)
		strbuf_addf(json, ",\"restart_pause_ms\":%llu", (unsigned long long)v->pause_ms);
	if (v->last_status >= 0 || v->last_signo)
		strbuf_addf(json, ",\"last_exit\":{\"status\":%d,\"signal\":%d}", v->last_status, v->last_signo);
	strbuf_adds(json, ",\"program\":");
	strbuf_add_json(json, str_of(program(v->config)));
	strbuf_adds(json, ",\"bootstrap\":");
	strbuf_add_json(json, str_of(v->bootstrap));
	strbuf_addf(json, ",\"admin\":\"127.0.0.1:%u\"}\n", v->config->envoy_admin_port);
}
