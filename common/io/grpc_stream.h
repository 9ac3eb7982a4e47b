/*
 * Internal: a call, of a server or a client. It is freed when its owner has been told of its end (`told`), nghttp2 has let go of it
 * (`gone`), no code of ours is in its callback (`pins`) and it stands in no list of work (`is_dirty`).
 */
#pragma once

#include "common/io/grpc_frame.h"
#include "common/io/h2.h"

struct grpc_stream {
	struct h2_env *env;
	struct h2_conn *conn; /* NULL: waits in a channel, or the connection is gone */
	struct grpc_stream **list; /* the list it stands in: its connection's, or a channel's waiting calls */
	struct grpc_stream *prev, *next, *dirty_next, *ended_next;
	const struct grpc_handler *handler;
	void *user, *ctx;
	struct timer *deadline;
	struct outq out;
	struct grpc_reader reader;
	struct strbuf held; /* input that came while paused */
	size_t unconsumed; /* of the HTTP/2 window */
	struct strbuf headers; /* name NUL value NUL ...; from the peer, trailers included */
	char *path; /* client: of the request; server: NULL */
	char **request; /* client: metadata until it is submitted */
	char *message; /* to be sent (server) or told */
	char *address; /* survives the connection */
	uint64_t timeout_ms;
	int32_t id;
	unsigned pins;
	uint32_t rst;
	uint8_t status; /* enum grpc_status to be sent or told */
	bool fail_fast, submitted, responded, finishing, trailers_sent, paused, feeding, remote_end, half_told;
	bool is_dirty, over, told, gone, want_rst, want_writable, headers_too_large, opened;
	uint16_t http_code; /* client: :status */
};

/* ---- streams (grpc_stream.c) */
struct grpc_stream *stream_new(struct h2_env *env, const struct grpc_handler *h, void *user);
void stream_link(struct grpc_stream *s, struct grpc_stream **list, struct h2_conn *c); /* c NULL: a waiting list */
void stream_unlink(struct grpc_stream *s);
void stream_mark(struct grpc_stream *s);
void stream_free_if_done(struct grpc_stream *s);
/* The owner will be told this; the first call decides. */
void stream_end(struct grpc_stream *s, enum grpc_status status, struct str message);
/* The same, and the peer learns of it: trailers if nothing is in the way, else RST_STREAM. */
void stream_abort(struct grpc_stream *s, enum grpc_status status, struct str message);
void stream_input(struct grpc_stream *s, const uint8_t *data, size_t len);
void stream_input_end(struct grpc_stream *s); /* END_STREAM */
bool stream_add_header(struct grpc_stream *s, struct str name, struct str value);
struct str stream_header(const struct grpc_stream *s, const char *name);
void stream_start_deadline(struct grpc_stream *s, uint64_t ms);
void stream_closed(struct grpc_stream *s, uint32_t http2_error); /* nghttp2 has let go of it */
void stream_lost(struct grpc_stream *s, struct str why); /* its connection is gone */

/* grpc_wire.c: headers and trailers to and from HTTP/2 */
void stream_open_server(struct grpc_stream *s, bool end_stream);
void stream_response_headers(struct grpc_stream *s, bool end_stream);
void stream_end_by_trailers(struct grpc_stream *s); /* client: what the server's trailers say */
void stream_submit(struct grpc_stream *s); /* what nghttp2 is to know: request, response, more data, reset */
void stream_flush(struct grpc_stream *s); /* the same, then input held back and on_writable */
