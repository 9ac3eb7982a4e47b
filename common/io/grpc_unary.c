/*
 * DOC: A call with one request and one response, on top of a stream. The response is kept until the status has come, because only
 * status OK makes it one.
 */
#include <stdlib.h>

#include "common/io/grpc.h"

struct unary {
	void (*done)(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len);
	void *ctx;
	struct buf *response;
	bool too_many;
};

static void on_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct unary *u = grpc_stream_user(s);
	u->too_many = u->too_many || u->response;
	if (!u->response)
		u->response = buf_copy(data, len);
}

static void on_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct unary *u = grpc_stream_user(s);
	if (status == GRPC_OK && u->too_many)
		u->done(u->ctx, GRPC_INTERNAL, STR("more than one response to a unary call"), NULL, 0);
	else if (status == GRPC_OK && !u->response)
		u->done(u->ctx, GRPC_INTERNAL, STR("status OK without a response"), NULL, 0);
	else if (status == GRPC_OK)
		u->done(u->ctx, status, message, u->response->data, u->response->len);
	else
		u->done(u->ctx, status, message, NULL, 0);
	buf_unref(u->response);
	free(u);
}

static const struct grpc_handler unary_handler = {.on_message = on_message, .on_close = on_close};

struct grpc_stream *grpc_channel_unary(struct grpc_channel *c, const char *path, const char *const *headers,
	uint64_t timeout_ms, struct buf *request,
	void (*done)(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len), void *ctx)
{
	struct unary *u = xzalloc(sizeof(*u));
	*u = (struct unary){.done = done, .ctx = ctx};
	/* Without a deadline it would wait for a connection for ever; with one it may as well. */
	struct grpc_stream *s = grpc_channel_call(c, path, headers, timeout_ms, timeout_ms == 0, &unary_handler, u);
	grpc_stream_send(s, request);
	grpc_stream_finish(s, GRPC_OK, NULL);
	return s;
}
