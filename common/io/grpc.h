/*
 * gRPC over HTTP/2 (nghttp2), server and client, unary and streaming, plaintext or TLS, TCP or Unix sockets.
 * Everything runs on one loop's thread. Messages are byte strings: (un)packing is the caller's.
 *
 * A stream is one call. It lives until on_close(), which comes exactly once and last, on both sides; after it the pointer is
 * dead. Sending never blocks: data waits in the stream's queue, in shared buffers that are written without copying;
 * grpc_stream_queued() says how much waits, on_writable() comes when the queue has become empty. A queue beyond
 * LIMIT_GRPC_QUEUE_BYTES resets the stream with RESOURCE_EXHAUSTED.
 *
 * Rules followed: gRPC over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md), RFC 9113; grpc-timeout; percent-encoded grpc-message;
 * trailers-only for immediate errors; compressed messages are refused with UNIMPLEMENTED; GOAWAY at drain and at
 * max_connection_age with jitter; HTTP/2 PING keepalive both ways.
 */
#pragma once

#include "common/base/str.h"
#include "common/io/buf.h"
#include "common/io/loop.h"
#include "common/io/tls.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_UNAUTHENTICATED = 16,
};
const char *grpc_status_name(enum grpc_status s);

struct grpc_stream;

struct grpc_handler {
	/* Server only: a new call; may grpc_stream_set_user(), or refuse with grpc_stream_finish(). */
	void (*on_open)(struct grpc_stream *s, void *ctx);
	void (*on_message)(struct grpc_stream *s, const uint8_t *data, size_t len); /* borrowed for the call */
	void (*on_half_close)(struct grpc_stream *s); /* server: the client has sent its last */
	void (*on_writable)(struct grpc_stream *s);
	/* Last call. Client: the server's status. Server: GRPC_OK after finish(), else why it ended (CANCELLED, UNAVAILABLE ...). */
	void (*on_close)(struct grpc_stream *s, enum grpc_status status, struct str message);
};

void grpc_stream_set_user(struct grpc_stream *s, void *user);
void *grpc_stream_user(const struct grpc_stream *s);
void *grpc_stream_context(const struct grpc_stream *s); /* server: the ctx of grpc_server_route() */
void grpc_stream_send(struct grpc_stream *s, struct buf *message); /* takes its own reference */
void grpc_stream_send_slices(struct grpc_stream *s, const struct buf_slice *slices, size_t n); /* one message */
size_t grpc_stream_queued(const struct grpc_stream *s);
/* Server: sends trailers after what is queued. Client: half-closes. */
void grpc_stream_finish(struct grpc_stream *s, enum grpc_status status, const char *fmt, ...) PRINTF_LIKE(3, 4);
void grpc_stream_cancel(struct grpc_stream *s); /* client: RST_STREAM(CANCEL); on_close follows */
struct str grpc_stream_header(const struct grpc_stream *s, const char *name); /* server: request metadata, or empty */
const struct tls_peer *grpc_stream_peer(const struct grpc_stream *s); /* NULL on plaintext */
const char *grpc_stream_address(const struct grpc_stream *s); /* "10.0.0.1:4711", "unix" */
/* Backpressure on input: while paused no more on_message (HTTP/2 window is not renewed). */
void grpc_stream_pause(struct grpc_stream *s, bool paused);

/* ---- server */
struct grpc_server;
struct grpc_server_options {
	uint64_t max_connection_age_ms; /* 0: none; jittered by 10 % */
	uint64_t max_connection_grace_ms; /* after GOAWAY by age, streams are ended */
	uint64_t keepalive_ms; /* PING after this much silence; 0: 30 s */
	uint64_t keepalive_timeout_ms; /* 0: 10 s */
	size_t max_message_bytes; /* 0: LIMIT_GRPC_MESSAGE_BYTES */
	size_t max_connections; /* 0: LIMIT_GRPC_CONNECTIONS */
	unsigned max_streams; /* per connection; 0: LIMIT_GRPC_CONCURRENT_STREAMS */
};
struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_server_options *o);
/* path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources" */
void grpc_server_route(struct grpc_server *s, const char *path, const struct grpc_handler *h, void *ctx);
/* address as addr.h; tls NULL = plaintext. May be called several times. *bound_port gets the port (for ":0"). */
bool grpc_server_listen(struct grpc_server *s, const char *address, struct tls_context *tls, uint16_t *bound_port,
	struct err *e) MUST_CHECK;
/* Takes an accepted connection from another thread's listener (pilot's workers). */
void grpc_server_adopt(struct grpc_server *s, int fd, struct tls_context *tls);
void grpc_server_on_accept(
	struct grpc_server *s, bool (*give_away)(void *ctx, int fd, struct tls_context *tls), void *ctx);
/* GOAWAY on all, no new connections; done() when the last stream ended or grace_ms passed. */
void grpc_server_drain(struct grpc_server *s, uint64_t grace_ms, void (*done)(void *ctx), void *ctx);
void grpc_server_free(struct grpc_server *s); /* closes everything; on_close comes for what is open */
void grpc_server_flush(struct grpc_server *s); /* writes what is queued now, not before the loop waits; no on_close */
size_t grpc_server_connections(const struct grpc_server *s);
/* One JSON object per connection, comma-separated, for the debug page. */
void grpc_server_debug(const struct grpc_server *s, struct strbuf *json);

/* ---- client */
struct grpc_channel;
struct grpc_channel_options {
	const char *target; /* "host:port" (resolved each time it connects), "unix:/path" */
	struct tls_context *tls; /* NULL: plaintext */
	const struct addr *source; /* to connect from, copied; NULL: any */
	uint64_t backoff_min_ms; /* 0: 200; doubles with jitter up to backoff_max_ms (0: 10 s) */
	uint64_t backoff_max_ms;
	uint64_t connect_timeout_ms; /* 0: 5 s */
	uint64_t keepalive_ms, keepalive_timeout_ms; /* 0: 30 s, 10 s */
	uint64_t idle_disconnect_ms; /* 0: stay connected */
	size_t max_message_bytes;
	void (*on_state)(void *ctx, bool connected, const char *reason);
	void *ctx;
	bool eager; /* connect at once and keep reconnecting; else on the first call */
};
struct grpc_channel *grpc_channel_new(struct loop *l, const struct grpc_channel_options *o);
void grpc_channel_free(struct grpc_channel *c); /* open calls end with UNAVAILABLE */
bool grpc_channel_connected(const struct grpc_channel *c);
/* Opens a call; when not connected it waits for the connection unless fail_fast, then ends with UNAVAILABLE.
 * headers: "name", "value", ..., NULL. timeout_ms 0: none. Never NULL. */
struct grpc_stream *grpc_channel_call(struct grpc_channel *c, const char *path, const char *const *headers,
	uint64_t timeout_ms, bool fail_fast, const struct grpc_handler *h, void *user);
/* Unary: done() gets the one response, or the status that ended it (data NULL). Returns a handle for grpc_stream_cancel(). */
struct grpc_stream *grpc_channel_unary(struct grpc_channel *c, const char *path, const char *const *headers,
	uint64_t timeout_ms, struct buf *request,
	void (*done)(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len), void *ctx);
