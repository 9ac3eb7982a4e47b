/* DOC: Arguments: which command runs, with which options, and what the exit code is when they are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/command.h"
#include "cli/output.h"
#include "common/base/str.h"

struct seen {
	const char *output, *ns;
	const char *first;
	size_t n_args;
	unsigned calls;
};
static struct seen seen; /* by the command below; a test begins with none */

struct config {
	const char *output, *ns;
};

static int run(const struct invocation *i)
{
	const struct config *c = i->config;
	static char copies[3][32];
	(void)snprintf(copies[0], 32, "%s", c->output);
	(void)snprintf(copies[1], 32, "%s", c->ns ? c->ns : "");
	(void)snprintf(copies[2], 32, "%s", i->n_args ? i->args[0] : "");
	seen = (struct seen){copies[0], copies[1], copies[2], i->n_args, seen.calls + 1};
	return 7;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct config, output),
	{.name = "namespace", OPT_STR(struct config, ns, NULL, "namespace")},
};

static const struct command look = {
	.name = "look",
	.arguments = "[THING]",
	.summary = "looks at things",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct config),
	.max_args = 1,
	.run = run,
};
static const struct command *const commands[] = {&look};

/* Runs the words; what was printed on `fd` (1 or 2) is in *printed, which the caller frees. */
static int call(int fd, char **printed, const char *const *words)
{
	char *argv[8] = {0};
	int argc = 0;
	FILE *file = tmpfile();
	assert_non_null(file);
	seen = (struct seen){0};
	for (; words[argc]; argc++)
		argv[argc] = xstrdup(words[argc]);
	(void)fflush(NULL);
	int kept = dup(fd);
	assert_true(kept >= 0 && dup2(fileno(file), fd) >= 0);
	int code = command_main(commands, ARRAY_LEN(commands), argc, argv);
	(void)fflush(NULL);
	(void)dup2(kept, fd);
	(void)close(kept);
	*printed = xzalloc(8192);
	rewind(file);
	(void)!fread(*printed, 1, 8191, file);
	(void)fclose(file);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return code;
}

static void assert_call(int fd, int code, const char *part, const char *const *words)
{
	char *printed = NULL;
	assert_int_equal(call(fd, &printed, words), code);
	if (!strstr(printed, part))
		fail_msg("\"%s\" is not in: %s", part, printed);
	free(printed);
}

#define WORDS(...) ((const char *const[]){"fairlead", __VA_ARGS__, NULL})

static void command_runs_with_its_options(void **state)
{
	(void)state;
	assert_call(1, 7, "", WORDS("look", "-o", "json", "--namespace=shop", "thing"));
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.n_args, 1);
	assert_string_equal(seen.output, "json");
	assert_string_equal(seen.ns, "shop");
	assert_string_equal(seen.first, "thing");
	assert_call(1, 7, "", WORDS("look", "-n", "x"));
	assert_string_equal(seen.ns, "x");
	assert_string_equal(seen.output, "table");
	assert_int_equal(seen.n_args, 0);
}

static void a_single_dash_is_an_argument(void **state)
{
	(void)state;
	assert_call(1, 7, "", WORDS("look", "-"));
	assert_string_equal(seen.first, "-");
}

static void help_comes_from_the_rows(void **state)
{
	(void)state;
	assert_call(1, 0, "Usage: fairlead look [THING] [options]", WORDS("look", "--help"));
	assert_int_equal(seen.calls, 0);
	assert_call(1, 0, "--namespace=TEXT", WORDS("look", "-h"));
	assert_call(1, 0, "looks at things", WORDS("--help"));
	assert_call(1, 0, "fairlead " FAIRLEAD_VERSION, WORDS("--version"));
}

static void wrong_usage_is_2(void **state)
{
	(void)state;
	assert_call(2, 2, "usage: fairlead look [THING]", WORDS("look", "a", "b"));
	assert_call(2, 2, "unknown option --namspace; did you mean --namespace?", WORDS("look", "--namspace", "x"));
	assert_call(2, 2, "unknown option -x", WORDS("look", "-x"));
	assert_int_equal(seen.calls, 0);
	assert_call(2, 2, "Usage: fairlead COMMAND", (const char *const[]){"fairlead", NULL});
}

static void unknown_command_gets_a_suggestion(void **state)
{
	(void)state;
	assert_call(2, 2, "there is no command \"lok\"; did you mean \"look\"?", WORDS("lok"));
	char *printed = NULL;
	assert_int_equal(call(2, &printed, WORDS("something-else")), 2);
	assert_null(strstr(printed, "did you mean"));
	free(printed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_runs_with_its_options),
		cmocka_unit_test(a_single_dash_is_an_argument),
		cmocka_unit_test(help_comes_from_the_rows),
		cmocka_unit_test(wrong_usage_is_2),
		cmocka_unit_test(unknown_command_gets_a_suggestion),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
