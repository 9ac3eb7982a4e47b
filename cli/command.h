/*
 * A command of `fairlead` as a row of data: its name, its options and the function that runs it. command.c reads the options, answers
 * --help from the same rows, and calls run() with the filled config struct. A command prints its result on standard output and what went wrong
 * on standard error, and returns the exit code: 0 done, 1 could not or found errors, 2 wrong usage.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/daemon/option.h"

struct invocation {
	struct arena *arena; /* lives as long as the command */
	const void *config; /* the command's own struct */
	const char *const *args; /* what is no option, NULL-terminated */
	size_t n_args;
};

struct command {
	const char *name;
	const char *arguments; /* "TYPE PROXY", for the usage line; "" */
	const char *summary; /* one line */
	const char *text; /* the rest of --help, lines ending with \n; NULL */
	const struct option_row *options;
	size_t n_options;
	size_t config_size;
	size_t min_args, max_args;
	int (*run)(const struct invocation *i);
};

/* Says "fairlead NAME: text" on standard error; returns code. */
int command_fail(const char *name, int code, const struct err *e);
/* Finds the command of argv[1] and runs it; also --help and --version of the program. Returns the exit code. */
int command_main(const struct command *const *commands, size_t n, int argc, char **argv);
