/*
 * DOC: A gRPC server and client on common/io for tests with other implementations: methods of /test.Echo/ on raw bytes.
 *   grpc_echo server ADDRESS [MAX_AGE_MS GRACE_MS]   prints "port N" and serves until SIGTERM, then drains
 *   grpc_echo client [--fail-fast] TARGET METHOD COUNT SIZE        sends COUNT messages of SIZE bytes, prints what came and the status
 * Methods: Unary, Stream (each message comes back), Swallow (counts, answers at half-close with the number of bytes),
 * Many ("count size" gives so many messages), Fail (FAILED_PRECONDITION), Metadata (the header x-test), Wait (never answers).
 * With FL_TLS_CERT, FL_TLS_KEY, FL_TLS_ROOTS (files) in the environment it speaks TLS.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/io/file.h"
#include "common/io/grpc.h"

struct call {
	size_t bytes;
	size_t left, size; /* Many: still to be sent */
};

static void open_call(struct grpc_stream *s, void *ctx)
{
	(void)ctx;
	grpc_stream_set_user(s, xzalloc(sizeof(struct call)));
}

static void echo(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(s, b);
	buf_unref(b);
}

static void unary(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	echo(s, data, len);
	grpc_stream_finish(s, GRPC_OK, NULL);
}

static void swallow(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)data;
	struct call *c = grpc_stream_user(s);
	c->bytes += len;
}

static void answer_count(struct grpc_stream *s)
{
	const struct call *c = grpc_stream_user(s);
	char text[32];
	int n = snprintf(text, sizeof(text), "%zu", c->bytes);
	unary(s, (const uint8_t *)text, (size_t)n);
}

static void send_more(struct grpc_stream *s)
{
	struct call *c = grpc_stream_user(s);
	while (c->left && grpc_stream_queued(s) < (1u << 20)) {
		struct buf *b = buf_new(c->size);
		memset(b->data, 'x', c->size);
		grpc_stream_send(s, b);
		buf_unref(b);
		if (--c->left == 0)
			grpc_stream_finish(s, GRPC_OK, NULL);
	}
}

static void many(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct call *c = grpc_stream_user(s);
	struct str count, size;
	uint64_t n = 0, bytes = 0;
	if (!str_cut(str_n(data, len), ' ', &count, &size) || !str_u64(count, 1000000, &n) ||
		!str_u64(size, 1u << 26, &bytes) || !n) {
		grpc_stream_finish(s, GRPC_INVALID_ARGUMENT, "want \"count size\"");
		return;
	}
	c->left = n;
	c->size = bytes;
	send_more(s);
}

static void fail(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)data;
	(void)len;
	grpc_stream_finish(s, GRPC_FAILED_PRECONDITION, "50%% is not \"ümlaut\"\n");
}

static void metadata(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)data;
	(void)len;
	struct str v = grpc_stream_header(s, "x-test");
	unary(s, (const uint8_t *)v.ptr, v.len);
}

static void half_closed(struct grpc_stream *s)
{
	grpc_stream_finish(s, GRPC_OK, NULL);
}

static void closed(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	(void)fprintf(stderr, "call ended: %s " STR_FMT "\n", grpc_status_name(status), STR_ARG(message));
	free(grpc_stream_user(s));
}

static const struct {
	const char *path;
	struct grpc_handler handler;
} methods[] = {
	{"/test.Echo/Unary", {.on_open = open_call, .on_message = unary, .on_close = closed}},
	{"/test.Echo/Stream",
		{.on_open = open_call, .on_message = echo, .on_half_close = half_closed, .on_close = closed}},
	{"/test.Echo/Swallow",
		{.on_open = open_call, .on_message = swallow, .on_half_close = answer_count, .on_close = closed}},
	{"/test.Echo/Many", {.on_open = open_call, .on_message = many, .on_writable = send_more, .on_close = closed}},
	{"/test.Echo/Fail", {.on_open = open_call, .on_message = fail, .on_close = closed}},
	{"/test.Echo/Metadata", {.on_open = open_call, .on_message = metadata, .on_close = closed}},
	{"/test.Echo/Wait", {.on_open = open_call, .on_close = closed}},
};

static void die(const struct err *e)
{
	(void)fprintf(stderr, "%s\n", e->text);
	exit(1);
}

static void read_env_file(const char *name, char **out)
{
	struct err e = {0};
	size_t len;
	const char *path = getenv(name);
	*out = NULL;
	if (path && !file_read(path, 1u << 20, out, &len, &e))
		die(&e);
}

static struct tls_context *tls_from_env(bool server)
{
	struct err e = {0};
	if (!getenv("FL_TLS_ROOTS"))
		return NULL;
	char *cert, *key, *roots;
	read_env_file("FL_TLS_CERT", &cert);
	read_env_file("FL_TLS_KEY", &key);
	read_env_file("FL_TLS_ROOTS", &roots);
	struct tls_context *c = tls_context_new(
		&(struct tls_options){.server = server, .peer_auth = TLS_PEER_OPTIONAL});
	if (!tls_context_set_identity(c, str_of(cert), str_of(key), &e) || !tls_context_set_roots(c, str_of(roots), &e))
		die(&e);
	const char *const names[] = {"localhost", NULL};
	if (!server && !tls_context_set_server_names(c, names, &e))
		die(&e);
	free(cert);
	free(key);
	free(roots);
	return c;
}

static struct loop *loop;

static void stop(void *ctx)
{
	(void)ctx;
	loop_stop(loop);
}

static void on_term(void *ctx, int signo)
{
	(void)signo;
	grpc_server_drain(ctx, 2000, stop, NULL);
}

static int serve(int argc, char **argv)
{
	struct err e = {0};
	uint16_t port;
	struct grpc_server_options o = {0};
	if (argc > 4 && (!str_u64(str_of(argv[3]), 1000000, &o.max_connection_age_ms) ||
				!str_u64(str_of(argv[4]), 1000000, &o.max_connection_grace_ms)))
		return 2;
	struct grpc_server *s = grpc_server_new(loop, &o);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		grpc_server_route(s, methods[i].path, &methods[i].handler, NULL);
	struct tls_context *tls = tls_from_env(true);
	if (!grpc_server_listen(s, argv[2], tls, &port, &e))
		die(&e);
	(void)printf("port %u\n", port);
	(void)fflush(stdout);
	struct signal_watch *w = signal_new(loop, SIGTERM, on_term, s);
	loop_run(loop);
	signal_free(w);
	grpc_server_free(s);
	tls_context_free(tls);
	return 0;
}

/* ---- client */

static size_t messages, bytes;

static void count(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)s;
	(void)data;
	messages++;
	bytes += len;
}

static void done(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	(void)s;
	(void)printf("%zu messages %zu bytes status %d " STR_FMT "\n", messages, bytes, (int)status, STR_ARG(message));
	loop_stop(loop);
}

static int call(int argc, char **argv)
{
	static const struct grpc_handler h = {.on_message = count, .on_close = done};
	uint64_t n = 0, size = 0;
	bool fail_fast = argc > 2 && streq(argv[2], "--fail-fast");
	argv += fail_fast;
	argc -= fail_fast;
	if (argc < 6 || !str_u64(str_of(argv[4]), 1000000, &n) || !str_u64(str_of(argv[5]), 1u << 26, &size))
		return 2;
	struct tls_context *tls = tls_from_env(false);
	struct grpc_channel *c = grpc_channel_new(loop, &(struct grpc_channel_options){.target = argv[2], .tls = tls});
	char *path = xasprintf("/test.Echo/%s", argv[3]);
	const char *const headers[] = {"x-test", "value of x-test", NULL};
	struct grpc_stream *s = grpc_channel_call(c, path, headers, 20000, fail_fast, &h, NULL);
	struct buf *b = buf_new(size);
	memset(b->data, 'y', size);
	for (uint64_t i = 0; i < n; i++)
		grpc_stream_send(s, b);
	buf_unref(b);
	grpc_stream_finish(s, GRPC_OK, NULL);
	loop_run(loop);
	grpc_channel_free(c);
	tls_context_free(tls);
	free(path);
	return 0;
}

int main(int argc, char **argv)
{
	int code = 2;
	loop = loop_new();
	if (argc > 2 && streq(argv[1], "server"))
		code = serve(argc, argv);
	else if (argc > 2 && streq(argv[1], "client"))
		code = call(argc, argv);
	loop_free(loop);
	return code;
}
