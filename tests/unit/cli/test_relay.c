/* DOC: The relay on loopback: bytes both ways in any amount, half-close, and no target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/up/relay.h"
#include "common/base/str.h"
#include "common/io/addr.h"

#define BYTES 300000

struct bench {
	struct loop *loop;
	struct relay *relay;
	int server; /* listens: the inside */
	int machine; /* connected to the relay */
};

static int connect_to(const char *address)
{
	struct addr a;
	assert_true(addr_parse(str_of(address), &a, NULL));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	(void)connect(fd, (struct sockaddr *)&a.sa, a.len);
	return fd;
}

static struct bench begin(bool with_target)
{
	struct bench b = {.loop = loop_new()};
	char outside[128], inside[128];
	struct err e = {0};
	int fd = relay_bind("127.0.0.1:0", outside, &e);
	b.server = relay_bind("127.0.0.1:0", inside, &e);
	assert_true(fd >= 0 && b.server >= 0);
	b.relay = relay_new(b.loop, fd);
	assert_true(relay_target(b.relay, with_target ? inside : NULL, &e));
	b.machine = connect_to(outside);
	return b;
}

static void end(struct bench *b)
{
	(void)close(b->server);
	(void)close(b->machine);
	relay_free(b->relay);
	loop_free(b->loop);
}

static int accept_inside(const struct bench *b)
{
	int fd = -1;
	for (int i = 0; fd < 0 && i < 500; i++) {
		loop_run_once(b->loop, 10);
		fd = accept4(b->server, NULL, NULL, SOCK_NONBLOCK);
	}
	assert_true(fd >= 0);
	return fd;
}

/* Sends BYTES from one side and reads them at the other; the sender then closes its half. */
static void pass(const struct bench *b, int from, int to)
{
	char out[7000], in[5000];
	size_t sent = 0, got = 0;
	bool over = false;
	for (int i = 0; !over && i < 20000; i++) {
		for (size_t k = 0; k < sizeof(out); k++)
			out[k] = (char)((sent + k) % 251);
		ssize_t n = sent < BYTES ? send(from, out, min_size(sizeof(out), BYTES - sent), MSG_NOSIGNAL) : 0;
		sent += n > 0 ? (size_t)n : 0;
		if (n > 0 && sent == BYTES)
			assert_int_equal(shutdown(from, SHUT_WR), 0);
		loop_run_once(b->loop, 1);
		n = recv(to, in, sizeof(in), 0);
		over = n == 0;
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal((unsigned char)in[k], (got + (size_t)k) % 251);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_true(over);
	assert_int_equal(got, BYTES);
}

static void bytes_pass_both_ways_and_halves_close(void **state)
{
	(void)state;
	struct bench b = begin(true);
	int inside = accept_inside(&b);
	pass(&b, b.machine, inside);
	pass(&b, inside, b.machine);
	(void)close(inside);
	end(&b);
}

/* Waits until the machine's side is closed. */
static bool closes(const struct bench *b)
{
	char c;
	for (int i = 0; i < 500; i++) {
		loop_run_once(b->loop, 10);
		if (recv(b->machine, &c, 1, 0) == 0)
			return true;
	}
	return false;
}

static void without_target_it_closes(void **state)
{
	(void)state;
	struct bench b = begin(false);
	assert_true(closes(&b));
	end(&b);
}

static void an_unreachable_target_closes(void **state)
{
	(void)state;
	struct bench b = begin(true);
	struct err e = {0};
	assert_true(relay_target(b.relay, "127.0.0.1:1", &e));
	assert_true(closes(&b));
	end(&b);
}

static void a_bad_address_is_refused(void **state)
{
	(void)state;
	char bound[128];
	struct err e = {0};
	assert_int_equal(relay_bind("localhost", bound, &e), -1);
	struct bench b = begin(true);
	assert_false(relay_target(b.relay, "10.88.1.2", &e));
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_pass_both_ways_and_halves_close),
		cmocka_unit_test(without_target_it_closes),
		cmocka_unit_test(an_unreachable_target_closes),
		cmocka_unit_test(a_bad_address_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
