/* DOC: Loop, addresses, files and child processes. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/addr.h"
#include "common/io/file.h"
#include "common/io/net.h"
#include "common/io/proc.h"

struct order {
	int seen[64];
	int n;
	struct loop *loop;
	struct timer *timer;
};

struct posted_number {
	struct order *order;
	int number;
};

static void note(void *ctx)
{
	struct posted_number *p = ctx;
	p->order->seen[p->order->n++] = p->number;
	free(p);
}

static void *post_all(void *ctx)
{
	struct order *o = ctx;
	for (int i = 0; i < 50; i++) {
		struct posted_number *p = xmalloc(sizeof(*p));
		*p = (struct posted_number){o, i};
		loop_post(o->loop, note, p);
	}
	loop_stop(o->loop);
	return NULL;
}

static void posted_work_runs_in_order(void **state)
{
	(void)state;
	struct order o = {.loop = loop_new()};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, post_all, &o), 0);
	loop_run(o.loop);
	pthread_join(t, NULL);
	loop_run_once(o.loop, 0);
	assert_int_equal(o.n, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(o.seen[i], i);
	loop_free(o.loop);
}

static void work_posted_before_free_still_runs(void **state)
{
	(void)state;
	struct order o = {.loop = loop_new()};
	struct posted_number *p = xmalloc(sizeof(*p));
	*p = (struct posted_number){&o, 7};
	loop_post(o.loop, note, p);
	loop_free(o.loop);
	assert_int_equal(o.n, 1);
}

static void free_self(void *ctx)
{
	struct order *o = ctx;
	o->n++;
	timer_free(o->timer);
	o->timer = NULL;
}

static void timer_may_be_freed_in_its_callback(void **state)
{
	(void)state;
	struct order o = {.loop = loop_new()};
	o.timer = timer_new(o.loop, free_self, &o);
	timer_start(o.timer, 1, 1);
	assert_true(timer_active(o.timer));
	while (o.timer)
		loop_run_once(o.loop, 1000);
	loop_run_once(o.loop, 5);
	assert_int_equal(o.n, 1);
	loop_free(o.loop);
}

static void count_events(void *ctx, int events)
{
	int *n = ctx;
	assert_true(events & WATCH_READ);
	(*n)++;
}

static void watch_is_level_triggered(void **state)
{
	(void)state;
	struct loop *l = loop_new();
	int fds[2], n = 0;
	assert_int_equal(pipe(fds), 0);
	struct watch *w = watch_new(l, fds[0], WATCH_READ, count_events, &n);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_run_once(l, 1000);
	loop_run_once(l, 1000);
	assert_true(n >= 2);
	watch_set(w, 0);
	int before = n;
	loop_run_once(l, 5);
	assert_int_equal(n, before);
	watch_free(w);
	close(fds[0]);
	close(fds[1]);
	loop_free(l);
}

static const struct {
	const char *text;
	const char *back; /* NULL: refused */
} addresses[] = {
	{"127.0.0.1:15010", "127.0.0.1:15010"},
	{"[::1]:15010", "[::1]:15010"},
	{"0.0.0.0:0", "0.0.0.0:0"},
	{"unix:/run/x.sock", "unix:/run/x.sock"},
	{"unix:///run/x.sock", "unix:/run/x.sock"},
	{"unix:@abstract", "unix:@abstract"},
	{"127.0.0.1", NULL},
	{"127.0.0.1:65536", NULL},
	{"127.0.0.1:", NULL},
	{"127.1:80", NULL},
	{"::1:80", NULL},
	{":80", NULL},
	{"localhost:80", NULL},
	{"unix:", NULL},
};

static void addresses_parse_and_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct addr a;
		struct err e = {0};
		char text[128];
		bool ok = addr_parse(str_of(addresses[i].text), &a, &e);
		assert_int_equal(ok, addresses[i].back != NULL);
		if (!ok) {
			assert_non_null(strstr(e.text, addresses[i].text));
			continue;
		}
		addr_format(&a, text);
		assert_string_equal(text, addresses[i].back);
	}
	char path[200];
	memset(path, 'p', sizeof(path) - 1);
	memcpy(path, "unix:", 5);
	path[sizeof(path) - 1] = 0;
	struct err e = {0};
	assert_false(addr_parse(str_of(path), &(struct addr){0}, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
}

static void cidrs_parse(void **state)
{
	(void)state;
	uint8_t ip[16];
	unsigned bits, prefix;
	assert_true(cidr_parse(STR("10.1.0.0/16"), ip, &bits, &prefix));
	assert_int_equal(bits, 32);
	assert_int_equal(prefix, 16);
	assert_true(cidr_parse(STR("fd00::1"), ip, &bits, &prefix));
	assert_int_equal(prefix, 128);
	assert_false(cidr_parse(STR("10.1.0.0/33"), ip, &bits, &prefix));
	assert_false(cidr_parse(STR("10.1.0.0/"), ip, &bits, &prefix));
	assert_false(cidr_parse(STR("10.1/16"), ip, &bits, &prefix));
}

static void cidrs_cover_addresses(void **state)
{
	(void)state;
	unsigned prefix = 0;
	assert_true(cidr_covers(STR("10.1.0.0/15"), STR("10.0.255.255"), &prefix));
	assert_int_equal(prefix, 15);
	assert_false(cidr_covers(STR("10.1.0.0/15"), STR("10.2.0.0"), &prefix));
	assert_true(cidr_covers(STR("0.0.0.0/0"), STR("255.0.0.1"), &prefix));
	assert_true(cidr_covers(STR("10.1.2.3"), STR("10.1.2.3"), &prefix));
	assert_int_equal(prefix, 32);
	assert_true(cidr_covers(STR("fd00::/63"), STR("fd00:0:0:1::9"), &prefix));
	assert_false(cidr_covers(STR("fd00::/64"), STR("fd00:0:0:1::9"), &prefix));
	/* Of another family, or no address at all. */
	assert_false(cidr_covers(STR("::/0"), STR("10.1.2.3"), &prefix));
	assert_false(cidr_covers(STR("0.0.0.0/0"), STR("one.example.com"), &prefix));
	assert_false(cidr_covers(STR(""), STR("10.1.2.3"), &prefix));
}

static char *temp_dir(void)
{
	char *d = xstrdup("/tmp/fairlead-io-XXXXXX");
	assert_non_null(mkdtemp(d));
	return d;
}

static void files_are_written_whole(void **state)
{
	(void)state;
	struct err e = {0};
	char *dir = temp_dir();
	char *sub = xasprintf("%s/a/b", dir), *path = xasprintf("%s/a/b/key.pem", dir), *out = NULL,
	     *mid = xasprintf("%s/a", dir);
	size_t len = 0;
	struct stat st;
	assert_true(file_mkdirs(sub, 0755, &e));
	assert_true(file_mkdirs(sub, 0755, &e));
	assert_true(file_write_atomic(path, STR("old"), 0600, &e));
	assert_true(file_write_atomic(path, STR("newer"), 0600, &e));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(file_read(path, 5, &out, &len, &e));
	assert_int_equal(len, 5);
	assert_string_equal(out, "newer");
	free(out);
	assert_false(file_read(path, 4, &out, &len, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	assert_non_null(strstr(e.text, path));
	assert_false(file_read(sub, 100, &out, &len, &e));
	assert_true(unlink(path) == 0 && rmdir(sub) == 0); /* no temporary file is left */
	assert_true(rmdir(mid) == 0 && rmdir(dir) == 0);
	free(dir);
	free(sub);
	free(mid);
	free(path);
}

struct ended {
	bool done;
	int status, signo;
};

static void on_exit_note(void *ctx, int status, int signo)
{
	*(struct ended *)ctx = (struct ended){true, status, signo};
}

static void child_exit_is_told_once(void **state)
{
	(void)state;
	struct loop *l = loop_new();
	struct err e = {0};
	struct ended end = {0};
	const char *const argv[] = {"sh", "-c", "exit $CODE", NULL};
	const char *const env[] = {"CODE=7", "PATH=/usr/bin:/bin", NULL};
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = argv;
	o.env = env;
	struct proc *p = proc_start(l, &o, on_exit_note, &end, &e);
	assert_non_null(p);
	while (!end.done)
		loop_run_once(l, 1000);
	assert_int_equal(end.status, 7);
	assert_false(proc_running(p));
	proc_free(p);
	loop_free(l);
}

static void child_killed_by_signal(void **state)
{
	(void)state;
	struct loop *l = loop_new();
	struct err e = {0};
	struct ended end = {0};
	const char *const argv[] = {"sleep", "60", NULL};
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = argv;
	struct proc *p = proc_start(l, &o, on_exit_note, &end, &e);
	assert_non_null(p);
	proc_kill(p, SIGTERM);
	while (!end.done)
		loop_run_once(l, 1000);
	assert_int_equal(end.signo, SIGTERM);
	proc_free(p);
	p = proc_start(l, &o, on_exit_note, &end, &e);
	int pid = proc_pid(p);
	proc_free(p);
	assert_true(kill(pid, 0) != 0 && errno == ESRCH); /* killed and reaped */
	loop_free(l);
}

static void missing_program_is_an_error(void **state)
{
	(void)state;
	struct loop *l = loop_new();
	struct err e = {0};
	const char *const argv[] = {"no-such-program-here", NULL};
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = argv;
	assert_null(proc_start(l, &o, on_exit_note, NULL, &e));
	assert_non_null(strstr(e.text, "no-such-program-here"));
	loop_free(l);
}

static bool reached(const char *address, char peer[128])
{
	struct addr at, from = {.len = sizeof(from.sa)};
	struct err e = {0};
	int fd = -1;
	assert_true(addr_parse(str_of(address), &at, &e));
	if (!net_connect(&at, NULL, &fd, &e))
		return false;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	assert_int_equal(poll(&p, 1, 5000), 1);
	bool ok = net_connected(fd, &e);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&from.sa, &from.len), 0);
	addr_format(&from, peer);
	(void)close(fd);
	return ok;
}

/* "*": by IPv4 and by IPv6, and who came by IPv4 is called by that address. */
static void every_address_of_both_kinds(void **state)
{
	struct addr any;
	struct err e = {0};
	uint16_t port = 0;
	int fd = -1;
	char address[64], peer[128], seen[128];
	assert_true(addr_parse(STR("*:0"), &any, &e));
	assert_true(net_listen(&any, &fd, &port, &e));
	for (int v6 = 0; v6 < 2; v6++) {
		(void)snprintf(address, sizeof(address), v6 ? "[::1]:%u" : "127.0.0.1:%u", port);
		if (v6 && any.sa.ss_family == AF_INET6 && !reached(address, peer))
			continue; /* a machine without IPv6 on loopback */
		if (!v6)
			assert_true(reached(address, peer));
		int client = accept(fd, NULL, NULL);
		assert_true(client >= 0);
		net_peer_address(client, seen);
		assert_string_equal(seen, peer);
		(void)close(client);
	}
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_address_of_both_kinds),
		cmocka_unit_test(posted_work_runs_in_order),
		cmocka_unit_test(work_posted_before_free_still_runs),
		cmocka_unit_test(timer_may_be_freed_in_its_callback),
		cmocka_unit_test(watch_is_level_triggered),
		cmocka_unit_test(addresses_parse_and_format),
		cmocka_unit_test(cidrs_parse),
		cmocka_unit_test(cidrs_cover_addresses),
		cmocka_unit_test(files_are_written_whole),
		cmocka_unit_test(child_exit_is_told_once),
		cmocka_unit_test(child_killed_by_signal),
		cmocka_unit_test(missing_program_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
