/*
 * One ADS stream without its socket. session_recv() takes a request; session_next() says what to send now, until it returns false.
 * Both protocols, state of the world and delta, end in the same state: per type a watch (watch.h) that knows what the client holds,
 * so what differs between them is only how requests are read (sotw.c, delta.c) and how an answer is written (compose.c).
 *
 * Time is an argument, microseconds of the monotonic clock. Owner thread: the worker's.
 */
#pragma once

#include "common/base/err.h"
#include "pilot/xds/engine.h"

struct xds_isolated;

/* Why a client refused a response. */
struct xds_nack {
	enum xds_type type;
	const struct proxy *proxy;
	struct str nonce;
	struct str text; /* the client's words */
	const struct str *resources; /* named in the text, else what was new in the response */
	size_t n_resources;
	const struct source_ref
		*objects; /* that they were made from, and that changed since the client last accepted */
	size_t n_objects;
	bool isolated; /* the object is refused by itself, and hidden from the proxy until it changes */
};

struct session_ops {
	/* May this proxy be served on this stream? Fills in what the stream proves of it. NULL: yes. */
	bool (*admit)(void *ctx, struct proxy *p, struct err *e);
	/* A refusal; text empty: what was reported of the type holds no more. May be NULL. */
	void (*on_nack)(void *ctx, const struct xds_nack *n);
	/* Why keys of Secrets are withheld from the proxy, when that changes; empty: they no longer are. May be NULL. */
	void (*on_withheld)(void *ctx, struct str why);
	/* What the proxy's agent says of its workload (Istio's HealthInformation). May be NULL. */
	void (*on_health)(void *ctx, bool healthy, struct str why);
};

struct xds_response {
	enum xds_type type;
	struct buf *header; /* owned */
	struct buf_slice *pieces; /* the header and then resources; borrowed until the session is used again */
	size_t n_pieces, cap_pieces;
	size_t resources, removed;
	size_t bytes;
};

struct xds_session *session_new(struct engine *e, enum xds_mode mode, const struct session_ops *ops, void *ctx);
void session_free(struct xds_session *s, uint64_t now_us);
/* ERR_PEER: not understood; ERR_LIMIT; ERR_DENIED: not admitted; ERR_BUG: no content yet. After an error the stream must be ended. */
bool session_recv(struct xds_session *s, const void *data, size_t len, uint64_t now_us, struct err *e) MUST_CHECK;
/* Fills *out (zeroed at first use, reused afterwards). */
bool session_next(struct xds_session *s, uint64_t now_us, struct xds_response *out) MUST_CHECK;
void xds_response_done(struct xds_response *r);
/* When session_next() must be called again even without an event; 0: never. */
uint64_t session_wake_us(const struct xds_session *s);

const struct proxy *session_proxy(const struct xds_session *s); /* NULL before the first request */
/*
 * The newest model all of whose configuration the client is known to have accepted (level.c); 0: it has not accepted its first yet. What it
 * refuses by itself and is hidden from it is told by session_isolated().
 */
uint64_t session_level(struct xds_session *s);
const struct xds_isolated *session_isolated(const struct xds_session *s, size_t *n);
const char *session_refusal(
	const struct xds_session *s); /* the client's words, while its last answer of a type is a refusal; NULL */
/* For the engine. scopes: some proxies are in other scopes now. */
void session_model_changed(struct xds_session *s, bool scopes);

/* ---- debug pages (debug.c) */
/* {"proxy", "proxy_type", "cluster_id", "istio_version", "protocol", "connected_us", "cluster_status": {"cds": {...}, ...}} */
void session_debug_sync(const struct xds_session *s, struct strbuf *json);
/* {"proxy": id, "cds": [{"name", "version", "resource": {...}}], ...} of what was sent; bodies false: without "resource" */
void session_debug_dump(struct xds_session *s, bool bodies, struct strbuf *json);
/* "", the whole node id, "name.namespace" or the name alone. */
bool session_is(const struct xds_session *s, struct str proxy);
