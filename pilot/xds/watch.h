/*
 * The inside of a session: one watch per type. Only the files of pilot/xds include this.
 *
 * What the client holds of a type is in a holding (holding.h) per scope kind, shared with the clients that hold the same; the watch has
 * what is the client's own: the nonce, what is outstanding, what was refused.
 */
#pragma once

#include "pilot/xds/holding.h"
#include "pilot/xds/session.h"
#include "pilot/xds/trial.h"

#define XDS_NONCE_TEXT 48

struct xds_watch {
	enum xds_type type;
	bool open; /* a request of this type came */
	bool wildcard;
	bool legacy; /* wildcard because the first request named nothing */
	bool answer; /* a question waits: it is answered whatever is outstanding */
	bool must; /* ... even when there is nothing to say */
	bool outstanding;
	bool resumed; /* the first request had a version of each name */
	bool reported; /* a refusal that still stands */
	struct xds_holding *held[SCOPE_KIND_COUNT]; /* NULL: nothing */
	VEC(struct xds_answer *) in_flight; /* the responses that are not answered; a use each */
	char nonce[XDS_NONCE_TEXT]; /* of the last response, "" before */
	char sent[XDS_VERSION_TEXT], acked[XDS_VERSION_TEXT];
	uint64_t sent_model,
		acked_model; /* versions that the last response, and the last accepted one, were made from */
	char *nack; /* text, when the last answer was a refusal */
	uint64_t flight_us; /* oldest change in what is outstanding; 0: none */
	uint64_t sent_us;
	uint64_t pushes, nacks, bytes;
};

struct xds_session {
	struct engine *engine;
	size_t place; /* in the engine's list */
	enum xds_mode mode;
	const struct session_ops *ops;
	void *ctx;
	struct arena *arena; /* the proxy */
	struct proxy *proxy;
	struct xds_scope *scope[SCOPE_KIND_COUNT];
	struct scope_reads *scope_reads[SCOPE_KIND_COUNT];
	struct xds_watch watches[XDS_TYPE_COUNT];
	char *withheld; /* why its account gets no keys of Secrets, NULL: that was not said */
	bool resumed; /* came with clusters: it has listeners and routes, too, and will say so */
	uint64_t nonces;
	uint64_t hold_us; /* since when a push waits for clusters, and removals for routes; 0: none */
	uint64_t gone_us;
	uint64_t hosts_us; /* since when virtual hosts wait for their routes */
	uint64_t wake_us;
	uint64_t connected_us;
	uint64_t level; /* of the last session_level() */
	struct xds_trial trial;
};

/* ---- watch.c */
bool watch_pending(const struct xds_watch *w);
bool watch_gone(const struct xds_watch *w); /* removals wait */
uint64_t watch_sum(const struct xds_watch *w); /* the version of what the client holds */
size_t watch_len(const struct xds_watch *w, size_t *named);
uint64_t watch_changed_us(const struct xds_watch *w);
void watch_done(struct xds_watch *w);
void watch_answered(struct xds_watch *w);
/* A request's names go into the holdings; sets what must be answered. */
void watch_request(struct xds_session *s, struct xds_watch *w, const struct xds_request *r, bool first);
/* Endpoints must follow clusters that were sent and not answered. */
void watch_follow_clusters(struct xds_session *s);

/* Virtual hosts must follow routes that were sent; whether the client has all routes that hosts may belong to. */
void watch_follow_routes(struct xds_session *s);
bool watch_has_all_routes(struct xds_session *s);

/* ---- session.c */
struct xds_watch *session_watch(struct xds_session *s, struct str type_url);
void session_acked(struct xds_session *s, struct xds_watch *w, uint64_t now_us);
/* Enters the scopes that the proxy belongs in now. */
void session_rescope(struct xds_session *s);
bool session_nacked(struct xds_session *s, struct xds_watch *w, const struct xds_request *r, struct err *e) MUST_CHECK;

/* ---- sotw.c, delta.c */
bool sotw_recv(struct xds_session *s, const struct xds_request *r, uint64_t now_us, struct err *e) MUST_CHECK;
bool delta_recv(struct xds_session *s, const struct xds_request *r, uint64_t now_us, struct err *e) MUST_CHECK;
/* ---- compose.c: false: there was nothing to say. */
bool compose_changes(struct xds_session *s, struct xds_watch *w, struct xds_response *out) MUST_CHECK;
bool compose_removals(struct xds_session *s, struct xds_watch *w, struct xds_response *out) MUST_CHECK;
/* The client took nothing, or not all, of what is in flight: it is sent again. */
void watch_take_back(struct xds_watch *w);
/* ---- nack.c */
/* Says who refused what. Objects that may be the cause and may be hidden go to *suspects, in the arena. */
size_t nack_report(struct xds_session *s, struct xds_watch *w, struct str nonce, struct str text, struct arena *a,
	struct source_ref **suspects);
