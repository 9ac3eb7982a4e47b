/* DOC: gRPC server and client on one loop: streams, limits, pausing, deadlines, draining, keepalive, reconnecting, lifetimes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/metric.h"
#include "common/io/addr.h"
#include "common/io/grpc.h"

struct world {
	struct loop *loop;
	struct grpc_server *server;
	struct grpc_channel *channel;
	char target[64];
	struct grpc_stream *held;
	int server_messages, server_closed;
	size_t server_bytes;
	enum grpc_status server_status;
	int messages, closed, writable, ups, downs;
	size_t bytes;
	enum grpc_status status;
	char text[256];
	bool pause_at_open, drained, free_server_in_message, free_channel_in_close;
};

static struct world w;

static void srv_open(struct grpc_stream *s, void *ctx)
{
	assert_ptr_equal(ctx, &w);
	assert_ptr_equal(grpc_stream_context(s), &w);
	w.held = s;
	if (w.pause_at_open)
		grpc_stream_pause(s, true);
}

static void srv_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	w.server_messages++;
	w.server_bytes += len;
	if (w.free_server_in_message) {
		grpc_server_free(w.server);
		w.server = NULL;
		return;
	}
	struct buf *b = buf_copy(data, len);
	grpc_stream_send(s, b);
	buf_unref(b);
}

static void srv_half_close(struct grpc_stream *s)
{
	grpc_stream_finish(s, GRPC_OK, NULL);
}

static void srv_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	if (s == w.held)
		w.held = NULL;
	w.server_closed++;
	w.server_status = status;
}

static void srv_count(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)s;
	(void)data;
	w.server_messages++;
	w.server_bytes += len;
}

static const struct grpc_handler echo = {
	.on_open = srv_open, .on_message = srv_message, .on_half_close = srv_half_close, .on_close = srv_close};
static const struct grpc_handler sink = {
	.on_open = srv_open, .on_message = srv_count, .on_half_close = srv_half_close, .on_close = srv_close};

static void cli_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	(void)s;
	(void)data;
	w.messages++;
	w.bytes += len;
}

static void cli_writable(struct grpc_stream *s)
{
	assert_int_equal(grpc_stream_queued(s), 0);
	w.writable++;
}

static void cli_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	(void)s;
	w.closed++;
	w.status = status;
	(void)snprintf(w.text, sizeof(w.text), STR_FMT, STR_ARG(message));
	if (w.free_channel_in_close) {
		grpc_channel_free(w.channel);
		w.channel = NULL;
	}
}

static const struct grpc_handler client = {
	.on_message = cli_message, .on_writable = cli_writable, .on_close = cli_close};

static void on_state(void *ctx, bool connected, const char *reason)
{
	(void)ctx;
	w.ups += connected;
	w.downs += !connected;
	if (!connected)
		(void)snprintf(w.text, sizeof(w.text), "%s", reason);
}

static void listen_on(const char *address, const struct grpc_server_options *o)
{
	struct err e = {0};
	uint16_t port;
	w.server = grpc_server_new(w.loop, o);
	grpc_server_route(w.server, "/t/Echo", &echo, &w);
	grpc_server_route(w.server, "/t/Sink", &sink, &w);
	assert_true(grpc_server_listen(w.server, address, NULL, &port, &e));
	if (port)
		(void)snprintf(w.target, sizeof(w.target), "127.0.0.1:%u", port);
}

static void start(const struct grpc_server_options *so, const struct grpc_channel_options *co)
{
	struct grpc_channel_options o = co ? *co : (struct grpc_channel_options){0};
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	listen_on("127.0.0.1:0", so);
	o.target = w.target;
	o.on_state = on_state;
	w.channel = grpc_channel_new(w.loop, &o);
}

static void stop(void)
{
	grpc_channel_free(w.channel);
	grpc_server_free(w.server);
	loop_free(w.loop);
	assert_int_equal(metric_get(metric_find("grpc_server_connections")), 0);
	assert_int_equal(metric_get(metric_find("grpc_server_streams")), 0);
}

#define WAIT_FOR(condition) \
	do { \
		uint64_t until_ = clock_mono_ms() + 20000; \
		while (!(condition)) { \
			loop_run_once(w.loop, 50); \
			assert_true(clock_mono_ms() < until_); \
		} \
	} while (0)

static void send_n(struct grpc_stream *s, size_t len, int n)
{
	struct buf *b = buf_new(len);
	memset(b->data, 'm', len);
	for (int i = 0; i < n; i++)
		grpc_stream_send(s, b);
	buf_unref(b);
}

static struct grpc_stream *call(const char *path, uint64_t timeout_ms, bool fail_fast)
{
	return grpc_channel_call(w.channel, path, NULL, timeout_ms, fail_fast, &client, NULL);
}

static struct {
	int n;
	enum grpc_status status;
	size_t len;
	char text[128];
} answer;

static void on_answer(void *ctx, enum grpc_status st, struct str message, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)data;
	answer.n++;
	answer.status = st;
	answer.len = len;
	(void)snprintf(answer.text, sizeof(answer.text), STR_FMT, STR_ARG(message));
}

static void unary_call(void **state)
{
	(void)state;
	start(NULL, NULL);
	memset(&answer, 0, sizeof(answer));
	struct buf *b = buf_copy("abc", 3);
	(void)grpc_channel_unary(w.channel, "/t/Echo", NULL, 5000, b, on_answer, NULL);
	WAIT_FOR(answer.n);
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(answer.len, 3);
	(void)grpc_channel_unary(w.channel, "/t/Sink", NULL, 5000, b, on_answer, NULL);
	WAIT_FOR(answer.n == 2);
	assert_int_equal(answer.status, GRPC_INTERNAL); /* OK without a response */
	(void)grpc_channel_unary(w.channel, "/t/None", NULL, 5000, b, on_answer, NULL);
	WAIT_FOR(answer.n == 3);
	assert_int_equal(answer.status, GRPC_UNIMPLEMENTED);
	assert_non_null(strstr(answer.text, "/t/None"));
	buf_unref(b);
	stop();
}

static void big_messages_both_ways(void **state)
{
	(void)state;
	start(NULL, NULL);
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 20 << 20, 2);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.closed);
	assert_int_equal(w.status, GRPC_OK);
	assert_int_equal(w.messages, 2);
	assert_int_equal(w.bytes, 40 << 20);
	WAIT_FOR(w.server_closed);
	assert_int_equal(w.server_status, GRPC_OK);
	stop();
}

static void message_of_pieces_is_one(void **state)
{
	(void)state;
	start(NULL, NULL);
	struct grpc_stream *s = call("/t/Echo", 0, false);
	struct buf *b = buf_new(5001);
	memset(b->data, 'b', 5001);
	const struct buf_slice slices[] = {{b, b->data, 1}, {b, b->data + 1, 5000}, {b, b->data + 5001, 0}};
	grpc_stream_send_slices(s, slices, 3);
	buf_unref(b);
	WAIT_FOR(w.messages == 1);
	assert_int_equal(w.bytes, 5001);
	WAIT_FOR(w.writable == 1);
	stop();
}

static void paused_stream_stops_its_sender(void **state)
{
	(void)state;
	start(NULL, NULL);
	w.pause_at_open = true;
	struct grpc_stream *s = call("/t/Sink", 0, false);
	send_n(s, 1 << 20, 20);
	WAIT_FOR(w.held);
	/* The stream window is 4 MiB: the rest stays with the sender. */
	WAIT_FOR(grpc_stream_queued(s) <= (16u << 20) + 200);
	for (int i = 0; i < 20; i++)
		loop_run_once(w.loop, 5);
	assert_int_equal(w.server_messages, 0);
	assert_true(grpc_stream_queued(s) > 15u << 20);
	grpc_stream_pause(w.held, false);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.closed);
	assert_int_equal(w.server_messages, 20);
	assert_int_equal(w.server_bytes, 20 << 20);
	stop();
}

static void half_close_waits_for_a_paused_stream(void **state)
{
	(void)state;
	start(NULL, NULL);
	w.pause_at_open = true;
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 10, 3);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.held);
	for (int i = 0; i < 5; i++)
		loop_run_once(w.loop, 5);
	assert_int_equal(w.closed, 0);
	grpc_stream_pause(w.held, false);
	WAIT_FOR(w.closed);
	assert_int_equal(w.messages, 3);
	assert_int_equal(w.status, GRPC_OK);
	stop();
}

static void deadline_ends_the_call_on_both_sides(void **state)
{
	(void)state;
	start(NULL, NULL);
	(void)call("/t/Sink", 50, false);
	WAIT_FOR(w.closed && w.server_closed);
	assert_int_equal(w.status, GRPC_DEADLINE_EXCEEDED);
	assert_true(w.server_status == GRPC_DEADLINE_EXCEEDED || w.server_status == GRPC_CANCELLED);
	stop();
}

static void cancel_reaches_the_server(void **state)
{
	(void)state;
	start(NULL, NULL);
	struct grpc_stream *s = call("/t/Sink", 0, false);
	WAIT_FOR(w.held);
	grpc_stream_cancel(s);
	assert_int_equal(w.closed, 0); /* never from inside */
	WAIT_FOR(w.closed && w.server_closed);
	assert_int_equal(w.status, GRPC_CANCELLED);
	assert_int_equal(w.server_status, GRPC_CANCELLED);
	stop();
}

static void status_and_text_of_the_server(void **state)
{
	(void)state;
	start(NULL, NULL);
	(void)call("/t/Sink", 0, false);
	WAIT_FOR(w.held);
	grpc_stream_finish(w.held, GRPC_PERMISSION_DENIED, "not %s", "you");
	WAIT_FOR(w.closed && w.server_closed);
	assert_int_equal(w.status, GRPC_PERMISSION_DENIED);
	assert_string_equal(w.text, "not you");
	assert_int_equal(w.server_status, GRPC_OK);
	stop();
}

static void full_queue_resets_the_stream(void **state)
{
	(void)state;
	start(NULL, NULL);
	(void)call("/t/Sink", 0, false);
	WAIT_FOR(w.held);
	send_n(w.held, 32 << 20, 4);
	assert_int_equal(w.server_closed, 0);
	send_n(w.held, 100, 1);
	WAIT_FOR(w.closed && w.server_closed);
	assert_int_equal(w.server_status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(w.status, GRPC_RESOURCE_EXHAUSTED);
	stop();
}

static void message_limit(void **state)
{
	(void)state;
	start(&(struct grpc_server_options){.max_message_bytes = 1000}, NULL);
	struct grpc_stream *s = call("/t/Sink", 0, false);
	send_n(s, 1000, 1);
	send_n(s, 1001, 1);
	WAIT_FOR(w.closed);
	assert_int_equal(w.status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(w.server_messages, 1);
	stop();
}

static void connection_limit(void **state)
{
	(void)state;
	start(&(struct grpc_server_options){.max_connections = 1}, &(struct grpc_channel_options){.eager = true});
	WAIT_FOR(w.ups == 1);
	struct grpc_channel *second = grpc_channel_new(
		w.loop, &(struct grpc_channel_options){.target = w.target, .on_state = on_state, .eager = true});
	WAIT_FOR(w.downs);
	assert_int_equal(grpc_server_connections(w.server), 1);
	assert_non_null(strstr(w.text, w.target));
	grpc_channel_free(second);
	stop();
}

static void calls_wait_for_the_server_and_fail_fast_ones_do_not(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	char dir[] = "/tmp/fairlead-grpc-XXXXXX";
	assert_non_null(mkdtemp(dir));
	(void)snprintf(w.target, sizeof(w.target), "unix:%s/s", dir);
	w.channel = grpc_channel_new(
		w.loop, &(struct grpc_channel_options){
				.target = w.target, .backoff_min_ms = 20, .backoff_max_ms = 40, .on_state = on_state});
	(void)call("/t/Echo", 0, true);
	WAIT_FOR(w.closed == 1);
	assert_int_equal(w.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(w.text, w.target));
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 5, 1);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.downs >= 2);
	listen_on(w.target, NULL);
	WAIT_FOR(w.closed == 2);
	assert_int_equal(w.status, GRPC_OK);
	assert_int_equal(w.messages, 1);
	grpc_server_free(w.server);
	WAIT_FOR(!grpc_channel_connected(w.channel));
	listen_on(w.target, NULL);
	s = call("/t/Echo", 0, false);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.closed == 3);
	assert_int_equal(w.status, GRPC_OK);
	stop();
	assert_int_equal(rmdir(dir), 0); /* the socket file is gone */
}

static void lost_connection_ends_calls_with_unavailable(void **state)
{
	(void)state;
	start(NULL, NULL);
	(void)call("/t/Sink", 0, false);
	WAIT_FOR(w.held);
	grpc_server_free(w.server);
	w.server = NULL;
	assert_int_equal(w.server_closed, 1);
	assert_int_equal(w.server_status, GRPC_UNAVAILABLE);
	WAIT_FOR(w.closed);
	assert_int_equal(w.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(w.text, w.target));
	stop();
}

static void drained(void *ctx)
{
	(void)ctx;
	w.drained = true;
}

static void drain_waits_for_calls_then_ends_them(void **state)
{
	(void)state;
	start(NULL, NULL);
	struct grpc_stream *s = call("/t/Echo", 0, false);
	WAIT_FOR(w.held);
	grpc_server_drain(w.server, 10000, drained, NULL);
	send_n(s, 10, 1); /* what runs goes on */
	WAIT_FOR(w.messages == 1);
	assert_false(w.drained);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.drained);
	assert_int_equal(w.status, GRPC_OK);
	WAIT_FOR(grpc_server_connections(w.server) == 0);
	stop();

	start(NULL, NULL);
	(void)call("/t/Echo", 0, false);
	WAIT_FOR(w.held);
	grpc_server_drain(w.server, 50, drained, NULL);
	WAIT_FOR(w.drained && w.closed);
	assert_int_equal(w.status, GRPC_UNAVAILABLE);
	stop();
}

static void max_age_moves_clients_on(void **state)
{
	(void)state;
	start(&(struct grpc_server_options){.max_connection_age_ms = 100, .max_connection_grace_ms = 100},
		&(struct grpc_channel_options){.eager = true, .backoff_min_ms = 10});
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 1, 1);
	WAIT_FOR(w.closed); /* the long call is ended after the grace */
	assert_int_equal(w.status, GRPC_UNAVAILABLE);
	WAIT_FOR(w.ups >= 2);
	stop();
}

static void a_peer_that_never_answers_is_given_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	/* A listener that never answers: the kernel accepts, nobody reads. */
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct addr a;
	assert_true(addr_parse(STR("127.0.0.1:0"), &a, NULL));
	assert_int_equal(bind(fd, (struct sockaddr *)&a.sa, a.len), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a.sa, &a.len), 0);
	char text[128];
	addr_format(&a, text);
	w.channel = grpc_channel_new(
		w.loop, &(struct grpc_channel_options){
				.target = text, .connect_timeout_ms = 100, .on_state = on_state, .eager = true});
	WAIT_FOR(w.downs);
	assert_non_null(strstr(w.text, "100 ms"));
	assert_non_null(strstr(w.text, text));
	grpc_channel_free(w.channel);
	close(fd);
	loop_free(w.loop);
}

static void keepalive_keeps_an_idle_connection(void **state)
{
	(void)state;
	start(&(struct grpc_server_options){.keepalive_ms = 40, .keepalive_timeout_ms = 2000},
		&(struct grpc_channel_options){.eager = true, .keepalive_ms = 40, .keepalive_timeout_ms = 2000});
	WAIT_FOR(w.ups);
	uint64_t end = clock_mono_ms() + 300;
	WAIT_FOR(clock_mono_ms() >= end);
	assert_int_equal(w.downs, 0);
	assert_int_equal(grpc_server_connections(w.server), 1);
	struct strbuf json = {0};
	grpc_server_debug(w.server, &json);
	assert_non_null(strstr(json.ptr, "\"streams\":0"));
	strbuf_done(&json);
	stop();
}

static void idle_channel_disconnects(void **state)
{
	(void)state;
	start(NULL, &(struct grpc_channel_options){.idle_disconnect_ms = 30});
	struct grpc_stream *s = call("/t/Echo", 0, false);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.closed);
	WAIT_FOR(grpc_server_connections(w.server) == 0);
	stop();
}

static void free_inside_a_callback(bool server)
{
	start(NULL, NULL);
	w.free_server_in_message = server;
	w.free_channel_in_close = !server;
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 100, 3);
	grpc_stream_finish(s, GRPC_OK, NULL);
	WAIT_FOR(w.closed);
	assert_true(server ? w.server_messages == 1 && !w.server : !w.channel);
	stop();
}

static void freeing_inside_callbacks(void **state)
{
	(void)state;
	free_inside_a_callback(true);
	free_inside_a_callback(false);
}

static void many_streams_on_one_connection(void **state)
{
	(void)state;
	start(&(struct grpc_server_options){.max_streams = 10}, NULL);
	for (int i = 0; i < 200; i++) { /* more than the server takes at once: the rest waits its turn */
		struct grpc_stream *s = call("/t/Echo", 0, false);
		send_n(s, 1000, 2);
		grpc_stream_finish(s, GRPC_OK, NULL);
	}
	WAIT_FOR(w.closed == 200);
	assert_int_equal(w.messages, 400);
	stop();
}

static bool give_away(void *ctx, int fd, struct tls_context *tls)
{
	grpc_server_adopt(ctx, fd, tls);
	return true;
}

static void connections_can_be_given_away(void **state)
{
	(void)state;
	start(NULL, NULL);
	struct grpc_server *worker = grpc_server_new(w.loop, NULL);
	grpc_server_route(worker, "/t/Echo", &echo, &w);
	grpc_server_on_accept(w.server, give_away, worker);
	struct grpc_stream *s = call("/t/Echo", 0, false);
	send_n(s, 10, 1);
	WAIT_FOR(w.messages == 1);
	assert_int_equal(grpc_server_connections(w.server), 0);
	assert_int_equal(grpc_server_connections(worker), 1);
	grpc_server_free(worker);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unary_call),
		cmocka_unit_test(big_messages_both_ways),
		cmocka_unit_test(message_of_pieces_is_one),
		cmocka_unit_test(paused_stream_stops_its_sender),
		cmocka_unit_test(half_close_waits_for_a_paused_stream),
		cmocka_unit_test(deadline_ends_the_call_on_both_sides),
		cmocka_unit_test(cancel_reaches_the_server),
		cmocka_unit_test(status_and_text_of_the_server),
		cmocka_unit_test(full_queue_resets_the_stream),
		cmocka_unit_test(message_limit),
		cmocka_unit_test(connection_limit),
		cmocka_unit_test(calls_wait_for_the_server_and_fail_fast_ones_do_not),
		cmocka_unit_test(lost_connection_ends_calls_with_unavailable),
		cmocka_unit_test(drain_waits_for_calls_then_ends_them),
		cmocka_unit_test(max_age_moves_clients_on),
		cmocka_unit_test(a_peer_that_never_answers_is_given_up),
		cmocka_unit_test(keepalive_keeps_an_idle_connection),
		cmocka_unit_test(idle_channel_disconnects),
		cmocka_unit_test(freeing_inside_callbacks),
		cmocka_unit_test(many_streams_on_one_connection),
		cmocka_unit_test(connections_can_be_given_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
