/*
 * DOC: The order of pushes. Types are looked at in the order of xds.def: clusters, endpoints, listeners, routes. At most one response
 * of a type is unanswered; what changes meanwhile merges into the next. A push of listeners and routes waits until the client has
 * taken the clusters (Envoy answers CDS when they are warm), and clusters are removed only when listeners and routes are taken:
 * make before break. Both waits end after XDS_HOLD_US, so that a client that never answers gets its configuration all the same.
 * An answer to a question (a first request, new names) never waits: the client may need it to give its own answer. The first requests of a
 * client that comes back with what it holds are no questions in this sense (delta.c).
 */
#include "pilot/xds/session.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/pb/pb.h"
#include "pilot/model/query_secret.h"
#include "pilot/xds/watch.h"
#include "wkt/status.pb-c.h"
#include "xds/core.pb-c.h"

/* Long enough for a cluster to warm, short against the second in which a change is expected to work. */
#define XDS_HOLD_US 2000000ull
#define HEALTH_TYPE "type.googleapis.com/istio.v1.HealthInformation"

METRIC(rejects, COUNTER, "pilot_total_xds_rejects", "responses that proxies refused", "type");
METRIC(cds_reject, COUNTER, "pilot_xds_cds_reject", "cluster responses that proxies refused");
METRIC(eds_reject, COUNTER, "pilot_xds_eds_reject", "endpoint responses that proxies refused");
METRIC(lds_reject, COUNTER, "pilot_xds_lds_reject", "listener responses that proxies refused");
METRIC(rds_reject, COUNTER, "pilot_xds_rds_reject", "route responses that proxies refused");
METRIC(unknown_types, COUNTER, "pilot_xds_unknown_type", "requests for types that are not served");
METRIC(hold_expired, COUNTER, "pilot_xds_hold_expired", "pushes that waited for another type's answer in vain");
METRIC(convergence, HISTOGRAM, "pilot_proxy_convergence_time", "seconds from a change to a proxy's acceptance");
METRIC(push_time, HISTOGRAM, "pilot_xds_push_time", "seconds from a response to its acceptance", "type");

LOG_SCOPE(ads_log, "ads", "xDS streams");

struct xds_session *session_new(struct engine *e, enum xds_mode mode, const struct session_ops *ops, void *ctx)
{
	struct xds_session *s = xzalloc(sizeof(*s));
	s->engine = e;
	s->mode = mode;
	s->ops = ops;
	s->ctx = ctx;
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		s->watches[t].type = (enum xds_type)t;
	engine_join(e, s);
	return s;
}

static void leave_scope(struct xds_session *s, struct xds_scope *scope, enum scope_kind k, uint64_t now_us)
{
	struct xds_holding *held[XDS_TYPE_COUNT];
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		held[t] = s->watches[t].held[k] && s->watches[t].held[k]->scope == scope ? s->watches[t].held[k] : NULL;
	xds_scope_leave(scope, held, now_us);
}

void session_free(struct xds_session *s, uint64_t now_us)
{
	if (!s)
		return;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		if (s->scope[k])
			leave_scope(s, s->scope[k], (enum scope_kind)k, now_us);
		engine_reads_unref(s->engine, s->scope_reads[k]);
	}
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		watch_done(&s->watches[t]);
	engine_leave(s->engine, s);
	trial_done(&s->trial);
	arena_free(s->arena);
	free(s->withheld);
	free(s);
}

const struct proxy *session_proxy(const struct xds_session *s)
{
	return s->proxy;
}

uint64_t session_wake_us(const struct xds_session *s)
{
	return s->wake_us;
}

struct xds_watch *session_watch(struct xds_session *s, struct str type_url)
{
	enum xds_type t;
	if (xds_type_find(type_url, &t) && (t != XDS_VHDS || s->proxy->vhds))
		return &s->watches[t];
	metric_add(&unknown_types, 1);
	log_debug(&ads_log, "type is not served", KV("type", type_url), KV("proxy", s->proxy->id));
	return NULL;
}

static void note_access(struct xds_session *s)
{
	cleanup(arena_free_p) struct arena *a = arena_new_sized(256);
	struct view v = {.model = engine_model(s->engine), .scope = s->scope[SCOPE_SHARED]->scope, .scratch = a};
	const Fl__Access *access = view_access(&v, s->proxy);
	const char *why = access && !access->allowed ? access->reason : NULL;

	if (s->withheld && why ? streq(s->withheld, why) : s->withheld == why)
		return;
	free(s->withheld);
	s->withheld = why ? xstrdup(why) : NULL;
	if (s->ops->on_withheld)
		s->ops->on_withheld(s->ctx, str_of(why));
}

static void enter_scope(struct xds_session *s, enum scope_kind k)
{
	engine_reads_unref(s->engine, s->scope_reads[k]);
	s->scope[k] = engine_scope(s->engine, s->proxy, k, &s->scope_reads[k]);
	if (k == SCOPE_SHARED)
		note_access(s);
}

static bool attach(struct xds_session *s, struct str packed, struct err *e)
{
	if (s->proxy)
		return true;
	if (!engine_has_content(s->engine))
		return err_set(e, ERR_BUG, "there is no configuration yet");
	if (!packed.ptr)
		return err_set(e, ERR_PEER, "the first request of a stream must carry the node");
	if (packed.len > LIMIT_NODE_METADATA_BYTES)
		return err_set(e, ERR_LIMIT, "the node is larger than %u bytes", LIMIT_NODE_METADATA_BYTES);
	cleanup(arena_free_p) struct arena *a = arena_new_sized(1024), *scratch = arena_new();
	struct proxy *p = NULL;
	const Core__Node *node = PB_UNPACK(scratch, Core__Node, core__node, packed.ptr, packed.len, e);
	if (!node || !proxy_parse(a, node, &p, e))
		return err_in(e, "node");
	if (s->ops->admit && !s->ops->admit(s->ctx, p, e))
		return false;
	p->vhds &= s->mode == XDS_DELTA; /* the other protocol cannot say it */
	s->proxy = p;
	s->arena = take(a);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		enter_scope(s, (enum scope_kind)k);
	return true;
}

/* A request of its own type, which has no answer: an error is bad news. */
static bool take_health(struct xds_session *s, const struct xds_request *r, struct err *e)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const Rpc__Status *bad = r->error.ptr ? PB_UNPACK(a, Rpc__Status, rpc__status, r->error.ptr, r->error.len, e)
					      : NULL;
	if (r->error.ptr && !bad)
		return err_in(e, "error_detail");
	if (s->ops->on_health)
		s->ops->on_health(s->ctx, !bad || !bad->code, bad ? str_of(bad->message) : STR(""));
	return true;
}

bool session_recv(struct xds_session *s, const void *data, size_t len, uint64_t now_us, struct err *e)
{
	struct xds_request r;
	s->wake_us = 0;
	if (!s->connected_us)
		s->connected_us = now_us;
	if (!request_parse(s->mode, data, len, &r, e))
		return err_in(e, s->mode == XDS_SOTW ? "DiscoveryRequest" : "DeltaDiscoveryRequest");
	if (!attach(s, r.node, e))
		return false;
	if (str_eqc(r.type_url, HEALTH_TYPE))
		return take_health(s, &r, e);
	return s->mode == XDS_SOTW ? sotw_recv(s, &r, now_us, e) : delta_recv(s, &r, now_us, e);
}

static double seconds(uint64_t from_us, uint64_t to_us)
{
	return to_us > from_us ? (double)(to_us - from_us) / 1e6 : 0;
}

/* What was said of a refusal is taken back when everything is accepted again. */
static void take_back(struct xds_session *s, struct xds_watch *w)
{
	const struct xds_nack none = {.type = w->type, .proxy = s->proxy};

	if (!w->reported || s->trial.phase != TRIAL_IDLE || s->trial.isolated.len)
		return;
	w->reported = false;
	if (s->ops->on_nack)
		s->ops->on_nack(s->ctx, &none);
}

void session_acked(struct xds_session *s, struct xds_watch *w, uint64_t now_us)
{
	if (!w->outstanding)
		return;
	metric_observe(&push_time, seconds(w->sent_us, now_us), xds_type_info(w->type)->name);
	if (w->flight_us)
		metric_observe(&convergence, seconds(w->flight_us, now_us));
	memcpy(w->acked, w->sent, sizeof(w->acked));
	w->acked_model = w->sent_model;
	free(take(w->nack));
	watch_answered(w);
	take_back(s, w);
}

static struct metric *reject_metric(enum xds_type t)
{
	switch (t) {
	case XDS_CDS:
		return &cds_reject;
	case XDS_EDS:
		return &eds_reject;
	case XDS_LDS:
		return &lds_reject;
	case XDS_RDS:
		return &rds_reject;
	case XDS_SDS:
	case XDS_VHDS:
	case XDS_PCDS:
	case XDS_TYPE_COUNT:
		break;
	}
	return NULL;
}

bool session_nacked(struct xds_session *s, struct xds_watch *w, const struct xds_request *r, struct err *e)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const Rpc__Status *error = PB_UNPACK(a, Rpc__Status, rpc__status, r->error.ptr, r->error.len, e);
	if (!error)
		return err_in(e, "error_detail");
	struct str text = str_of(error->message);
	struct metric *m = reject_metric(w->type);
	w->nacks++;
	w->reported = true;
	metric_add(&rejects, 1, xds_type_info(w->type)->name);
	if (m)
		metric_add(m, 1);
	struct source_ref *suspects;
	size_t n = nack_report(s, w, r->nonce, text, a, &suspects);
	free(w->nack);
	w->nack = xstrndup(text.ptr ? text.ptr : "", min_size(text.len, 2048));
	if (str_eqc(r->nonce, w->nonce)) {
		/* Of clusters and listeners Envoy takes the good ones; of others it may stop at the first bad one (VHDS, rule 4). */
		if (w->type != XDS_CDS && w->type != XDS_LDS && trial_takes(s, n))
			watch_take_back(w);
		watch_answered(w);
		trial_refused(s, w, suspects, n, str_sub(text, 0, 2048));
	}
	return true;
}

static void rescope(struct xds_session *s, enum scope_kind k)
{
	struct xds_scope *old = s->scope[k];
	enter_scope(s, k);
	for (unsigned t = 0; old != s->scope[k] && t < XDS_TYPE_COUNT; t++)
		holding_move(&s->watches[t].held[k], s->scope[k]);
	leave_scope(s, old, k, 1); /* who changes its scope does not come back */
}

void session_rescope(struct xds_session *s)
{
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		rescope(s, (enum scope_kind)k);
}

void session_model_changed(struct xds_session *s, bool scopes)
{
	if (!s->proxy)
		return;
	for (unsigned k = 0; scopes && k < SCOPE_KIND_COUNT; k++)
		if (s->scope_reads[k]->stale)
			rescope(s, (enum scope_kind)k);
	trial_model_changed(s);
}

/* Whether a wait that began at *since may go on. */
static bool wait_on(struct xds_session *s, uint64_t *since, uint64_t now_us)
{
	if (!*since)
		*since = now_us ? now_us : 1;
	uint64_t end = *since + XDS_HOLD_US;
	if (now_us >= end) {
		metric_add(&hold_expired, 1);
		return false;
	}
	if (!s->wake_us || end < s->wake_us)
		s->wake_us = end;
	return true;
}

static bool clusters_awaited(const struct xds_session *s)
{
	const struct xds_watch *cds = &s->watches[XDS_CDS];
	return cds->open && (cds->outstanding || watch_pending(cds));
}

static bool quiet(const struct xds_session *s, enum xds_type t)
{
	const struct xds_watch *w = &s->watches[t];
	return w->open ? !watch_pending(w) && !w->outstanding : !s->resumed;
}

/* Hosts that come before their RouteConfiguration are dropped; those of one are not mixed with those of another (VHDS, rule 3). */
static bool may_push_hosts(struct xds_session *s, const struct xds_watch *w, uint64_t now_us)
{
	if (w->outstanding || (!watch_pending(w) && !w->answer && !w->must))
		return false;
	if (s->watches[XDS_RDS].open && quiet(s, XDS_LDS) && quiet(s, XDS_RDS) && watch_has_all_routes(s))
		return true;
	return !wait_on(s, &s->hosts_us, now_us);
}

static bool may_push(struct xds_session *s, const struct xds_watch *w, uint64_t now_us)
{
	if (!w->open)
		return false;
	if (w->type == XDS_VHDS)
		return may_push_hosts(s, w, now_us);
	if (w->answer || w->must)
		return true;
	if (!watch_pending(w) || w->outstanding)
		return false;
	if ((w->type != XDS_LDS && w->type != XDS_RDS) || !clusters_awaited(s))
		return true;
	return !wait_on(s, &s->hold_us, now_us);
}

static bool may_remove(struct xds_session *s, const struct xds_watch *w, uint64_t now_us)
{
	if (!watch_gone(w) || w->outstanding)
		return false;
	if ((quiet(s, XDS_LDS) && quiet(s, XDS_RDS)) || !wait_on(s, &s->gone_us, now_us)) {
		s->resumed = false;
		return true;
	}
	return false;
}

static bool sent(struct xds_session *s, struct xds_watch *w, struct xds_response *out, uint64_t now_us)
{
	w->outstanding = true;
	s->trial.pushed = true;
	w->sent_us = now_us;
	w->pushes++;
	w->bytes += out->bytes;
	if (w->type == XDS_CDS)
		watch_follow_clusters(s);
	if (w->type == XDS_RDS)
		watch_follow_routes(s);
	if (w->type == XDS_VHDS)
		s->hosts_us = 0;
	return true;
}

bool session_next(struct xds_session *s, uint64_t now_us, struct xds_response *out)
{
	s->wake_us = 0;
	if (!s->proxy)
		return false;
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		struct xds_watch *w = &s->watches[t];
		if (may_push(s, w, now_us) && compose_changes(s, w, out))
			return sent(s, w, out, now_us);
	}
	struct xds_watch *cds = &s->watches[XDS_CDS];
	if (!clusters_awaited(s))
		s->hold_us = 0;
	if (may_remove(s, cds, now_us) && compose_removals(s, cds, out))
		return sent(s, cds, out, now_us);
	if (!watch_gone(cds))
		s->gone_us = 0;
	return trial_step(s) && session_next(s, now_us, out);
}
