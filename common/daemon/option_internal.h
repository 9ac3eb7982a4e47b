/*
 * What options.c and its parts share with daemon.c: the parsed options with the place each value came from. A set
 * lives in the caller's arena. Nothing outside common/daemon includes this.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"
#include "common/daemon/option.h"

enum option_source {
	OPTION_FROM_DEFAULT,
	OPTION_FROM_FILE,
	OPTION_FROM_ENVIRONMENT,
	OPTION_FROM_FLAG,
	OPTION_SOURCE_COUNT
};

struct option_value {
	const struct option_row *row;
	enum option_source source;
	const char *where; /* "--xds-port", "FAIRLEAD_PILOT_XDS_PORT", "pilot.yaml:3", "the default" */
	const char *text; /* as given; a list joined by commas; NULL: no value at all */
};

struct option_set {
	struct arena *arena;
	const char *program;
	const struct option_row *rows;
	size_t n;
	struct option_value *values; /* one per row */
	const char *const *rest;
	struct strbuf problems; /* one line each */
};

/* As options_parse(), and leaves the values with their sources in *set (everything in the arena). */
bool options_load(struct arena *a, const char *program, const struct option_row *rows, size_t n, int argc, char **argv,
	void *config, struct option_set *set, struct err *e) MUST_CHECK;

/* options_file.c: reads the file of --config into values that nothing stronger has set. */
void options_read_file(struct option_set *set, const char *path);
/* Records a value unless a stronger source has set the option; lists of one source are joined. */
void options_set(struct option_set *set, size_t row, enum option_source source, const char *where, struct str text);
void options_problem(struct option_set *set, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Index of the row, or n. */
size_t options_row(const struct option_set *set, struct str name);
/* The row's name that is most alike, or NULL when none is. */
const char *options_nearest(const struct option_set *set, struct str name);

/* Text into the config struct; false: *problem says what is wrong with it. */
bool option_store(struct arena *a, const struct option_row *row, const char *text, void *config, const char **problem);
const char *option_source_name(enum option_source s);
/* Passwords, tokens and keys given as values are never shown. */
bool option_is_secret(const struct option_row *row);
