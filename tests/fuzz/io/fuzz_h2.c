/*
 * DOC: What a client may send to our gRPC server: the first byte says whether the HTTP/2 preface and SETTINGS are put before the rest.
 * Afterwards nothing may be open: no connection, no call whose owner has not been told.
 */
#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_calls;

static void on_open(struct grpc_stream *s, void *ctx)
{
	(void)s;
	(void)ctx;
	open_calls++;
}

static void on_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(s, b);
	buf_unref(b);
}

static void on_half_close(struct grpc_stream *s)
{
	grpc_stream_finish(s, GRPC_OK, NULL);
}

static void on_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	(void)s;
	(void)status;
	(void)message;
	open_calls--;
}

static void send_all(int fd, const void *data, size_t len)
{
	ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* what does not fit into the socket is not part of this input */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct grpc_handler h = {
		.on_open = on_open, .on_message = on_message, .on_half_close = on_half_close, .on_close = on_close};
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0";
	if (!size)
		return 0;
	int fds[2];
	int bad = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
	assert(!bad);
	struct loop *l = loop_new();
	struct grpc_server *s = grpc_server_new(l, &(struct grpc_server_options){.max_message_bytes = 1 << 16});
	grpc_server_route(s, "/e", &h, NULL);
	if (data[0] & 1)
		send_all(fds[1], preface, sizeof(preface));
	send_all(fds[1], data + 1, size - 1);
	grpc_server_adopt(s, fds[0], NULL);
	for (int i = 0; i < 4; i++)
		loop_run_once(l, 0);
	(void)close(fds[1]);
	for (int i = 0; i < 100 && grpc_server_connections(s); i++)
		loop_run_once(l, 0);
	assert(!grpc_server_connections(s));
	for (int i = 0; i < 4; i++)
		loop_run_once(l, 0);
	assert(!open_calls);
	grpc_server_free(s);
	loop_free(l);
	return 0;
}
