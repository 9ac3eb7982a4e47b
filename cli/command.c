/*
 * DOC: One reader of the options of all commands. Short flags are other spellings of long ones. A word that is no command is answered with the
 * one that is most alike.
 */
#include "cli/command.h"

#include <stdio.h>

#include "common/base/str.h"

#define COMMANDS_MAX 64

static const struct {
	const char *flag;
	const char *option;
} short_flags[] = {{"-o", "--output"}, {"-n", "--namespace"}, {"-f", "--filename"}};

int command_fail(const char *name, int code, const struct err *e)
{
	(void)fprintf(stderr, "fairlead%s%s: %s\n", name ? " " : "", name ? name : "", e->text);
	return code;
}

static int print(struct strbuf *out, int code)
{
	(void)fputs(out->ptr, code ? stderr : stdout);
	strbuf_done(out);
	return code;
}

static int usage(const struct command *const *commands, size_t n, int code)
{
	struct strbuf out = {0};
	strbuf_adds(&out, "fairlead runs a service mesh on one machine, and asks, checks and explains any.\n\n"
			  "Usage: fairlead COMMAND [arguments] [options]\n\nCommands (fairlead COMMAND --help):\n");
	for (size_t i = 0; i < n; i++)
		strbuf_addf(&out, "  %-14s %s\n", commands[i]->name, commands[i]->summary);
	strbuf_adds(&out, "\n  --help         this text\n  --version      the version\n");
	return print(&out, code);
}

static int unknown(const struct command *const *commands, size_t n, const char *word)
{
	const char *names[COMMANDS_MAX];
	n = min_size(n, COMMANDS_MAX);
	for (size_t i = 0; i < n; i++)
		names[i] = commands[i]->name;
	const char *near = name_nearest(str_of(word), names, n, sizeof(names[0]));
	(void)fprintf(stderr, "fairlead: there is no command \"%.100s\"%s%s%s\nfairlead --help lists the commands.\n",
		word, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	return 2;
}

static int help(const struct command *c)
{
	struct strbuf out = {0};
	strbuf_addf(&out, "fairlead %s: %s\n\nUsage: fairlead %s%s%s [options]\n", c->name, c->summary, c->name,
		*c->arguments ? " " : "", c->arguments);
	if (c->text)
		strbuf_addf(&out, "\n%s", c->text);
	strbuf_adds(&out, "\nOptions:\n");
	options_help_rows(c->options, c->n_options, &out);
	return print(&out, 0);
}

static char **long_flags(struct arena *a, int argc, char **argv)
{
	char **out = ARENA_ARRAY(a, char *, (size_t)argc + 1);
	for (int i = 0; i < argc; i++) {
		out[i] = argv[i];
		for (size_t k = 0; k < ARRAY_LEN(short_flags); k++)
			if (streq(argv[i], short_flags[k].flag))
				out[i] = arena_strdup(a, short_flags[k].option);
	}
	return out;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && !streq(argv[i], "--"); i++)
		if (streq(argv[i], "--help") || streq(argv[i], "-h"))
			return true;
	return false;
}

static int run(const struct command *c, int argc, char **argv)
{
	if (wants_help(argc, argv))
		return help(c);
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct invocation i = {.arena = a};
	void *config = arena_alloc(a, c->config_size);
	struct err e = {0};
	bool ok = options_parse(
		a, c->name, c->options, c->n_options, argc, long_flags(a, argc, argv), config, &i.args, &e);
	i.config = config;
	while (ok && i.args[i.n_args])
		i.n_args++;
	if (ok && (i.n_args < c->min_args || i.n_args > c->max_args))
		ok = err_set(&e, ERR_PEER, "usage: fairlead %s %s", c->name, c->arguments);
	if (!ok) {
		(void)command_fail(c->name, 2, &e);
		(void)fprintf(stderr, "fairlead %s --help says more.\n", c->name);
		return 2;
	}
	return c->run(&i);
}

int command_main(const struct command *const *commands, size_t n, int argc, char **argv)
{
	if (argc < 2)
		return usage(commands, n, 2);
	if (streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help"))
		return usage(commands, n, 0);
	if (streq(argv[1], "--version") || streq(argv[1], "version")) {
		(void)printf("fairlead %s\n", FAIRLEAD_VERSION);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (streq(commands[i]->name, argv[1]))
			return run(commands[i], argc - 1, argv + 1);
	return unknown(commands, n, argv[1]);
}
