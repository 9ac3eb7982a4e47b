/* DOC: Options: precedence of the four sources, every type, every way to get them wrong, help. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/daemon/option_internal.h"

struct config {
	const char *config;
	const char *name;
	const char *secret;
	bool fast;
	uint32_t port;
	uint64_t wait_ms;
	const char **roots;
};

static const struct option_row rows[] = {
	{.name = "config", OPT_STR(struct config, config, NULL, "file")},
	{.name = "name", OPT_STR(struct config, name, "nobody", "who")},
	{.name = "admin-token", OPT_STR(struct config, secret, NULL, "never shown")},
	{.name = "fast", OPT_BOOL(struct config, fast, "hurry")},
	{.name = "xds-port", OPT_U32(struct config, port, "15010", 0, 65535, "where proxies connect")},
	{.name = "wait", OPT_MS(struct config, wait_ms, "100ms", 1, 10000, "quiet time")},
	{.name = "root", OPT_LIST(struct config, roots, "folders")},
};

static const char *const variables[] = {"FAIRLEAD_MY_PILOT_NAME", "FAIRLEAD_MY_PILOT_XDS_PORT",
	"FAIRLEAD_MY_PILOT_FAST", "FAIRLEAD_MY_PILOT_ROOT", "FAIRLEAD_MY_PILOT_SERVICE_HOST",
	"FAIRLEAD_MY_PILOT_CONFIG"};

struct fixture {
	struct arena *arena;
	struct config config;
	struct option_set set;
	struct err e;
	char path[64];
};

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));

	f->arena = arena_new();
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->path[0])
		unlink(f->path);
	arena_free(f->arena);
	free(f);
	return 0;
}

static bool load(struct fixture *f, const char *const *args)
{
	char *argv[16] = {(char *)"my-pilot"};
	int argc = 1;

	for (; args && args[argc - 1]; argc++)
		argv[argc] = arena_strdup(f->arena, args[argc - 1]);
	f->config = (struct config){0};
	f->e = (struct err){0};
	return options_load(f->arena, "my-pilot", rows, ARRAY_LEN(rows), argc, argv, &f->config, &f->set, &f->e);
}
#define LOAD(f, ...) load((f), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static const char *write_file(struct fixture *f, const char *text)
{
	int fd;

	snprintf(f->path, sizeof(f->path), "/tmp/test-options-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return arena_printf(f->arena, "--config=%s", f->path);
}

static void check_error(struct fixture *f, const char *wanted)
{
	if (!strstr(f->e.text, wanted))
		fail_msg("\"%s\" is not in \"%s\"", wanted, f->e.text);
}

static void defaults_hold_when_nothing_is_given(void **state)
{
	struct fixture *f = *state;

	assert_true(LOAD(f));
	assert_string_equal(f->config.name, "nobody");
	assert_null(f->config.secret);
	assert_false(f->config.fast);
	assert_int_equal(f->config.port, 15010);
	assert_int_equal(f->config.wait_ms, 100);
	assert_null(f->config.roots[0]);
	assert_null(f->set.rest[0]);
}

static void flags_in_every_form(void **state)
{
	struct fixture *f = *state;

	assert_true(LOAD(f, "--name", "a", "first", "--fast", "--xds-port=0", "--wait", "2s", "--root=a,b", "--root",
		" c ,", "--", "--x"));
	assert_string_equal(f->config.name, "a");
	assert_true(f->config.fast);
	assert_int_equal(f->config.port, 0);
	assert_int_equal(f->config.wait_ms, 2000);
	assert_string_equal(f->config.roots[0], "a");
	assert_string_equal(f->config.roots[1], "b");
	assert_string_equal(f->config.roots[2], "c");
	assert_null(f->config.roots[3]);
	assert_string_equal(f->set.rest[0], "first");
	assert_string_equal(f->set.rest[1], "--x");
	assert_null(f->set.rest[2]);
	assert_true(LOAD(f, "--fast=false", "--wait=250", "--name="));
	assert_false(f->config.fast);
	assert_int_equal(f->config.wait_ms, 250);
	assert_string_equal(f->config.name, "");
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
	struct fixture *f = *state;
	const char *config = write_file(f, "name: file\nxds-port: 1\nfast: true\nwait: 7ms\nroot: [x, y]\n");

	assert_true(load(f, (const char *const[]){config, NULL}));
	assert_string_equal(f->config.name, "file");
	assert_int_equal(f->config.port, 1);
	assert_true(f->config.fast);
	assert_int_equal(f->config.wait_ms, 7);
	assert_string_equal(f->config.roots[1], "y");
	assert_int_equal(f->set.values[1].source, OPTION_FROM_FILE);
	assert_non_null(strstr(f->set.values[4].where, ":2"));
	setenv("FAIRLEAD_MY_PILOT_NAME", "environment", 1);
	setenv("FAIRLEAD_MY_PILOT_XDS_PORT", "2", 1);
	setenv("FAIRLEAD_MY_PILOT_FAST", "false", 1);
	setenv("FAIRLEAD_MY_PILOT_ROOT", "z", 1);
	assert_true(load(f, (const char *const[]){"--xds-port=3", config, NULL}));
	assert_string_equal(f->config.name, "environment");
	assert_string_equal(f->set.values[1].where, "FAIRLEAD_MY_PILOT_NAME");
	assert_int_equal(f->config.port, 3);
	assert_int_equal(f->set.values[4].source, OPTION_FROM_FLAG);
	assert_false(f->config.fast);
	assert_string_equal(f->config.roots[0], "z");
	assert_null(f->config.roots[1]);
	assert_int_equal(f->set.values[5].source, OPTION_FROM_FILE);
	assert_int_equal(f->set.values[2].source, OPTION_FROM_DEFAULT);
}

static void the_file_may_be_named_by_the_environment(void **state)
{
	struct fixture *f = *state;

	write_file(f, "name: file\n");
	setenv("FAIRLEAD_MY_PILOT_CONFIG", f->path, 1);
	assert_true(LOAD(f));
	assert_string_equal(f->config.name, "file");
}

static void an_empty_file_says_nothing(void **state)
{
	struct fixture *f = *state;

	assert_true(load(f, (const char *const[]){write_file(f, "# nothing yet\n"), NULL}));
	assert_string_equal(f->config.name, "nobody");
}

static void a_bad_value_hidden_by_a_stronger_one_does_no_harm(void **state)
{
	struct fixture *f = *state;

	setenv("FAIRLEAD_MY_PILOT_XDS_PORT", "many", 1);
	assert_true(LOAD(f, "--xds-port=3"));
	assert_false(LOAD(f));
	check_error(f, "xds-port (from FAIRLEAD_MY_PILOT_XDS_PORT): \"many\" is not a whole number (0..65535)");
}

static void unknown_options_name_the_nearest(void **state)
{
	struct fixture *f = *state;

	assert_false(LOAD(f, "--xds-prot", "--wiat=3"));
	check_error(f, "unknown option --xds-prot; did you mean --xds-port?");
	check_error(f, "unknown option --wiat; did you mean --wait?");
	assert_false(LOAD(f, "--completely-different"));
	assert_string_equal(f->e.text, "unknown option --completely-different");
	assert_false(LOAD(f, "-x"));
	check_error(f, "unknown option -x");
}

static void kubernetes_service_variables_are_no_options(void **state)
{
	setenv("FAIRLEAD_MY_PILOT_SERVICE_HOST", "10.0.0.1", 1);
	assert_true(LOAD(*state));
}

static void all_problems_are_reported_at_once(void **state)
{
	struct fixture *f = *state;

	assert_false(LOAD(f, "--xds-port=65536", "--wait=0s", "--fast=perhaps", "--nmae=x", "--name"));
	check_error(f, "--xds-port: 65536 is out of range (0..65535)");
	check_error(f, "--wait: 0s is out of range (1..10000 ms)");
	check_error(f, "--fast: \"perhaps\" is neither true nor false");
	check_error(f, "did you mean --name?");
	check_error(f, "option --name needs a value");
}

static void values_that_do_not_convert(void **state)
{
	static const char *const bad[] = {"--xds-port=", "--xds-port=-1", "--xds-port=1x",
		"--xds-port=99999999999999999999", "--wait=", "--wait=-5s", "--wait=5 s", "--wait=11s",
		"--wait=99999999999h", "--fast=2"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (load(*state, (const char *const[]){bad[i], NULL}))
			fail_msg("%s was taken", bad[i]);
	}
}

static void problems_in_the_file_have_its_line(void **state)
{
	static const struct {
		const char *text;
		const char *wanted;
	} bad[] = {
		{"name: x\nxds-prot: 3\n", ":2: unknown option xds-prot; did you mean xds-port?"},
		{"name: x\n\nxds-port: 70000\n", ":3): 70000 is out of range"},
		{"name: [a, b]\n", ":1: name takes one value, not a list"},
		{"name: {a: b}\n", ":1: name is not a plain value"},
		{"root: [{a: b}]\n", ":1: root[0] is not a plain value"},
		{"config: other.yaml\n", ":1: a configuration file cannot name another one"},
		{"- name\n", ": a map of options is expected"},
		{"name: a\n---\nname: b\n", ": one document is expected, 2 are there"},
		{"name: a\nname: b\n", ":2"},
		{"name: [a\n", "error"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fixture *f = *state;

		if (load(f, (const char *const[]){write_file(f, bad[i].text), NULL}))
			fail_msg("taken: %s", bad[i].text);
		check_error(f, bad[i].wanted);
		unlink(f->path);
	}
}

static void a_missing_file_is_an_error(void **state)
{
	struct fixture *f = *state;

	assert_false(LOAD(f, "--config=/nonexistent/file.yaml"));
	check_error(f, "--config");
	check_error(f, "/nonexistent/file.yaml");
}

static void secrets_are_known_by_their_names(void **state)
{
	static const char *const hidden[] = {"admin-token", "token", "ca-key", "db-password", "client-secret"};
	static const char *const shown[] = {"token-path", "bus-keys", "monkey", "state-dir"};

	for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
		assert_true(option_is_secret(&(struct option_row){.name = hidden[i]}));
	for (size_t i = 0; i < ARRAY_LEN(shown); i++)
		assert_false(option_is_secret(&(struct option_row){.name = shown[i]}));
}

static void help_lists_every_option_with_default_and_range(void **state)
{
	struct strbuf out = {0};

	options_help("my-pilot", "does things", rows, ARRAY_LEN(rows), &out);
	assert_non_null(strstr(out.ptr, "my-pilot - does things\n"));
	assert_non_null(strstr(out.ptr, "--xds-port=N"));
	assert_non_null(strstr(out.ptr, "where proxies connect (default 15010) (0..65535)\n"));
	assert_non_null(strstr(out.ptr, "quiet time (default 100ms) (1..10000 ms)\n"));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_non_null(strstr(out.ptr, rows[i].name));
	strbuf_done(&out);
}

static void the_public_entry_gives_the_rest(void **state)
{
	struct fixture *f = *state;
	char *argv[] = {(char *)"cli", (char *)"status", (char *)"--name=x", NULL};
	const char *const *rest = NULL;

	assert_true(options_parse(f->arena, "cli", rows, ARRAY_LEN(rows), 3, argv, &f->config, &rest, &f->e));
	assert_string_equal(rest[0], "status");
	assert_null(rest[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(defaults_hold_when_nothing_is_given),
		TEST(flags_in_every_form),
		TEST(flag_beats_environment_beats_file_beats_default),
		TEST(the_file_may_be_named_by_the_environment),
		TEST(an_empty_file_says_nothing),
		TEST(a_bad_value_hidden_by_a_stronger_one_does_no_harm),
		TEST(unknown_options_name_the_nearest),
		TEST(kubernetes_service_variables_are_no_options),
		TEST(all_problems_are_reported_at_once),
		TEST(values_that_do_not_convert),
		TEST(problems_in_the_file_have_its_line),
		TEST(a_missing_file_is_an_error),
		TEST(secrets_are_known_by_their_names),
		TEST(help_lists_every_option_with_default_and_range),
		TEST(the_public_entry_gives_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
