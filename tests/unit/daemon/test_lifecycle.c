/* DOC: A whole daemon in a child process: pages over HTTP, signals, drain, exit codes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon/daemon.h"
#include "tests/unit/daemon/http_client.h"

struct config {
	const char *mode; /* "", "fail", "fail-late", "not-ready" */
	const char *token;
	bool never_drains;
};

struct state {
	struct daemon *daemon;
	struct timer *timer;
	const struct config *config;
};

/* The child tells the parent what happens, one letter each: s(tarted) d(raining) r(eloaded) e(nded). */
static int report_fd = -1;

static void report(char c)
{
	if (write(report_fd, &c, 1) != 1)
		_exit(99);
}

static void on_timer(void *ctx)
{
	struct state *s = ctx;
	struct err e = {0};

	if (streq(s->config->mode, "fail-late")) {
		err_set(&e, ERR_LIBRARY, "the works broke");
		daemon_fail(s->daemon, &e);
	} else {
		report('s');
	}
}

static bool start(struct daemon *d, const void *config, void **self, struct err *e)
{
	const struct config *c = config;
	struct state *s;

	if (streq(c->mode, "fail"))
		return err_set(e, ERR_SYSTEM, "no power");
	s = xzalloc(sizeof(*s));
	*s = (struct state){.daemon = d, .config = c, .timer = timer_new(daemon_loop(d), on_timer, s)};
	timer_start(s->timer, 0, 0);
	if (streq(c->mode, "not-ready"))
		daemon_not_ready(d, "bus", "no snapshot yet");
	daemon_note(d, "snapshot", "of 12 s ago");
	*self = s;
	return true;
}

static void drain(void *self)
{
	struct state *s = self;

	report('d');
	if (!s->config->never_drains)
		daemon_drained(s->daemon);
}

static void stop(void *self)
{
	struct state *s = self;

	report('e');
	timer_free(s->timer);
	free(s);
}

static bool reload(void *self, struct err *e)
{
	struct state *s = self;

	report('r');
	daemon_ready(s->daemon, "bus");
	return true;
}

static void page(void *self, struct str query, struct strbuf *out)
{
	strbuf_adds(out, "{\"query\":");
	strbuf_add_json(out, query);
	strbuf_adds(out, "}\n");
}

static int answer(int argc, char **argv)
{
	return argc == 2 && streq(argv[0], "answer") ? 42 : 1;
}

static const struct option_row options[] = {
	{.name = "mode", OPT_STR(struct config, mode, "", "what to do")},
	{.name = "admin-token", OPT_STR(struct config, token, NULL, "hidden")},
	{.name = "never-drains", OPT_BOOL(struct config, never_drains, "ignore drain")},
};
static const struct debug_page pages[] = {{"things", "what there is", page}};
static const struct daemon_command commands[] = {{"answer", "gives the answer", answer}};
static const struct daemon_def def = {
	.name = "tester",
	.summary = "is tested",
	.admin_port = 15999,
	.options = options,
	.n_options = ARRAY_LEN(options),
	.pages = pages,
	.n_pages = ARRAY_LEN(pages),
	.commands = commands,
	.n_commands = ARRAY_LEN(commands),
	.config_size = sizeof(struct config),
	.start = start,
	.drain = drain,
	.stop = stop,
	.reload = reload,
};

struct fixture {
	char address[80];
	char output[80];
	pid_t pid;
	int reports;
};

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));

	snprintf(f->address, sizeof(f->address), "unix:/tmp/test-lifecycle-%d.sock", (int)getpid());
	snprintf(f->output, sizeof(f->output), "/tmp/test-lifecycle-%d.out", (int)getpid());
	f->reports = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->reports >= 0)
		close(f->reports);
	unlink(f->address + 5);
	unlink(f->output);
	free(f);
	return 0;
}

static void child(struct fixture *f, int fd, const char *const *args)
{
	char admin[100];
	char *argv[12] = {(char *)"tester", admin};
	int argc = 2;
	int out = open(f->output, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	if (out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		_exit(98);
	report_fd = fd;
	snprintf(admin, sizeof(admin), "--admin-address=%s", f->address);
	if (args[0] && args[0][0] != '-')
		argc = 1; /* a command comes first */
	for (size_t i = 0; args[i]; i++)
		argv[argc++] = (char *)(uintptr_t)args[i];
	argv[argc] = NULL;
	exit(daemon_main(&def, argc, argv));
}

static void run(struct fixture *f, const char *const *args)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		close(fds[0]);
		child(f, fds[1], args);
	}
	close(fds[1]);
	f->reports = fds[0];
}
#define RUN(f, ...) run((f), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void expect_report(struct fixture *f, char wanted)
{
	struct pollfd p = {.fd = f->reports, .events = POLLIN};
	char c = 0;

	assert_true(poll(&p, 1, 20000) > 0);
	assert_int_equal(read(f->reports, &c, 1), 1);
	assert_int_equal(c, wanted);
}

static void expect_exit(struct fixture *f, int code)
{
	int status = 0;

	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static bool said(struct fixture *f, const char *text)
{
	char buffer[8192] = "";
	int fd = open(f->output, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, buffer, sizeof(buffer) - 1);
	assert_true(n >= 0);
	close(fd);
	return strstr(buffer, text) != NULL;
}

static unsigned fetch(struct fixture *f, const char *method, const char *target, const char *wanted)
{
	struct fetch get;
	unsigned status;

	fetch_start(&get, f->address, method, target, "", STR(""));
	fetch_wait(&get);
	if (wanted && !strstr(get.body.ptr, wanted))
		fail_msg("%s: \"%s\" is not in: %s", target, wanted, get.body.ptr);
	status = get.status;
	fetch_done(&get);
	return status;
}

static void the_standard_pages_are_served(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--admin-token=very-secret", "--instance=here");
	expect_report(f, 's');
	assert_int_equal(fetch(f, "GET", "/healthz", "ok"), 200);
	assert_int_equal(fetch(f, "GET", "/readyz", "ready\nsnapshot: of 12 s ago\n"), 200);
	assert_int_equal(fetch(f, "GET", "/version", "{\"program\":\"tester\",\"version\":\""), 200);
	assert_int_equal(fetch(f, "GET", "/version", "\"instance\":\"here\""), 200);
	assert_int_equal(fetch(f, "GET", "/metrics", "fairlead_build_info{program=\"tester\",version=\""), 200);
	assert_int_equal(fetch(f, "GET", "/metrics", "process_resident_memory_bytes "), 200);
	assert_int_equal(fetch(f, "GET", "/debug/list", "\"/debug/things\",\"help\":\"what there is\""), 200);
	assert_int_equal(fetch(f, "GET", "/debug/things?x=1", "{\"query\":\"x=1\"}"), 200);
	assert_int_equal(fetch(f, "GET", "/debug/memory", "\"private_bytes\":"), 200);
	assert_int_equal(
		fetch(f, "GET", "/debug/options", "{\"name\":\"instance\",\"value\":\"here\",\"source\":\"flag\""),
		200);
	assert_int_equal(fetch(f, "GET", "/debug/options", "{\"name\":\"admin-token\",\"value\":\"(not shown)\""), 200);
	assert_int_equal(fetch(f, "GET", "/debug/none", "/debug/list"), 404);
	assert_int_equal(fetch(f, "GET", "/", "/debug/things"), 200);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	expect_report(f, 'd');
	expect_report(f, 'e');
	expect_exit(f, 0);
	assert_false(said(f, "very-secret"));
}

static void levels_change_while_it_runs(void **state)
{
	struct fixture *f = *state;

	RUN(f);
	expect_report(f, 's');
	assert_int_equal(fetch(f, "GET", "/debug/logging", "{\"default\":\"info\""), 200);
	assert_int_equal(fetch(f, "POST", "/debug/logging?daemon=warn", "\"level\":\"warn\",\"own\":true"), 200);
	assert_int_equal(fetch(f, "POST", "/debug/logging?default=debug", "{\"default\":\"debug\""), 200);
	assert_int_equal(fetch(f, "POST", "/debug/logging?default=loud", "unknown level"), 400);
	assert_int_equal(fetch(f, "POST", "/debug/logging", "error"), 400);
	assert_int_equal(fetch(f, "GET", "/debug/logging", "{\"default\":\"debug\""), 200);
	assert_int_equal(kill(f->pid, SIGINT), 0);
	expect_report(f, 'd');
	expect_report(f, 'e');
	expect_exit(f, 0);
}

static void not_ready_says_why_until_it_is(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--mode=not-ready");
	expect_report(f, 's');
	assert_int_equal(fetch(f, "GET", "/readyz", "not ready\nbus: no snapshot yet\n"), 503);
	assert_int_equal(fetch(f, "GET", "/healthz", "ok"), 200);
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	expect_report(f, 'r');
	assert_int_equal(fetch(f, "GET", "/readyz", "ready\n"), 200);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	expect_report(f, 'd');
	expect_report(f, 'e');
	expect_exit(f, 0);
}

static void a_drain_that_does_not_end_is_cut_off(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--never-drains", "--drain-timeout=50ms");
	expect_report(f, 's');
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	expect_report(f, 'd');
	expect_report(f, 'e');
	expect_exit(f, 0);
	assert_true(said(f, "drain timed out"));
}

static void a_second_signal_ends_the_drain_at_once(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--never-drains", "--drain-timeout=1h");
	expect_report(f, 's');
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	expect_report(f, 'd');
	assert_int_equal(fetch(f, "GET", "/readyz", "drain: draining"), 503);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	expect_report(f, 'e');
	expect_exit(f, 0);
}

static void a_start_that_fails_exits_with_1(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--mode=fail");
	expect_exit(f, 1);
	assert_true(said(f, "no power"));
}

static void a_failure_later_exits_with_1_after_stop(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--mode=fail-late", "--log-format=json");
	expect_report(f, 'e');
	expect_exit(f, 1);
	assert_true(said(f, "\"error\":\"the works broke\",\"kind\":\"library\""));
}

static void wrong_usage_exits_with_2(void **state)
{
	static const struct {
		const char *argument;
		const char *wanted;
	} rows[] = {
		{"--mdoe=x", "unknown option --mdoe; did you mean --mode?"},
		{"--drain-timeout=2h", "out of range"},
		{"--log-level=loud", "unknown level"},
		{"--log-format=xml", "neither text nor json"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		RUN(f, rows[i].argument);
		expect_exit(f, 2);
		assert_true(said(f, rows[i].wanted));
		close(f->reports);
	}
	RUN(f, "--mode=x", "surplus");
	expect_exit(f, 2);
	assert_true(said(f, "unexpected argument \"surplus\""));
}

static void an_address_in_use_exits_with_1(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--admin-address=192.0.2.1:1");
	expect_exit(f, 1);
	assert_true(said(f, "cannot listen on 192.0.2.1:1"));
}

static void help_and_version_always_work(void **state)
{
	struct fixture *f = *state;

	RUN(f, "--help", "--nonsense");
	expect_exit(f, 0);
	assert_true(said(f, "tester - is tested"));
	assert_true(said(f, "--never-drains"));
	assert_true(said(f, "(default 127.0.0.1:15999)"));
	assert_true(said(f, "gives the answer"));
	close(f->reports);
	RUN(f, "--version");
	expect_exit(f, 0);
	assert_true(said(f, "tester " FAIRLEAD_VERSION "\n"));
}

static void commands_run_instead_of_the_daemon(void **state)
{
	struct fixture *f = *state;

	RUN(f, "answer", "x");
	expect_exit(f, 42);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_standard_pages_are_served),
		TEST(levels_change_while_it_runs),
		TEST(not_ready_says_why_until_it_is),
		TEST(a_drain_that_does_not_end_is_cut_off),
		TEST(a_second_signal_ends_the_drain_at_once),
		TEST(a_start_that_fails_exits_with_1),
		TEST(a_failure_later_exits_with_1_after_stop),
		TEST(wrong_usage_exits_with_2),
		TEST(an_address_in_use_exits_with_1),
		TEST(help_and_version_always_work),
		TEST(commands_run_instead_of_the_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
