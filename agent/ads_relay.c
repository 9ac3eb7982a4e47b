/*
 * DOC: Envoy's delta ADS stream. While pilot is there, requests and responses pass through, and ads_state.c remembers what Envoy accepted; that is
 * written to a file a moment later. A stream to pilot begins with what Envoy wants and holds (ads_state_resume), so that pilot sends only what
 * differs. When pilot has been away for WAIT_MS, Envoy is answered from the last good configuration until pilot is back.
 *
 * A pilot that is connected but does not answer the first request of a type for WAIT_MS is treated like one that is away: the stream is
 * given up, Envoy gets the last good configuration, and the next stream resumes from it. So pilot always knows what Envoy holds.
 * The mesh's roots come on the same stream, asked for by the agent and not by Envoy, which never sees them (mesh_roots.c).
 * Envoy has one ADS stream; a newer one replaces the older, whose end may not have been noticed yet.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/ads_state.h"
#include "agent/agent.h"
#include "agent/mesh_roots.h"
#include "agent/sotw_relay.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/io/grpc.h"
#include "common/pb/pb.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define HEALTH_TYPE "type.googleapis.com/istio.v1.HealthInformation"
#define WAIT_MS 2000 /* for pilot's first answer, when there is a last good configuration */
#define WAIT_UNREACHABLE_MS 200 /* the same when the last attempt to connect has already failed */
#define SAVE_MS 500 /* changes within this time are one write */
#define SAVE_GAP_MS 2000 /* from one write to the next */
#define SAVE_RETRY_MS 10000 /* after a write that failed */
#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 10000
#define STABLE_MS 5000 /* a stream to pilot that lived this long was a good one, even when pilot had nothing to send */
#define DOWN_QUEUE_BYTES_MAX (4u << 20) /* waiting for Envoy before pilot is no longer read */

METRIC(requests, COUNTER, "istio_agent_xds_proxy_requests", "requests of Envoy");
METRIC(responses, COUNTER, "istio_agent_xds_proxy_responses", "responses of pilot");
METRIC(connection_failures, COUNTER, "istio_agent_istiod_connection_failures",
	"attempts to connect to pilot that failed");
METRIC(terminations, COUNTER, "istio_agent_istiod_connection_terminations", "streams to pilot that ended", "type");
METRIC(envoy_terminations, COUNTER, "istio_agent_envoy_connection_terminations", "streams of Envoy that ended", "type");
METRIC(rejects, COUNTER, "istio_agent_xds_rejects", "responses that Envoy refused", "type");
METRIC(cached_answers, COUNTER, "istio_agent_xds_last_good_answers",
	"responses from the last good configuration while pilot was away", "type");
METRIC(cache_writes, COUNTER, "istio_agent_xds_last_good_writes",
	"times that the last good configuration was written to disk", "result");
METRIC(pilot_up, GAUGE, "istio_agent_xds_pilot_connected", "1 while there is a stream to pilot");

LOG_SCOPE(ads_log, "ads", "Envoy's ADS stream and pilot's");

struct ads_relay {
	struct loop *loop;
	char *socket_path, *cache_file, *target;
	struct mesh_roots *roots;
	void (*on_roots)(void *ctx);
	void *ctx;
	struct grpc_server *server;
	struct grpc_channel *channel;
	struct ads_state *state;
	struct grpc_stream *down; /* Envoy's */
	struct grpc_stream *up; /* pilot's */
	struct arena *node_arena;
	const Core__Node *node; /* from the first request of Envoy's stream */
	struct timer *wait, *retry, *save;
	uint64_t up_since_ms, saved_ms;
	unsigned failures; /* streams to pilot that ended soon and without an answer, one after the other */
	bool offline; /* Envoy is answered from the last good configuration; there is no stream to pilot */
	bool told_away; /* logged once per absence */
	bool was_connected;
	bool unreachable; /* the last attempt to connect failed */
	bool up_paused;
	enum { HEALTH_UNSAID, HEALTH_GOOD, HEALTH_BAD } health; /* of the workload */
	char health_why[256];
	char last_error[256];
};

/* "type.googleapis.com/envoy.config.cluster.v3.Cluster" -> "Cluster" */
static const char *short_type(const char *url)
{
	const char *dot = strrchr(url, '.');
	return dot ? dot + 1 : url;
}

static void send_packed(struct grpc_stream *s, struct str packed)
{
	struct buf *b = buf_copy(packed.ptr, packed.len);
	grpc_stream_send(s, b);
	buf_unref(b);
}

static void save_now(void *ctx)
{
	struct ads_relay *r = ctx;
	struct err e = {0};
	if (!ads_state_dirty(r->state))
		return;
	bool ok = ads_state_save(r->state, r->cache_file, &e);
	r->saved_ms = clock_mono_ms();
	metric_add(&cache_writes, 1, ok ? "ok" : "error");
	if (ok)
		return;
	log_error(&ads_log, "last good configuration not written", KV("error", e.text));
	timer_start(r->save, SAVE_RETRY_MS, 0);
}

static void save_soon(struct ads_relay *r)
{
	uint64_t since = clock_mono_ms() - r->saved_ms;
	if (ads_state_dirty(r->state) && !timer_active(r->save))
		timer_start(r->save, since + SAVE_MS < SAVE_GAP_MS ? SAVE_GAP_MS - since : SAVE_MS, 0);
}

/* ---- from the last good configuration */

static void answer(struct ads_relay *r, const char *type)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str packed = ads_state_answer(r->state, type, a);
	if (!packed.len)
		return;
	metric_add(&cached_answers, 1, short_type(type));
	log_debug(&ads_log, "answered from the last good configuration", KV("type", type), KV("bytes", packed.len));
	send_packed(r->down, packed);
}

static void answer_all(struct ads_relay *r)
{
	for (size_t i = 0; ads_state_type(r->state, i); i++)
		answer(r, ads_state_type(r->state, i));
}

static void go_offline(struct ads_relay *r)
{
	if (!r->told_away)
		log_warn(&ads_log,
			ads_state_has_content(r->state) ? "pilot is away: Envoy gets the last good configuration"
							: "pilot is away, and there is no last good configuration",
			KV("pilot", r->target), KV("reason", r->last_error));
	r->offline = r->told_away = true;
	answer_all(r);
}

/* ---- pilot's stream */

static void retry_later(struct ads_relay *r)
{
	timer_start(r->retry, random_backoff(r->failures + 1, RETRY_MIN_MS, RETRY_MAX_MS, 0.3), 0);
}

static void pilot_serves(struct ads_relay *r)
{
	r->failures = 0;
	r->told_away = false;
}

static void up_lost(struct ads_relay *r)
{
	r->up = NULL;
	r->up_paused = false;
	metric_set(&pilot_up, 0);
	ads_state_upstream_lost(r->state);
	if (!r->down)
		return;
	if (clock_mono_ms() - r->up_since_ms > STABLE_MS)
		pilot_serves(r);
	retry_later(r);
	if (r->failures > 1)
		go_offline(r);
	else if (!r->offline && !timer_active(r->wait))
		timer_start(r->wait, WAIT_MS, 0);
	r->failures++;
}

static void close_up(struct ads_relay *r)
{
	struct grpc_stream *s = r->up;
	if (!s)
		return;
	up_lost(r);
	grpc_stream_cancel(s); /* its on_close() finds that it is no longer ours */
}

/* ---- the mesh's roots */

/* The first request has no nonce; later ones answer a response, with the reason when it is refused. */
static void send_roots_request(struct ads_relay *r, const char *nonce, const struct err *refused)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	Ads__DeltaDiscoveryRequest *q = PB_NEW(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
	q->type_url = arena_strdup(a, MESH_ROOTS_TYPE);
	q->response_nonce = arena_strdup(a, nonce);
	if (!*nonce)
		mesh_roots_say(r->roots, a, q);
	if (refused) {
		q->error_detail = PB_NEW(a, Rpc__Status, rpc__status);
		q->error_detail->code = GRPC_INVALID_ARGUMENT;
		q->error_detail->message = arena_strdup(a, refused->text);
	}
	send_packed(r->up, pb_pack(a, q));
}

static bool take_roots(struct ads_relay *r, const Ads__DeltaDiscoveryResponse *in)
{
	struct err e = {0};
	bool changed = false;
	if (!r->roots || !streq(in->type_url, MESH_ROOTS_TYPE))
		return false;
	const bool ok = mesh_roots_take(r->roots, in, &changed, &e);
	if (!ok) {
		metric_add(&rejects, 1, short_type(in->type_url));
		log_warn(&ads_log, "roots of the mesh refused, the old ones stay", KV("error", e.text));
	}
	send_roots_request(r, in->nonce, ok ? NULL : &e);
	if (changed)
		r->on_roots(r->ctx);
	return true;
}

static void on_up_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct ads_relay *r = grpc_stream_user(s);
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	if (s != r->up || !r->down)
		return;
	const Ads__DeltaDiscoveryResponse *in = PB_UNPACK(
		a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, data, len, &e);
	if (in && take_roots(r, in))
		return;
	if (!in || !(ads_state_response(r->state, in) ||
			   err_set(&e, ERR_LIMIT, "Envoy leaves too many responses unanswered"))) {
		log_warn(&ads_log, "stream to pilot given up", KV("reason", e.text));
		close_up(r);
		return;
	}
	metric_add(&responses, 1);
	pilot_serves(r);
	send_packed(r->down, str_n(data, len));
	if (grpc_stream_queued(r->down) > DOWN_QUEUE_BYTES_MAX) {
		r->up_paused = true;
		grpc_stream_pause(s, true);
	}
}

/* Pilot does not want this proxy, which time alone will not mend. */
static bool is_refusal(enum grpc_status status)
{
	return status == GRPC_PERMISSION_DENIED || status == GRPC_UNAUTHENTICATED || status == GRPC_INVALID_ARGUMENT;
}

static void on_up_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct ads_relay *r = grpc_stream_user(s);
	metric_add(&terminations, 1, status == GRPC_OK || status == GRPC_CANCELLED ? "cancelled" : "error");
	if (s != r->up)
		return;
	(void)snprintf(
		r->last_error, sizeof(r->last_error), "%s: " STR_FMT, grpc_status_name(status), STR_ARG(message));
	LOG_AT(&ads_log, is_refusal(status) ? LOG_WARN : LOG_INFO, "stream to pilot ended", KV("pilot", r->target),
		KV("status", grpc_status_name(status)), KV("reason", message));
	up_lost(r);
}

/* Istio's way: a request of a type that has no answer; an error is bad news. Not the first of a stream, which carries the node. */
static void send_health(struct ads_relay *r)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	Ads__DeltaDiscoveryRequest *q = PB_NEW(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
	if (r->health == HEALTH_UNSAID || !r->up)
		return;
	q->type_url = arena_strdup(a, HEALTH_TYPE);
	if (r->health == HEALTH_BAD) {
		q->error_detail = PB_NEW(a, Rpc__Status, rpc__status);
		q->error_detail->code = 500;
		q->error_detail->message = arena_strdup(a, r->health_why);
	}
	send_packed(r->up, pb_pack(a, q));
}

static const struct grpc_handler up_handler = {.on_message = on_up_message, .on_close = on_up_close};

static void open_up(struct ads_relay *r)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str *messages = NULL;
	if (r->up || !r->down || !r->node || !r->channel || !grpc_channel_connected(r->channel))
		return;
	size_t n = ads_state_resume(r->state, r->node, a, &messages);
	if (!n)
		return;
	timer_stop(r->retry);
	r->up = grpc_channel_call(r->channel, ADS, NULL, 0, false, &up_handler, r);
	r->up_since_ms = clock_mono_ms();
	r->offline = false;
	metric_set(&pilot_up, 1);
	log_info(&ads_log, "stream to pilot", KV("pilot", r->target), KV("types", n));
	for (size_t i = 0; i < n; i++)
		send_packed(r->up, messages[i]);
	if (r->roots)
		send_roots_request(r, "", NULL);
	send_health(r);
}

static void on_retry(void *ctx)
{
	open_up(ctx);
}

static void on_state(void *ctx, bool connected, const char *reason)
{
	struct ads_relay *r = ctx;
	if (!connected) {
		if (!r->was_connected)
			metric_add(&connection_failures, 1);
		(void)snprintf(r->last_error, sizeof(r->last_error), "%s", reason);
	}
	r->was_connected = connected;
	r->unreachable = !connected;
	if (connected)
		open_up(r);
}

/* Envoy has waited long enough. */
static void on_wait(void *ctx)
{
	struct ads_relay *r = ctx;
	if (!r->down)
		return;
	if (r->up && !ads_state_starved(r->state))
		return;
	if (r->up)
		(void)snprintf(r->last_error, sizeof(r->last_error), "no answer within %u ms", WAIT_MS);
	close_up(r);
	go_offline(r);
}

/* ---- Envoy's stream */

static void on_down_open(struct grpc_stream *s, void *ctx)
{
	struct ads_relay *r = ctx;
	struct grpc_stream *old = r->down;
	r->down = NULL;
	close_up(r);
	if (old)
		grpc_stream_finish(old, GRPC_UNAVAILABLE, "replaced by a newer stream");
	ads_state_stream_opened(r->state);
	arena_free(take(r->node_arena));
	r->node = NULL;
	r->down = s;
	r->offline = false;
	r->failures = 0;
	timer_stop(r->retry);
	timer_start(r->wait, r->unreachable ? WAIT_UNREACHABLE_MS : WAIT_MS, 0);
	log_info(&ads_log, "Envoy's stream is open", KV("pilot_connected", ads_relay_connected(r)));
}

static void keep_node(struct ads_relay *r, const Core__Node *node)
{
	if (!node || r->node)
		return;
	r->node_arena = arena_new();
	r->node = pb_copy(r->node_arena, node);
}

static void note_refusal(const Ads__DeltaDiscoveryRequest *in)
{
	if (!in->error_detail)
		return;
	metric_add(&rejects, 1, short_type(in->type_url));
	log_warn(&ads_log, "Envoy refused a response", KV("type", in->type_url), KV("nonce", in->response_nonce),
		KV("error", in->error_detail->message));
}

static void on_down_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct ads_relay *r = grpc_stream_context(s);
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	if (s != r->down)
		return;
	metric_add(&requests, 1);
	const Ads__DeltaDiscoveryRequest *in = PB_UNPACK(
		a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request, data, len, &e);
	if (!in || (!in->node && !r->node)) {
		grpc_stream_finish(s, GRPC_INVALID_ARGUMENT, "%s",
			in ? "the first request of a stream must carry the node" : e.text);
		return;
	}
	keep_node(r, in->node);
	note_refusal(in);
	struct str pass = ads_state_request(r->state, in, a);
	save_soon(r);
	if (r->up && pass.len)
		send_packed(r->up, pass);
	if (!r->up && !timer_active(r->retry))
		open_up(r);
	if (r->offline)
		answer(r, in->type_url);
	else if ((!r->up || ads_state_starved(r->state)) && !timer_active(r->wait))
		timer_start(r->wait, WAIT_MS, 0);
}

static void on_down_half_close(struct grpc_stream *s)
{
	grpc_stream_finish(s, GRPC_OK, "%s", "");
}

static void on_down_writable(struct grpc_stream *s)
{
	struct ads_relay *r = grpc_stream_context(s);
	if (s != r->down || !r->up || !r->up_paused)
		return;
	r->up_paused = false;
	grpc_stream_pause(r->up, false);
}

static void on_down_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct ads_relay *r = grpc_stream_context(s);
	metric_add(&envoy_terminations, 1, status == GRPC_OK || status == GRPC_CANCELLED ? "cancelled" : "error");
	if (s != r->down)
		return;
	r->down = NULL;
	log_info(&ads_log, "Envoy's stream ended", KV("status", grpc_status_name(status)), KV("reason", message));
	close_up(r);
	timer_stop(r->wait);
	timer_stop(r->retry);
}

static const struct grpc_handler down_handler = {
	on_down_open, on_down_message, on_down_half_close, on_down_writable, on_down_close};

/* ---- the interface */

static void load(struct ads_relay *r)
{
	struct err e = {0};
	if (!file_exists(r->cache_file))
		return;
	if (ads_state_load(r->state, r->cache_file, &e))
		log_info(&ads_log, "last good configuration read", KV("file", r->cache_file));
	else
		log_warn(&ads_log, "last good configuration not used", KV("error", e.text));
}

struct ads_relay *ads_relay_new(struct loop *l, const struct ads_relay_options *o, struct err *e)
{
	struct ads_relay *r = xzalloc(sizeof(*r));
	char *address cleanup(free_p) = xasprintf("unix:%s", o->socket_path);
	r->loop = l;
	r->socket_path = xstrdup(o->socket_path);
	r->cache_file = xstrdup(o->cache_file);
	r->target = xstrdup(o->target);
	r->roots = o->roots;
	r->on_roots = o->on_roots;
	r->ctx = o->ctx;
	r->state = ads_state_new();
	r->wait = timer_new(l, on_wait, r);
	r->retry = timer_new(l, on_retry, r);
	r->save = timer_new(l, save_now, r);
	r->server = grpc_server_new(l, NULL);
	(void)snprintf(r->last_error, sizeof(r->last_error), "no connection yet");
	load(r);
	grpc_server_route(r->server, ADS, &down_handler, r);
	sotw_relay_route(r->server, &r->channel);
	if (!grpc_server_listen(r->server, address, NULL, NULL, e)) {
		ads_relay_free(r);
		return NULL;
	}
	return r;
}

void ads_relay_free(struct ads_relay *r)
{
	if (!r)
		return;
	save_now(r);
	r->down = r->up = NULL; /* their on_close() has nothing to do */
	grpc_channel_free(take(r->channel));
	grpc_server_free(r->server);
	timer_free(r->wait);
	timer_free(r->retry);
	timer_free(r->save);
	ads_state_free(r->state);
	arena_free(r->node_arena);
	free(r->socket_path);
	free(r->cache_file);
	free(r->target);
	free(r);
}

void ads_relay_connect(struct ads_relay *r, struct tls_context *tls)
{
	const struct grpc_channel_options o = {
		.target = r->target, .tls = tls, .eager = true, .on_state = on_state, .ctx = r};
	if (!r->channel)
		r->channel = grpc_channel_new(r->loop, &o);
}

void ads_relay_health(struct ads_relay *r, bool healthy, const char *why)
{
	r->health = healthy ? HEALTH_GOOD : HEALTH_BAD;
	(void)snprintf(r->health_why, sizeof(r->health_why), "%s", why);
	send_health(r);
}

bool ads_relay_connected(const struct ads_relay *r)
{
	return r->channel && grpc_channel_connected(r->channel);
}

void ads_relay_debug(const struct ads_relay *r, struct strbuf *json)
{
	strbuf_adds(json, "{\"pilot\":");
	strbuf_add_json(json, str_of(r->target));
	strbuf_addf(json,
		",\"connected\":%s,\"pilotStream\":%s,\"envoyStream\":%s,\"servedFrom\":\"%s\",\"lastError\":",
		ads_relay_connected(r) ? "true" : "false", r->up ? "true" : "false", r->down ? "true" : "false",
		r->up        ? "pilot"
		: r->offline ? "last-good"
			     : "nothing");
	strbuf_add_json(json, str_of(r->last_error));
	strbuf_addf(json, ",\"unsaved\":%s,\"types\":", ads_state_dirty(r->state) ? "true" : "false");
	ads_state_debug(r->state, json);
	strbuf_addc(json, '}');
}
