/*
 * Options of a program as a table of rows: one row is the flag, the environment variable (FAIRLEAD_<PROGRAM>_<NAME>, dashes as
 * underscores), the key of the configuration file (--config FILE, YAML map), the default, the range, the help and the reload rule.
 * Precedence: flag, environment, file, default. Every problem is reported with the option's name and where the value came from.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"

enum option_type { OPTION_STRING, OPTION_BOOL, OPTION_U32, OPTION_MS, OPTION_LIST };

struct option_row {
	const char *name; /* "xds-port" -> --xds-port, FAIRLEAD_PILOT_XDS_PORT, xds-port: */
	enum option_type type;
	size_t offset; /* in the config struct: const char *, bool, uint32_t, uint64_t (ms), const char ** NULL-terminated */
	const char *fallback; /* default, as text; NULL: empty/0/false */
	uint64_t min, max; /* numbers and ms; max 0: no bound */
	const char *help;
};

#define OPT_STR(config_, field, def, help_) \
	.type = OPTION_STRING, .offset = offsetof(config_, field), .fallback = (def), .help = (help_)
#define OPT_BOOL(config_, field, help_) \
	.type = OPTION_BOOL, .offset = offsetof(config_, field), .fallback = "false", .help = (help_)
#define OPT_U32(config_, field, def, lo, hi, help_) \
	.type = OPTION_U32, .offset = offsetof(config_, field), .fallback = (def), .min = (lo), .max = (hi), \
	.help = (help_)
/* Takes "100ms", "5s", "1h"; a bare number is milliseconds. */
#define OPT_MS(config_, field, def, lo, hi, help_) \
	.type = OPTION_MS, .offset = offsetof(config_, field), .fallback = (def), .min = (lo), .max = (hi), \
	.help = (help_)
#define OPT_LIST(config_, field, help_) \
	.type = OPTION_LIST, .offset = offsetof(config_, field), .help = (help_) /* repeatable, or comma-separated */

/* Fills config (strings live in the arena). rest: arguments that are no options, NULL-terminated. */
bool options_parse(struct arena *a, const char *program, const struct option_row *rows, size_t n, int argc, char **argv,
	void *config, const char *const **rest, struct err *e) MUST_CHECK;
void options_help(
	const char *program, const char *summary, const struct option_row *rows, size_t n, struct strbuf *out);
/* The lines of the options alone. */
void options_help_rows(const struct option_row *rows, size_t n, struct strbuf *out);
/* For "did you mean": rows of a struct that begins with `const char *name`. The name most alike to word; NULL when none is near. */
const char *name_nearest(struct str word, const void *rows, size_t n, size_t row_size);
