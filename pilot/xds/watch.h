/*
 * The inside of a session: one watch per type. Only the files of pilot/xds include this.
 *
 * Invariants: slots[] holds every resource that the client subscribed to by name, or that is in its wildcard's list, or that it
 * still holds; each with the version last sent. A slot that may differ from the model is in `dirty` with its bit set.
 */
#pragma once

#include "pilot/xds/session.h"
#include "pilot/xds/slots.h"
#include "xds/discovery.pb-c.h"

#define XDS_NONCE_TEXT 48

typedef VEC(struct xds_entry *) xds_entry_list; /* with a use each */

struct xds_watch {
	enum xds_type type;
	bool open; /* a request of this type came */
	bool wildcard;
	bool legacy; /* wildcard because the first request named nothing */
	bool answer; /* a question waits: it is answered whatever is outstanding */
	bool must; /* ... even when there is nothing to say */
	bool names_dirty, all_dirty;
	uint64_t names_generation[SCOPE_KIND_COUNT];
	struct xds_slots slots;
	size_t named; /* slots with the bit */
	uint64_t sum; /* of names and versions that the client holds: the version of a state of the world */
	xds_entry_list dirty;
	xds_entry_list gone; /* CDS: removals that wait until nothing uses the clusters */
	xds_entry_list in_flight; /* what was new in the responses that are not answered */
	bool outstanding;
	char nonce[XDS_NONCE_TEXT]; /* of the last response, "" before */
	char sent[XDS_VERSION_TEXT], acked[XDS_VERSION_TEXT];
	char *nack; /* text, when the last answer was a refusal */
	uint64_t changed_us; /* oldest change not sent yet; 0: none */
	uint64_t flight_us; /* ... of what is outstanding */
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
	struct read_keys scope_reads[SCOPE_KIND_COUNT];
	struct xds_watch watches[XDS_TYPE_COUNT];
	uint64_t nonces;
	uint64_t hold_us; /* since when a push waits for clusters, and removals for routes; 0: none */
	uint64_t gone_us;
	uint64_t wake_us;
	uint64_t connected_us;
};

static inline bool watch_pending(const struct xds_watch *w)
{
	return w->dirty.len || w->all_dirty || w->names_dirty;
}

/* ---- watch.c */
void entry_list_add(xds_entry_list *l, struct xds_entry *e); /* takes a use of its own */
void entry_list_clear(xds_entry_list *l);
void watch_done(struct xds_watch *w);
void watch_mark(struct xds_watch *w, struct xds_slot *slot);
void watch_set_version(struct xds_watch *w, struct xds_slot *slot, uint64_t version);
void watch_drop(struct xds_watch *w, struct xds_slot *slot);
/* The slot of a name, made when absent. */
struct xds_slot *watch_slot(struct xds_session *s, struct xds_watch *w, struct str name);
struct xds_slot *watch_peek(struct xds_session *s, struct xds_watch *w, struct str name);
bool watch_name(
	struct xds_session *s, struct xds_watch *w, struct str name, struct xds_slot **slot, struct err *e) MUST_CHECK;
void watch_unname(struct xds_watch *w, struct xds_slot *slot);
void watch_set_wildcard(struct xds_watch *w, bool on);
void watch_refresh_names(struct xds_session *s, struct xds_watch *w);
struct xds_resource *watch_current(const struct xds_slot *slot); /* NULL: not there, or not subscribed to any more */
/* The scope of a session changed: its slots move to the entries of the new one, versions stay. */
void watch_move(struct xds_session *s, struct xds_watch *w, const struct xds_scope *from);
/* Endpoints must follow a cluster that was sent. */
void watch_follow_clusters(struct xds_session *s, const xds_entry_list *clusters);
/* What the client would hold after a full answer. */
uint64_t watch_full_sum(struct xds_watch *w);

/* ---- session.c */
struct xds_watch *session_watch(struct xds_session *s, struct str type_url);
void session_acked(struct xds_session *s, struct xds_watch *w, uint64_t now_us);
void session_nacked(struct xds_session *s, struct xds_watch *w, struct str nonce, const Rpc__Status *error);
bool session_attach(struct xds_session *s, const Core__Node *node, struct err *e) MUST_CHECK;

/* ---- sotw.c, delta.c */
bool sotw_recv(struct xds_session *s, const Ads__DiscoveryRequest *r, uint64_t now_us, struct err *e) MUST_CHECK;
bool delta_recv(struct xds_session *s, const Ads__DeltaDiscoveryRequest *r, uint64_t now_us, struct err *e) MUST_CHECK;
/* ---- compose.c: false: there was nothing to say. */
bool compose_changes(struct xds_session *s, struct xds_watch *w, struct xds_response *out) MUST_CHECK;
bool compose_removals(struct xds_session *s, struct xds_watch *w, struct xds_response *out) MUST_CHECK;
/* ---- nack.c */
void nack_report(struct xds_session *s, struct xds_watch *w, struct str nonce, struct str text);
