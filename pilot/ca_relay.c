/*
 * DOC: Certificate requests that come to pilot's address go on to citadel, so that a workload needs to know one address only. The
 * caller's token is passed on as it came. A caller with a verified certificate is named in x-forwarded-client-cert, which citadel
 * believes from pilot's own identity alone. Pilot reads neither request nor answer.
 */
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/metric.h"
#include "pilot/worker.h"

#define PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define REQUEST_BYTES_MAX (2 * LIMIT_CSR_BYTES)
#define TIMEOUT_MS 10000

METRIC(relayed, COUNTER, "pilot_ca_relayed", "certificate requests passed on to citadel, by the status of the answer",
	"status");

struct relay {
	struct grpc_stream *stream; /* NULL: the caller left */
	struct grpc_stream *call; /* NULL: not asked yet, or answered */
	struct grpc_channel **channel;
	struct buf *request;
	bool answered;
};

static void on_open(struct grpc_stream *s, void *ctx)
{
	struct relay *r = xzalloc(sizeof(*r));
	r->stream = s;
	r->channel = ctx;
	grpc_stream_set_user(s, r);
}

static void relay_free(struct relay *r)
{
	buf_unref(r->request);
	free(r);
}

static void on_answer(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len)
{
	struct relay *r = ctx;
	struct grpc_stream *s = r->stream;

	metric_add(&relayed, 1, grpc_status_name(st));
	r->call = NULL;
	r->answered = true;
	if (!s) {
		relay_free(r);
		return;
	}
	if (data) {
		struct buf *answer = buf_copy(data, len);
		grpc_stream_send(s, answer);
		buf_unref(answer);
		grpc_stream_finish(s, GRPC_OK, "%s", "");
	} else {
		grpc_stream_finish(s, st == GRPC_OK ? GRPC_INTERNAL : st, "citadel: " STR_FMT, STR_ARG(message));
	}
}

static void ask(struct relay *r)
{
	const struct tls_peer *peer = grpc_stream_peer(r->stream);
	struct str token = grpc_stream_header(r->stream, "authorization");
	cleanup(arena_free_p) struct arena *a = arena_new();
	const char *headers[5] = {0};
	size_t n = 0;

	if (token.len) {
		headers[n++] = "authorization";
		headers[n++] = arena_cstr(a, token);
	}
	if (peer && peer->verified && peer->spiffe_id.len) {
		headers[n++] = "x-forwarded-client-cert";
		headers[n++] = arena_printf(a, "URI=" STR_FMT, STR_ARG(peer->spiffe_id));
	}
	struct grpc_stream *call = grpc_channel_unary(*r->channel, PATH, headers, TIMEOUT_MS, r->request, on_answer, r);
	if (!r->answered)
		r->call = call;
}

static void on_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct relay *r = grpc_stream_user(s);

	if (r->request || r->answered)
		return;
	if (!*r->channel) {
		grpc_stream_finish(s, GRPC_UNAVAILABLE, "pilot was not given the address of a CA (--ca-address)");
	} else if (len > REQUEST_BYTES_MAX) {
		grpc_stream_finish(
			s, GRPC_RESOURCE_EXHAUSTED, "a certificate request has at most %u bytes", REQUEST_BYTES_MAX);
	} else {
		r->request = buf_copy(data, len);
		ask(r);
	}
}

static void on_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct relay *r = grpc_stream_user(s);

	r->stream = NULL;
	if (r->call)
		grpc_stream_cancel(r->call); /* on_answer() frees */
	else
		relay_free(r);
}

static const struct grpc_handler handler = {.on_open = on_open, .on_message = on_message, .on_close = on_close};

void ca_relay_route(struct grpc_server *s, struct grpc_channel **channel)
{
	grpc_server_route(s, PATH, &handler, channel);
}
