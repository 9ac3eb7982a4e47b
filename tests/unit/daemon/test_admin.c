/* DOC: The admin HTTP server over real sockets on loopback, driven by one loop. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/daemon/admin.h"
#include "common/daemon/gzip.h"
#include "tests/unit/daemon/http_client.h"

struct fixture {
	struct loop *loop;
	struct admin *admin;
	char address[64];
	struct admin_request *waiting;
	int calls;
};

static void echo(void *ctx, struct admin_request *r)
{
	struct fixture *f = ctx;
	struct strbuf out = {0};

	f->calls++;
	strbuf_addf(&out, STR_FMT "|" STR_FMT "|" STR_FMT "|" STR_FMT "|" STR_FMT, STR_ARG(admin_request_path(r)),
		STR_ARG(admin_request_query_string(r)), STR_ARG(admin_request_query(r, "a")),
		STR_ARG(admin_request_header(r, "x-test")), STR_ARG(admin_request_body(r)));
	admin_respond(r, 200, "text/plain", strbuf_str(&out));
	strbuf_done(&out);
}

static void prefix(void *ctx, struct admin_request *r)
{
	admin_respond(r, 202, "text/plain", STR("prefix"));
}

static void later(void *ctx, struct admin_request *r)
{
	struct fixture *f = ctx;

	f->waiting = r;
}

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));
	uint16_t port = 0;
	struct err e = {0};

	f->loop = loop_new();
	f->admin = admin_new(f->loop, "127.0.0.1:0", &port, &e);
	if (!f->admin)
		fail_msg("%s", e.text);
	assert_int_not_equal(port, 0);
	snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", port);
	admin_route(f->admin, "GET", "/echo", echo, f);
	admin_route(f->admin, "POST", "/echo", echo, f);
	admin_route(f->admin, "GET", "/tree/", prefix, f);
	admin_route(f->admin, "GET", "/tree/leaf", echo, f);
	admin_route(f->admin, "GET", "/later", later, f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	admin_free(f->admin);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void finish(struct fixture *f, struct fetch *get)
{
	uint64_t give_up = clock_mono_ms() + 20000;

	while (!fetch_read(get)) {
		assert_true(clock_mono_ms() < give_up);
		loop_run_once(f->loop, 100);
	}
}

static void check(struct fixture *f, const char *method, const char *target, const char *body, unsigned status,
	const char *wanted)
{
	struct fetch get;

	fetch_start(&get, f->address, method, target, "X-Test: h\r\n", str_of(body));
	finish(f, &get);
	assert_int_equal(get.status, status);
	if (wanted && !str_eqc(get.body, wanted))
		fail_msg("\"" STR_FMT "\" is not \"%s\"", STR_ARG(get.body), wanted);
	fetch_done(&get);
}

static void a_request_reaches_its_handler_whole(void **state)
{
	check(*state, "GET", "/echo", "", 200, "/echo|||h|");
	check(*state, "GET", "/echo?a=b%20c&d", "", 200, "/echo|a=b%20c&d|b c|h|");
	check(*state, "POST", "/echo?b=1", "some body", 200, "/echo|b=1||h|some body");
	check(*state, "GET", "/%65cho", "", 200, "/echo|||h|");
}

static void the_longest_path_wins(void **state)
{
	check(*state, "GET", "/tree/leaf", "", 200, "/tree/leaf|||h|");
	check(*state, "GET", "/tree/leaf2", "", 202, "prefix");
	check(*state, "GET", "/tree/", "", 202, "prefix");
	check(*state, "GET", "/tree", "", 404, NULL);
	check(*state, "GET", "/", "", 404, NULL);
}

static void wrong_methods_and_paths_are_told_apart(void **state)
{
	check(*state, "DELETE", "/echo", "", 405, NULL);
	check(*state, "POST", "/tree/leaf", "x", 405, NULL);
	check(*state, "GET", "/ech", "", 404, NULL);
	check(*state, "GET", "/echoo", "", 404, NULL);
}

static struct str unpacked(struct str in, char *out, size_t size)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr,
		.avail_in = (uInt)in.len,
		.next_out = (Bytef *)out,
		.avail_out = (uInt)size};

	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(inflateEnd(&z), Z_OK);
	return str_n(out, z.total_out);
}

static void gzip_is_for_whoever_takes_it(void **state)
{
	static const struct {
		const char *header;
		bool accepted;
	} rows[] = {{"gzip", true}, {"zstd, GZIP;q=0.5", true}, {"x-gzip", true}, {"*", true}, {"gzip;q=0, *", false},
		{"*;q=0", false}, {"identity", false}, {"", false}, {"gzip; q=0.000", false}, {"deflate,br", false}};
	char random[2000];
	void *packed = NULL;
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (gzip_accepted(str_of(rows[i].header)) != rows[i].accepted)
			fail_msg("%s", rows[i].header);
	}
	for (size_t i = 0, x = 1; i < sizeof(random); i++, x = x * 6364136223846793005u + 1442695040888963407u)
		random[i] = (char)(x >> 56);
	assert_false(gzip_pack(str_n(random, sizeof(random)), &packed, &len)); /* it would grow */
	assert_null(packed);
}

static void A10_large_answers_are_packed(void **state)
{
	struct fixture *f = *state;
	char body[5000], text[8000];
	struct fetch get;
	struct str got;

	memset(body, 'x', sizeof(body));
	fetch_start(&get, f->address, "POST", "/echo", "Accept-Encoding: gzip\r\n", str_n(body, sizeof(body)));
	finish(f, &get);
	assert_true(
		fetch_header(&get, "Content-Encoding: gzip\r\n") && fetch_header(&get, "Vary: Accept-Encoding\r\n"));
	assert_true(get.body.len < 200);
	got = unpacked(get.body, text, sizeof(text));
	assert_int_equal(got.len, strlen("/echo||||") + sizeof(body));
	assert_true(str_starts(got, STR("/echo||||xxx")));
	fetch_done(&get);
	fetch_start(&get, f->address, "GET", "/echo", "Accept-Encoding: gzip\r\n", STR(""));
	finish(f, &get);
	assert_true(str_eqc(get.body, "/echo||||")); /* small ones are not */
	assert_false(fetch_header(&get, "Content-Encoding"));
	fetch_done(&get);
}

static void head_has_the_headers_of_get_and_no_body(void **state)
{
	struct fixture *f = *state;
	struct fetch get;

	fetch_start(&get, f->address, "HEAD", "/echo", "", STR(""));
	finish(f, &get);
	assert_int_equal(get.status, 200);
	assert_int_equal(get.body.len, 0);
	assert_true(fetch_header(&get, "Content-Length: 9\r\n"));
	assert_true(fetch_header(&get, "Content-Type: text/plain\r\n"));
	assert_true(fetch_header(&get, "Cache-Control: no-store\r\n"));
	fetch_done(&get);
}

static void an_answer_may_come_later(void **state)
{
	struct fixture *f = *state;
	struct fetch get;

	fetch_start(&get, f->address, "GET", "/later", "", STR(""));
	while (!f->waiting)
		loop_run_once(f->loop, 1000);
	/* The server goes on with others meanwhile. */
	check(f, "GET", "/echo", "", 200, "/echo|||h|");
	assert_false(fetch_read(&get));
	admin_respond(f->waiting, 201, "text/plain", STR("at last"));
	finish(f, &get);
	assert_int_equal(get.status, 201);
	assert_true(str_eqc(get.body, "at last"));
	fetch_done(&get);
}

static void a_client_that_left_harms_nothing(void **state)
{
	struct fixture *f = *state;
	struct fetch get;

	fetch_start(&get, f->address, "GET", "/later", "", STR(""));
	while (!f->waiting)
		loop_run_once(f->loop, 1000);
	fetch_done(&get);
	admin_respond(f->waiting, 200, "text/plain", STR("too late"));
	check(f, "GET", "/echo", "", 200, "/echo|||h|");
}

static void freeing_ends_requests_that_wait(void **state)
{
	struct fixture *f = *state;
	struct fetch get;

	fetch_start(&get, f->address, "GET", "/later", "", STR(""));
	while (!f->waiting)
		loop_run_once(f->loop, 1000);
	admin_free(f->admin);
	f->admin = NULL;
	fetch_wait(&get);
	assert_int_equal(get.status, 0);
	fetch_done(&get);
}

static void a_body_over_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	size_t chunk = 64 << 10;
	size_t total = 0;
	cleanup(free_p) char *zeros = xzalloc(chunk);
	char headers[64];
	struct fetch get;

	/* The body goes in pieces: the socket's buffer does not hold it. */
	snprintf(headers, sizeof(headers), "Content-Length: %u\r\n", LIMIT_HTTP_BODY_BYTES + 1);
	fetch_start(&get, f->address, "POST", "/echo", headers, STR(""));
	while (total < LIMIT_HTTP_BODY_BYTES + 1) {
		size_t want = min_size(chunk, LIMIT_HTTP_BODY_BYTES + 1 - total);
		ssize_t n = send(get.fd, zeros, want, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			total += (size_t)n;
		loop_run_once(f->loop, n > 0 ? 0 : 10);
	}
	finish(f, &get);
	assert_int_equal(get.status, 413);
	assert_int_equal(f->calls, 0);
	fetch_done(&get);
}

static void garbage_is_refused_and_survived(void **state)
{
	struct fixture *f = *state;
	struct fetch get;

	fetch_start(&get, f->address, "\x01\x02", "nonsense\r\n\r\n", "", STR(""));
	finish(f, &get);
	assert_int_not_equal(get.status, 200);
	fetch_done(&get);
	check(f, "GET", "/echo", "", 200, "/echo|||h|");
}

static void unix_sockets_are_served_and_replaced_when_stale(void **state)
{
	struct fixture *f = *state;
	char address[80];
	struct err e = {0};

	snprintf(address, sizeof(address), "unix:/tmp/test-admin-%d.sock", (int)getpid());
	for (int i = 0; i < 2; i++) {
		struct admin *a = admin_new(f->loop, address, NULL, &e);
		struct fetch get;

		if (!a)
			fail_msg("%s", e.text);
		admin_route(a, "GET", "/echo", echo, f);
		fetch_start(&get, address, "GET", "/echo", "", STR(""));
		finish(f, &get);
		assert_int_equal(get.status, 200);
		fetch_done(&get);
		admin_free(a);
	}
	unlink(address + 5);
}

static void a_taken_or_bad_address_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};

	assert_null(admin_new(f->loop, f->address, NULL, &e));
	assert_non_null(strstr(e.text, f->address));
	assert_null(admin_new(f->loop, "127.0.0.1:99999", NULL, &e));
	assert_null(admin_new(f->loop, "nowhere", NULL, &e));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_reaches_its_handler_whole),
		TEST(the_longest_path_wins),
		TEST(wrong_methods_and_paths_are_told_apart),
		cmocka_unit_test(gzip_is_for_whoever_takes_it),
		TEST(A10_large_answers_are_packed),
		TEST(head_has_the_headers_of_get_and_no_body),
		TEST(an_answer_may_come_later),
		TEST(a_client_that_left_harms_nothing),
		TEST(freeing_ends_requests_that_wait),
		TEST(a_body_over_the_limit_is_refused),
		TEST(garbage_is_refused_and_survived),
		TEST(unix_sockets_are_served_and_replaced_when_stale),
		TEST(a_taken_or_bad_address_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
