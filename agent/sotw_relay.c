/*
 * DOC: A stream of Envoy's and one of pilot's, message for message. Nothing is kept: without pilot there is no answer, and when pilot's stream
 * ends, so does Envoy's, with the same status. Who reads slowly is waited for.
 */
#include "agent/sotw_relay.h"

#include <stdlib.h>

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
#define QUEUE_BYTES_MAX (4u << 20) /* unsent, before the other side is no longer read */

struct pair {
	struct grpc_stream *down, *up; /* NULL: has ended */
	bool down_paused, up_paused;
};

static void free_when_over(struct pair *p)
{
	if (!p->down && !p->up)
		free(p);
}

/* Passes a message on; true when its sender should pause. */
static bool pass(struct grpc_stream *to, const uint8_t *data, size_t len)
{
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(to, b);
	buf_unref(b);
	return grpc_stream_queued(to) > QUEUE_BYTES_MAX;
}

/* ---- pilot's side */

static void on_up_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct pair *p = grpc_stream_user(s);
	p->up_paused = p->down && pass(p->down, data, len);
	if (p->up_paused)
		grpc_stream_pause(s, true);
}

static void on_up_writable(struct grpc_stream *s)
{
	struct pair *p = grpc_stream_user(s);
	if (p->down && p->down_paused)
		grpc_stream_pause(p->down, p->down_paused = false);
}

static void on_up_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct pair *p = grpc_stream_user(s);
	p->up = NULL;
	if (p->down)
		grpc_stream_finish(p->down, status, STR_FMT, STR_ARG(message));
	free_when_over(p);
}

static const struct grpc_handler up_handler = {
	.on_message = on_up_message, .on_writable = on_up_writable, .on_close = on_up_close};

/* ---- Envoy's side */

static void on_open(struct grpc_stream *s, void *ctx)
{
	struct grpc_channel **channel = ctx;
	struct pair *p = xzalloc(sizeof(*p));
	p->down = s;
	grpc_stream_set_user(s, p);
	if (*channel && grpc_channel_connected(*channel))
		p->up = grpc_channel_call(*channel, ADS, NULL, 0, false, &up_handler, p);
	else
		grpc_stream_finish(s, GRPC_UNAVAILABLE, "pilot is not connected");
}

static void on_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct pair *p = grpc_stream_user(s);
	p->down_paused = p->up && pass(p->up, data, len);
	if (p->down_paused)
		grpc_stream_pause(s, true);
}

static void on_half_close(struct grpc_stream *s)
{
	const struct pair *p = grpc_stream_user(s);
	if (p->up)
		grpc_stream_finish(p->up, GRPC_OK, "%s", "");
}

static void on_writable(struct grpc_stream *s)
{
	struct pair *p = grpc_stream_user(s);
	if (p->up && p->up_paused)
		grpc_stream_pause(p->up, p->up_paused = false);
}

static void on_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct pair *p = grpc_stream_user(s);
	p->down = NULL;
	if (p->up)
		grpc_stream_cancel(p->up); /* on_up_close() frees */
	else
		free(p);
}

static const struct grpc_handler handler = {on_open, on_message, on_half_close, on_writable, on_close};

void sotw_relay_route(struct grpc_server *s, struct grpc_channel **channel)
{
	grpc_server_route(s, ADS, &handler, channel);
}
