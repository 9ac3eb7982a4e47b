/*
 * Internal: HTTP/2 connections and gRPC streams, shared by server and channel.
 *
 * h2_env: what the connections of one server or channel have in common: options, the list of connections with work to do, the
 * coarse clock, and the calls that have ended but whose owner has not been told. h2_conn: a socket, an nghttp2 session and its
 * streams. Callbacks of nghttp2 only note what is to be done; everything that sends happens in env's flush, before the loop waits.
 *
 * Lifetimes: env is counted (owner, each connection, running code). A connection that is closed from inside its own callbacks is
 * taken apart when they have returned (`busy`).
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "common/io/grpc.h"
#include "common/io/net.h"
#include "common/io/outq.h"

struct h2_conn;
struct h2_env;

struct h2_options {
	bool server;
	uint64_t keepalive_ms, keepalive_timeout_ms;
	uint64_t setup_timeout_ms; /* TLS handshake and the peer's SETTINGS */
	uint64_t max_age_ms, grace_ms;
	size_t max_message_bytes;
	unsigned max_streams;
};

struct h2_ops {
	/* Server: who handles this path; NULL: nobody. */
	const struct grpc_handler *(*route)(void *owner, struct str path, void **ctx);
	void (*up)(void *owner, struct h2_conn *c); /* the peer's SETTINGS have come */
	void (*going)(void *owner, struct h2_conn *c, const char *why); /* GOAWAY: no new calls here */
	void (*down)(void *owner, struct h2_conn *c, const char *why); /* closed; c is only a name now */
	void (*idle)(void *owner); /* the last stream has ended */
	void (*requeue)(
		void *owner, struct grpc_stream *s); /* client: not sent before GOAWAY; find it another connection */
};

struct h2_env {
	unsigned refs;
	struct loop *loop;
	const struct h2_ops *ops;
	void *owner; /* NULL when it has been freed */
	struct h2_options o;
	struct h2_conn *conns;
	size_t n_conns, n_streams;
	uint64_t bytes_in, bytes_out; /* not yet counted */
	struct h2_conn *dirty, *dirty_last; /* connections with work to do, first come first served */
	struct grpc_stream *ended, *ended_last;
	struct before_wait *before;
	void *idle; /* uv_idle_t: keeps the loop from waiting while there is work */
	bool idle_on;
	struct timer *tick;
};

struct h2_conn {
	struct h2_env *env;
	struct h2_conn *prev, *next, *dirty_next;
	struct net net;
	struct watch *watch;
	nghttp2_session *session;
	struct outq out;
	struct grpc_stream *streams; /* all that nghttp2 knows */
	size_t n_streams;
	struct grpc_stream *dirty_streams, *dirty_last;
	char *address;
	char *authority; /* client */
	unsigned busy;
	bool is_dirty, tls_ready, up, closed, blocked, read_again;
	bool going; /* GOAWAY received */
	bool draining, last_goaway_sent; /* GOAWAY sent */
	bool calm_down; /* the peer finds our PINGs too many */
	uint64_t opened_ms, heard_ms, ping_ms, drain_ms, end_streams_ms;
	uint64_t age_ms; /* this connection's jittered share of max_age_ms */
	uint64_t bytes_in, bytes_out;
};

/* ---- env */
struct h2_env *h2_env_new(struct loop *l, const struct h2_options *o, const struct h2_ops *ops, void *owner);
void h2_env_close(
	struct h2_env *env, const char *why); /* closes all connections, tells all; the owner is gone after it */
void h2_env_ref(struct h2_env *env);
void h2_env_unref(struct h2_env *env);
void h2_env_tell_ended(struct h2_env *env);
void h2_env_wake(struct h2_env *env);
void h2_env_flush(struct h2_env *env); /* what is marked, now */

/* ---- connections */
/* Takes the socket. The TLS context may be NULL. */
struct h2_conn *h2_conn_new(
	struct h2_env *env, int fd, struct tls_context *tls, const char *server_name, const char *address);
void h2_conn_close(struct h2_conn *c, const char *why);
void h2_conn_mark(struct h2_conn *c);
void h2_conn_pin(struct h2_conn *c); /* while code of ours may call back */
void h2_conn_unpin(struct h2_conn *c); /* takes it apart when it was closed meanwhile */
void h2_conn_flush(struct h2_conn *c);
/* GOAWAY now; streams that still run after grace_ms (0: never) are ended with UNAVAILABLE. */
void h2_conn_drain(struct h2_conn *c, uint64_t grace_ms);
void h2_conn_tick(struct h2_conn *c, uint64_t now);
void h2_conn_pong(struct h2_conn *c); /* the answer to our PING */
void h2_conn_debug(const struct h2_conn *c, struct strbuf *json);

/* h2_memory.c: where sessions take their memory from */
nghttp2_mem *h2_memory(void);
/* h2_session.c: nghttp2's side */
bool h2_session_start(struct h2_conn *c, struct err *e) MUST_CHECK;
