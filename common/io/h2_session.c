/*
 * DOC: nghttp2's callbacks. They note what came and hand input to the streams; nothing here sends or resumes. DATA is sent without
 * copying: the provider only promises a length, and send_data moves references from the stream's queue to the connection's.
 *
 * Bounds: header bytes per block and CONTINUATION frames, SETTINGS entries, unanswered control frames and the rate of resets as
 * nghttp2 offers them; the receive windows are renewed as messages are consumed, so a paused stream stops its sender.
 */
#include "common/base/limits.h"
#include "common/base/metric.h"
#include "common/io/grpc_stream.h"
#include "common/io/scopes.h"

#define STREAM_WINDOW (4 << 20)
#define CONNECTION_WINDOW (16 << 20)
#define OUT_HIGH (1u << 20)
#define SETTINGS_MAX 32u
#define OUTBOUND_ACKS_MAX 1000u

static struct grpc_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static int after(const struct h2_conn *c)
{
	return c->closed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct h2_conn *c = ctx;
	if (!c->env->o.server || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct grpc_stream *s = stream_new(c->env, NULL, NULL);
	s->id = frame->hd.stream_id;
	s->submitted = true;
	stream_link(s, &c->streams, c);
	(void)nghttp2_session_set_stream_user_data(session, s->id, s);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t value_len, uint8_t flags, void *ctx)
{
	(void)flags;
	(void)ctx;
	struct grpc_stream *s = stream_of(session, frame->hd.stream_id);
	if (s && !stream_add_header(s, str_n(name, name_len), str_n(value, value_len)))
		s->headers_too_large = true;
	return 0;
}

static void headers_done(struct h2_conn *c, struct grpc_stream *s, const nghttp2_frame *frame)
{
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	if (s->headers_too_large) {
		stream_abort(s, GRPC_RESOURCE_EXHAUSTED, STR("more than 65536 bytes of headers"));
		return;
	}
	if (!c->env->o.server)
		stream_response_headers(s, end);
	else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		stream_open_server(s, end);
	else if (end)
		stream_input_end(s);
}

static void on_settings(struct h2_conn *c)
{
	if (c->up)
		return;
	c->up = true;
	if (c->env->owner && c->env->ops->up)
		c->env->ops->up(c->env->owner, c);
}

static void on_goaway(struct h2_conn *c, const nghttp2_goaway *g)
{
	struct str debug = str_n(g->opaque_data, g->opaque_data_len);
	cleanup(free_p) char *why = xasprintf("GOAWAY %s" STR_FMT STR_FMT, nghttp2_http2_strerror(g->error_code),
		debug.len ? 2 : 0, ": ", (int)min_size(debug.len, 200), debug.len ? debug.ptr : "");
	c->going = true;
	c->calm_down = g->error_code == NGHTTP2_ENHANCE_YOUR_CALM && str_eq(debug, STR("too_many_pings"));
	if (c->env->owner && c->env->ops->going)
		c->env->ops->going(c->env->owner, c, why);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct h2_conn *c = ctx;
	struct grpc_stream *s = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
	if (s)
		s->pins++;
	if (frame->hd.type == NGHTTP2_HEADERS && s)
		headers_done(c, s, frame);
	else if (frame->hd.type == NGHTTP2_DATA && s && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		stream_input_end(s);
	else if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
		on_settings(c);
	else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
		h2_conn_pong(c);
	else if (frame->hd.type == NGHTTP2_GOAWAY)
		on_goaway(c, &frame->goaway);
	if (s) {
		s->pins--;
		stream_free_if_done(s);
	}
	return after(c);
}

static int on_data_chunk(
	nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *ctx)
{
	(void)flags;
	struct h2_conn *c = ctx;
	struct grpc_stream *s = stream_of(session, id);
	if (!s) {
		(void)nghttp2_session_consume(session, id, len);
		return 0;
	}
	s->pins++;
	s->unconsumed += len;
	stream_input(s, data, len);
	if (!c->closed && !s->paused && s->unconsumed) {
		(void)nghttp2_session_consume(session, id, s->unconsumed);
		s->unconsumed = 0;
	}
	s->pins--;
	stream_free_if_done(s);
	return after(c);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *ctx)
{
	struct h2_conn *c = ctx;
	struct grpc_stream *s = stream_of(session, id);
	if (!s)
		return 0;
	(void)nghttp2_session_set_stream_user_data(session, id, NULL);
	if (s->unconsumed)
		(void)nghttp2_session_consume_connection(session, s->unconsumed);
	s->unconsumed = 0;
	stream_closed(s, error_code);
	return after(c);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct h2_conn *c = ctx;
	if (!c->env->o.server || frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	struct grpc_stream *s = stream_of(session, frame->hd.stream_id);
	if (s)
		s->trailers_sent = true;
	/* The client may still want to send; the call is over, so that it need not wait for its half-close. */
	if (nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
		(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *ctx)
{
	struct h2_conn *c = ctx;
	if (c->env->o.server || frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	struct grpc_stream *s = stream_of(session, frame->hd.stream_id);
	for (s = s ? s : c->streams; s && s->id != frame->hd.stream_id; s = s->next) {
	}
	if (!s)
		return 0;
	(void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
	stream_end(s, GRPC_UNAVAILABLE, str_of(nghttp2_strerror(error)));
	stream_closed(s, NGHTTP2_REFUSED_STREAM);
	return 0;
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *ctx)
{
	(void)session;
	(void)flags;
	struct h2_conn *c = ctx;
	outq_copy(&c->out, data, len);
	return (ssize_t)len;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
	nghttp2_data_source *source, void *ctx)
{
	(void)session;
	(void)frame;
	struct h2_conn *c = ctx;
	struct grpc_stream *s = source->ptr;
	outq_copy(&c->out, head, 9);
	outq_move(&c->out, &s->out, len);
	if (!s->out.bytes && !s->finishing) {
		s->want_writable = true;
		stream_mark(s);
	}
	/* The socket takes what there is before more is made. */
	return c->out.bytes >= OUT_HIGH ? NGHTTP2_ERR_PAUSE : 0;
}

static int on_error(nghttp2_session *session, int code, const char *text, size_t len, void *ctx)
{
	(void)session;
	struct h2_conn *c = ctx;
	log_debug(
		&grpc_log, "HTTP/2 error", KV("address", c->address), KV("code", code), KV("reason", str_n(text, len)));
	return 0;
}

static nghttp2_session_callbacks *callbacks_new(void)
{
	nghttp2_session_callbacks *cb = NULL;
	int bad = nghttp2_session_callbacks_new(&cb);
	assert(!bad);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
	nghttp2_session_callbacks_set_send_callback(cb, on_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
	nghttp2_session_callbacks_set_error_callback2(cb, on_error);
	return cb;
}

static nghttp2_option *options_new(void)
{
	nghttp2_option *o = NULL;
	int bad = nghttp2_option_new(&o);
	assert(!bad);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_reserved_remote_streams(o, 0);
	nghttp2_option_set_max_settings(o, SETTINGS_MAX);
	nghttp2_option_set_max_outbound_ack(o, OUTBOUND_ACKS_MAX);
	nghttp2_option_set_max_send_header_block_length(o, LIMIT_GRPC_HEADER_BYTES);
	return o;
}

bool h2_session_start(struct h2_conn *c, struct err *e)
{
	bool server = c->env->o.server;
	nghttp2_session_callbacks *cb = callbacks_new();
	nghttp2_option *o = options_new();
	nghttp2_mem *mem = h2_memory();
	int bad = server ? nghttp2_session_server_new3(&c->session, cb, c, o, mem)
			 : nghttp2_session_client_new3(&c->session, cb, c, o, mem);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(o);
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_GRPC_HEADER_BYTES},
		server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->env->o.max_streams}
		       : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	if (!bad)
		bad = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
	if (!bad)
		bad = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	return bad ? err_set(e, ERR_LIBRARY, "HTTP/2 session: %s", nghttp2_strerror(bad)) : true;
}
