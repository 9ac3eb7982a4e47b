/* The agent's commands that are no daemon (wait, drain, capture): options, --help and what is wrong with them. */
#pragma once

#include "common/daemon/option.h"

struct subcommand {
	const char *name, *summary;
	const struct option_row *rows;
	size_t n_rows;
	size_t help; /* where the bool of --help is in the configuration */
	int (*run)(const void *config); /* the exit status; texts of the configuration live until it returns */
};

/* Fills the zeroed `config` and runs. The exit status: 0 after --help, 2 for wrong options, else what run() says. */
int subcommand_main(const struct subcommand *s, int argc, char **argv, void *config);
