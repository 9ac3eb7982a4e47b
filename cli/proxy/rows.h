/* Tables of a proxy's configuration, one function per part: pure, from the dump's JSON to rows. */
#pragma once

#include "cli/proxy/dump.h"
#include "cli/table.h"

struct part_table {
	const char *title; /* for `all` */
	const struct column *columns;
	size_t n_columns;
	json_t *(*rows)(const struct dump *d); /* the caller decrefs */
};
/* NULL: shown as JSON always (bootstrap). */
const struct part_table *part_table(enum dump_part part);

/* secret_rows.c */
json_t *secret_rows(const struct dump *d);
