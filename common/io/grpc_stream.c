/*
 * DOC: A call: its queue, its input, its end. What the owner asks for (send, finish, cancel, pause) is noted and the stream marked;
 * grpc_wire.c turns that into HTTP/2 when the connection is flushed. So every function here may be called from any callback.
 *
 * The end is decided once, by stream_end(); the owner hears of it from the environment's flush, never from inside the function it
 * called. After that nghttp2 may still hold the stream (a reset that waits to be written): it lives on without an owner.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/metric.h"
#include "common/io/grpc_stream.h"
#include "common/io/scopes.h"

METRIC(streams_gauge, GAUGE, "grpc_server_streams", "open calls at gRPC servers", NULL);

struct grpc_stream *stream_new(struct h2_env *env, const struct grpc_handler *h, void *user)
{
	struct grpc_stream *s = xzalloc(sizeof(*s));
	s->env = env;
	h2_env_ref(env);
	env->n_streams++;
	s->handler = h;
	s->user = user;
	if (env->o.server)
		metric_add(&streams_gauge, 1);
	return s;
}

void stream_link(struct grpc_stream *s, struct grpc_stream **list, struct h2_conn *c)
{
	s->list = list;
	s->conn = c;
	s->prev = NULL;
	s->next = *list;
	if (s->next)
		s->next->prev = s;
	*list = s;
	if (c)
		c->n_streams++;
}

void stream_unlink(struct grpc_stream *s)
{
	if (!s->list)
		return;
	if (s->prev)
		s->prev->next = s->next;
	else
		*s->list = s->next;
	if (s->next)
		s->next->prev = s->prev;
	if (s->conn) {
		s->conn->n_streams--;
		free(s->address);
		s->address = s->told ? NULL : xstrdup(s->conn->address);
	}
	s->list = NULL;
	s->conn = NULL;
	s->prev = s->next = NULL;
}

void stream_mark(struct grpc_stream *s)
{
	struct h2_conn *c = s->conn;
	if (!c || c->closed)
		return;
	if (!s->is_dirty) {
		s->is_dirty = true;
		s->dirty_next = NULL;
		if (c->dirty_last)
			c->dirty_last->dirty_next = s;
		else
			c->dirty_streams = s;
		c->dirty_last = s;
	}
	h2_conn_mark(c);
}

static void drop_queues(struct grpc_stream *s)
{
	outq_done(&s->out);
	strbuf_done(&s->held);
	grpc_reader_done(&s->reader);
}

static void free_request(struct grpc_stream *s)
{
	for (char **p = s->request; p && *p; p++)
		free(*p);
	free(s->request);
	s->request = NULL;
}

void stream_free_if_done(struct grpc_stream *s)
{
	if (!s->told || !s->gone || s->pins || s->is_dirty)
		return;
	stream_unlink(s);
	drop_queues(s);
	free_request(s);
	strbuf_done(&s->headers);
	timer_free(s->deadline);
	free(s->path);
	free(s->message);
	free(s->address);
	if (s->env->o.server)
		metric_add(&streams_gauge, -1);
	h2_env_unref(s->env);
	free(s);
}

static void set_result(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	char *copy = xstrndup(message.ptr ? message.ptr : "", message.len);
	free(s->message);
	s->message = copy;
	s->status = (uint8_t)status;
}

void stream_end(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	if (s->over)
		return;
	s->over = true;
	set_result(s, status, message);
	timer_free(take(s->deadline));
	if (!s->submitted) { /* nothing of it is on the wire */
		s->gone = true;
		if (!s->is_dirty) /* else it leaves its connection when that is flushed */
			stream_unlink(s);
	}
	struct h2_env *env = s->env;
	s->ended_next = NULL;
	if (env->ended_last)
		env->ended_last->ended_next = s;
	else
		env->ended = s;
	env->ended_last = s;
	h2_env_wake(env);
}

/* What RST_STREAM says; the mapping back is grpc_status_of_rst(). */
static uint32_t rst_code(enum grpc_status status)
{
	switch (status) {
	case GRPC_RESOURCE_EXHAUSTED:
		return NGHTTP2_ENHANCE_YOUR_CALM;
	case GRPC_UNAVAILABLE:
		return NGHTTP2_REFUSED_STREAM;
	case GRPC_PERMISSION_DENIED:
		return NGHTTP2_INADEQUATE_SECURITY;
	case GRPC_INTERNAL:
	case GRPC_UNKNOWN:
		return NGHTTP2_INTERNAL_ERROR;
	case GRPC_OK:
	case GRPC_CANCELLED:
	case GRPC_INVALID_ARGUMENT:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_NOT_FOUND:
	case GRPC_FAILED_PRECONDITION:
	case GRPC_UNIMPLEMENTED:
	case GRPC_UNAUTHENTICATED:
		break;
	}
	return NGHTTP2_CANCEL;
}

void stream_abort(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	if (s->over)
		return;
	/* Trailers tell more than a reset, but they cannot overtake what is queued. */
	bool trailers = s->env->o.server && !s->finishing && !s->out.bytes;
	if (!s->gone && s->submitted) {
		if (trailers)
			s->finishing = true;
		else if (!s->want_rst) {
			s->want_rst = true;
			s->rst = s->env->o.server ? rst_code(status) : NGHTTP2_CANCEL;
		}
		stream_mark(s);
	}
	stream_end(s, status, message);
	drop_queues(s);
}

/* ---- input */

static bool deaf(const struct grpc_stream *s)
{
	return s->over || (s->env->o.server && s->finishing);
}

static void refuse_input(struct grpc_stream *s, enum grpc_read why)
{
	char text[128];
	if (why == GRPC_READ_TOO_LARGE) {
		(void)snprintf(text, sizeof(text), "a message of %u bytes is larger than the limit of %zu",
			s->reader.need, s->env->o.max_message_bytes);
		stream_abort(s, GRPC_RESOURCE_EXHAUSTED, str_of(text));
	} else if (why == GRPC_READ_COMPRESSED) {
		stream_abort(s, GRPC_UNIMPLEMENTED, STR("compressed messages are not supported; send identity"));
	} else {
		stream_abort(s, GRPC_INTERNAL, STR("a message prefix has a flag that gRPC does not define"));
	}
}

static void feed(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	s->feeding = true;
	s->pins++;
	while (!deaf(s) && !s->paused) {
		struct str message;
		enum grpc_read r = grpc_reader_next(&s->reader, s->env->o.max_message_bytes, &data, &len, &message);
		if (r == GRPC_READ_MORE)
			break;
		if (r != GRPC_READ_MESSAGE) {
			refuse_input(s, r);
			break;
		}
		/* The handler may end the call, and that drops the reader's buffer: it is out of reach meanwhile. */
		uint8_t *owned = (const char *)s->reader.part == message.ptr ? take(s->reader.part) : NULL;
		if (owned)
			s->reader = (struct grpc_reader){0};
		if (s->handler->on_message)
			s->handler->on_message(s, (const uint8_t *)message.ptr, message.len);
		free(owned);
	}
	if (len && !deaf(s))
		strbuf_add(&s->held, str_n(data, len));
	s->feeding = false;
	s->pins--;
}

static void input_finished(struct grpc_stream *s)
{
	if (deaf(s) || s->half_told)
		return;
	s->half_told = true;
	if (!s->env->o.server) {
		stream_end_by_trailers(s);
		return;
	}
	if (grpc_reader_midway(&s->reader)) {
		stream_abort(s, GRPC_INTERNAL, STR("the request ends within a message"));
		return;
	}
	if (s->handler->on_half_close)
		s->handler->on_half_close(s);
}

static bool input_waits(const struct grpc_stream *s)
{
	return s->paused || s->feeding || s->held.len;
}

void stream_input(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	if (deaf(s) || !s->handler)
		return;
	if (input_waits(s))
		strbuf_add(&s->held, str_n(data, len));
	else
		feed(s, data, len);
}

void stream_input_end(struct grpc_stream *s)
{
	s->remote_end = true;
	if (s->handler && !input_waits(s))
		input_finished(s);
}

static void input_resume(struct grpc_stream *s)
{
	if (s->paused || s->feeding)
		return;
	if (s->held.len && !deaf(s)) {
		struct strbuf held = s->held;
		s->held = (struct strbuf){0};
		feed(s, (const uint8_t *)held.ptr, held.len);
		strbuf_done(&held);
	}
	if (s->unconsumed && !s->paused && s->conn && !s->conn->closed && !s->gone) {
		(void)nghttp2_session_consume(s->conn->session, s->id, s->unconsumed);
		s->unconsumed = 0;
	}
	if (s->remote_end && !input_waits(s))
		input_finished(s);
}

void stream_flush(struct grpc_stream *s)
{
	if (!s->gone)
		stream_submit(s);
	input_resume(s);
	if (s->want_writable && !deaf(s) && !s->out.bytes) {
		s->want_writable = false;
		if (s->handler && s->handler->on_writable)
			s->handler->on_writable(s);
	}
	if (s->over && s->gone)
		stream_unlink(s);
}

/* ---- the end */

void stream_closed(struct grpc_stream *s, uint32_t http2_error)
{
	s->gone = true;
	char why[128];
	(void)snprintf(why, sizeof(why), "the peer reset the stream (%s)", nghttp2_http2_strerror(http2_error));
	if (s->env->o.server) {
		if (s->trailers_sent)
			stream_end(s, GRPC_OK, STR(""));
		else if (http2_error == NGHTTP2_NO_ERROR || http2_error == NGHTTP2_CANCEL)
			stream_end(s, GRPC_CANCELLED, STR("the client cancelled the call"));
		else
			stream_end(s, grpc_status_of_rst(http2_error), str_of(why));
	} else if (!s->remote_end) {
		stream_end(s, grpc_status_of_rst(http2_error), str_of(why));
	} else if (!s->over && input_waits(s)) {
		outq_done(&s->out);
		return; /* all has come, but the owner has paused: the end waits for it */
	}
	stream_unlink(s);
	outq_done(&s->out);
	stream_free_if_done(s);
}

void stream_lost(struct grpc_stream *s, struct str why)
{
	s->gone = true;
	stream_unlink(s);
	stream_end(s, GRPC_UNAVAILABLE, why);
	stream_free_if_done(s);
}

static void on_deadline(void *ctx)
{
	struct grpc_stream *s = ctx;
	char text[96];
	(void)snprintf(text, sizeof(text), "the deadline of %llu ms has passed", (unsigned long long)s->timeout_ms);
	stream_abort(s, GRPC_DEADLINE_EXCEEDED, str_of(text));
}

void stream_start_deadline(struct grpc_stream *s, uint64_t ms)
{
	s->timeout_ms = ms;
	s->deadline = timer_new(s->env->loop, on_deadline, s);
	timer_start(s->deadline, ms, 0);
}

/* ---- headers: name NUL value NUL ... */

bool stream_add_header(struct grpc_stream *s, struct str name, struct str value)
{
	if (s->headers.len + name.len + value.len + 2 > LIMIT_GRPC_HEADER_BYTES)
		return false;
	strbuf_add(&s->headers, name);
	strbuf_addc(&s->headers, 0);
	strbuf_add(&s->headers, value);
	strbuf_addc(&s->headers, 0);
	return true;
}

struct str stream_header(const struct grpc_stream *s, const char *name)
{
	const char *p = s->headers.ptr, *end = p ? p + s->headers.len : NULL;
	while (p && p < end) {
		const char *value = p + strlen(p) + 1;
		size_t value_len = strlen(value);
		if (!strcmp(p, name))
			return str_n(value, value_len);
		p = value + value_len + 1;
	}
	return STR("");
}

/* ---- what owners call */

void grpc_stream_set_user(struct grpc_stream *s, void *user)
{
	s->user = user;
}

void *grpc_stream_user(const struct grpc_stream *s)
{
	return s->user;
}

void *grpc_stream_context(const struct grpc_stream *s)
{
	return s->ctx;
}

void grpc_stream_send(struct grpc_stream *s, struct buf *message)
{
	const struct buf_slice all = {message, message->data, message->len};
	grpc_stream_send_slices(s, &all, 1);
}

void grpc_stream_send_slices(struct grpc_stream *s, const struct buf_slice *slices, size_t n)
{
	if (s->over || s->finishing)
		return;
	size_t total = 0;
	for (size_t i = 0; i < n; i++)
		total += slices[i].len;
	if (total > UINT32_MAX || s->out.bytes + total > LIMIT_GRPC_QUEUE_BYTES) {
		char text[128];
		(void)snprintf(text, sizeof(text), "%zu bytes wait and %zu more are to be sent: the limit is %u",
			s->out.bytes, total, LIMIT_GRPC_QUEUE_BYTES);
		stream_abort(s, GRPC_RESOURCE_EXHAUSTED, str_of(text));
		return;
	}
	uint8_t prefix[GRPC_PREFIX];
	grpc_prefix(prefix, total);
	outq_copy(&s->out, prefix, sizeof(prefix));
	for (size_t i = 0; i < n; i++)
		outq_ref(&s->out, slices[i].buf, slices[i].ptr, slices[i].len);
	stream_mark(s);
}

size_t grpc_stream_queued(const struct grpc_stream *s)
{
	return s->out.bytes;
}

void grpc_stream_finish(struct grpc_stream *s, enum grpc_status status, const char *fmt, ...)
{
	if (s->over || s->finishing)
		return;
	s->finishing = true;
	if (s->env->o.server) {
		char text[4096] = "";
		va_list ap;
		va_start(ap, fmt);
		if (fmt)
			(void)vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		set_result(s, status, str_of(text));
		strbuf_done(&s->held);
	}
	stream_mark(s);
}

void grpc_stream_cancel(struct grpc_stream *s)
{
	stream_abort(s, GRPC_CANCELLED, STR("cancelled"));
}

struct str grpc_stream_header(const struct grpc_stream *s, const char *name)
{
	return stream_header(s, name);
}

const struct tls_peer *grpc_stream_peer(const struct grpc_stream *s)
{
	return s->conn && s->conn->net.tls ? tls_conn_peer(s->conn->net.tls) : NULL;
}

const char *grpc_stream_address(const struct grpc_stream *s)
{
	if (s->conn)
		return s->conn->address;
	return s->address ? s->address : "";
}

void grpc_stream_pause(struct grpc_stream *s, bool paused)
{
	if (s->paused == paused || s->over)
		return;
	s->paused = paused;
	if (!paused)
		stream_mark(s);
}
