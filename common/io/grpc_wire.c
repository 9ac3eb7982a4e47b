/*
 * DOC: A call in HTTP/2 terms: request and response headers, trailers, DATA, resets. gRPC over HTTP/2 (doc/PROTOCOL-HTTP2.md).
 * stream_submit() is the only place that tells nghttp2 what a stream wants; it runs from the connection's flush.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/io/grpc_stream.h"
#include "common/io/scopes.h"

#define NV(name_, value_) nv(name_, str_of(value_))

static nghttp2_nv nv(const char *name, struct str value)
{
	return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
		.namelen = strlen(name),
		.value = (uint8_t *)(uintptr_t)value.ptr,
		.valuelen = value.len};
}

/* ---- DATA and trailers */

static size_t trailers(const struct grpc_stream *s, nghttp2_nv out[2], char number[8], struct strbuf *text)
{
	size_t n = 0;
	(void)snprintf(number, 8, "%u", s->status);
	out[n++] = NV("grpc-status", number);
	if (!str_empty(s->message)) {
		grpc_message_encode(text, str_of(s->message));
		out[n++] = nv("grpc-message", strbuf_str(text));
	}
	return n;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
	nghttp2_data_source *source, void *ctx)
{
	(void)buf;
	(void)ctx;
	struct grpc_stream *s = source->ptr;
	if (s->want_rst)
		return NGHTTP2_ERR_DEFERRED;
	size_t n = min_size(length, s->out.bytes);
	if (n == s->out.bytes && s->finishing) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->env->o.server) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_nv nvs[2];
			char number[8];
			struct strbuf text = {0};
			size_t count = trailers(s, nvs, number, &text);
			(void)nghttp2_submit_trailer(session, id, nvs, count);
			strbuf_done(&text);
		}
	} else if (!n) {
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n)
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	return (ssize_t)n;
}

/* ---- server */

static void respond(struct grpc_stream *s)
{
	s->responded = true;
	nghttp2_session *session = s->conn->session;
	nghttp2_nv nvs[4] = {NV(":status", "200"), NV("content-type", "application/grpc")};
	if (s->finishing && !s->out.bytes) { /* trailers only */
		char number[8];
		struct strbuf text = {0};
		size_t n = 2 + trailers(s, nvs + 2, number, &text);
		(void)nghttp2_submit_headers(session, NGHTTP2_FLAG_END_STREAM, s->id, NULL, nvs, n, NULL);
		strbuf_done(&text);
		return;
	}
	nghttp2_data_provider data = {.source.ptr = s, .read_callback = on_read};
	(void)nghttp2_submit_response(session, s->id, nvs, 2, &data);
}

/* Not gRPC at all: an HTTP answer, as the protocol asks for. */
static void refuse_http(struct grpc_stream *s, const char *status, const char *why)
{
	log_debug(&grpc_log, "not a gRPC request", KV("address", grpc_stream_address(s)), KV("reason", why));
	const nghttp2_nv nvs[] = {NV(":status", status), NV("content-type", "text/plain")};
	s->responded = s->finishing = true;
	(void)nghttp2_submit_headers(s->conn->session, NGHTTP2_FLAG_END_STREAM, s->id, NULL, nvs, ARRAY_LEN(nvs), NULL);
	stream_end(s, GRPC_INVALID_ARGUMENT, str_of(why));
	h2_conn_mark(s->conn);
}

static bool request_is_grpc(struct grpc_stream *s)
{
	if (!str_eqc(stream_header(s, ":method"), "POST"))
		refuse_http(s, "405", "the method is not POST");
	else if (!grpc_content_type(stream_header(s, "content-type")))
		refuse_http(s, "415", "the content type is not application/grpc");
	return !s->over;
}

void stream_open_server(struct grpc_stream *s, bool end_stream)
{
	struct h2_env *env = s->env;
	if (!env->owner) {
		stream_abort(s, GRPC_UNAVAILABLE, STR("the server is being stopped"));
		return;
	}
	if (!request_is_grpc(s))
		return;
	struct str path = stream_header(s, ":path"), timeout = stream_header(s, "grpc-timeout");
	s->handler = env->ops->route(env->owner, path, &s->ctx);
	uint64_t ms = 0;
	if (!s->handler) {
		char text[256];
		(void)snprintf(text, sizeof(text), "no method " STR_FMT, (int)min_size(path.len, 200), path.ptr);
		stream_abort(s, GRPC_UNIMPLEMENTED, str_of(text));
		return;
	}
	if (timeout.len && !grpc_timeout_parse(timeout, &ms)) {
		stream_abort(s, GRPC_INTERNAL, STR("grpc-timeout is not up to eight digits and one of H M S m u n"));
		return;
	}
	s->opened = true;
	if (timeout.len)
		stream_start_deadline(s, ms);
	if (s->handler->on_open)
		s->handler->on_open(s, s->ctx);
	if (end_stream)
		stream_input_end(s);
}

/* ---- client */

#define REQUEST_HEADERS_MAX 64u

static size_t request_headers(const struct grpc_stream *s, nghttp2_nv nvs[REQUEST_HEADERS_MAX], char timeout[16])
{
	size_t n = 0;
	nvs[n++] = NV(":method", "POST");
	nvs[n++] = NV(":scheme", s->conn->net.tls ? "https" : "http");
	nvs[n++] = NV(":path", s->path);
	nvs[n++] = NV(":authority", s->conn->authority);
	nvs[n++] = NV("te", "trailers");
	nvs[n++] = NV("content-type", "application/grpc");
	nvs[n++] = NV("user-agent", "fairlead/" FAIRLEAD_VERSION);
	if (s->timeout_ms) {
		grpc_timeout_format(s->timeout_ms, timeout);
		nvs[n++] = NV("grpc-timeout", timeout);
	}
	for (char **p = s->request; p && *p && n < REQUEST_HEADERS_MAX; p += 2)
		nvs[n++] = NV(p[0], p[1]);
	return n;
}

static void request(struct grpc_stream *s)
{
	nghttp2_nv nvs[REQUEST_HEADERS_MAX];
	char timeout[16];
	size_t n = request_headers(s, nvs, timeout);
	nghttp2_data_provider data = {.source.ptr = s, .read_callback = on_read};
	int32_t id = nghttp2_submit_request(s->conn->session, NULL, nvs, n, &data, s);
	if (id < 0) {
		stream_end(s, GRPC_UNAVAILABLE, str_of(nghttp2_strerror(id)));
		return;
	}
	s->submitted = true;
	s->id = id;
}

void stream_response_headers(struct grpc_stream *s, bool end_stream)
{
	uint32_t code = 0;
	struct str status = stream_header(s, ":status");
	if (str_u32(status, 999, &code) && code >= 100 && code < 200 && !end_stream) {
		strbuf_clear(&s->headers); /* an interim response; the real one follows */
		return;
	}
	s->http_code = (uint16_t)code;
	struct str type = stream_header(s, "content-type");
	if (!end_stream && (code != 200 || !grpc_content_type(type))) {
		char text[192];
		(void)snprintf(text, sizeof(text), "not a gRPC response: HTTP status %u, content type \"" STR_FMT "\"",
			code, (int)min_size(type.len, 64), type.ptr);
		stream_abort(s, grpc_status_of_http(code), str_of(text));
		return;
	}
	if (end_stream)
		stream_input_end(s);
}

void stream_end_by_trailers(struct grpc_stream *s)
{
	struct str status = stream_header(s, "grpc-status");
	struct strbuf text = {0};
	uint32_t code;
	if (str_u32(status, 255, &code)) {
		grpc_message_decode(&text, stream_header(s, "grpc-message"));
	} else {
		code = s->http_code == 200 ? GRPC_UNKNOWN : grpc_status_of_http(s->http_code);
		strbuf_addf(&text, "the response ended without grpc-status (HTTP status %u)", s->http_code);
	}
	if (code == GRPC_OK && grpc_reader_midway(&s->reader)) {
		code = GRPC_INTERNAL;
		strbuf_adds(&text, "the response ends within a message");
	}
	stream_end(s, (enum grpc_status)code, strbuf_str(&text));
	strbuf_done(&text);
	outq_done(&s->out);
	if (!s->gone && !s->want_rst && nghttp2_session_get_stream_local_close(s->conn->session, s->id) == 0) {
		/* We have not said our last, and need not any more. */
		s->want_rst = true;
		s->rst = NGHTTP2_NO_ERROR;
		stream_mark(s);
	}
}

/* ---- both */

void stream_submit(struct grpc_stream *s)
{
	nghttp2_session *session = s->conn->session;
	if (!s->submitted) {
		if (s->conn->going && !s->over && s->env->owner)
			s->env->ops->requeue(s->env->owner, s);
		else if (!s->over)
			request(s);
		return;
	}
	if (s->want_rst) {
		if (s->rst != UINT32_MAX)
			(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, s->rst);
		s->rst = UINT32_MAX; /* once */
		return;
	}
	if (s->env->o.server && !s->responded) {
		if (s->out.bytes || s->finishing)
			respond(s);
		return;
	}
	if (s->out.bytes || s->finishing)
		(void)nghttp2_session_resume_data(session, s->id); /* says INVALID_ARGUMENT when it is not deferred */
}
