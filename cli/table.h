/*
 * Results as rows: a JSON array of objects, which -o json prints as it is and which a list of columns turns into a table for people. So
 * both always say the same.
 */
#pragma once

#include <jansson.h>

#include "cli/output.h"
#include "common/base/str.h"

struct column {
	const char *title; /* "CLUSTER FQDN" */
	const char *key; /* of the row; dots lead into objects */
};

/* Aligned columns, titles first. Missing and null cells are "-", booleans yes and no, arrays joined with commas. */
void table_write(const json_t *rows, const struct column *columns, size_t n, struct strbuf *out);
/* The value at a dotted key; borrowed, NULL: absent. */
json_t *json_at(const json_t *object, const char *key);
/* Its text, "" when absent or no string; borrowed. */
const char *json_text_at(const json_t *object, const char *key);
/* Sorts the rows by the text at two keys. */
void rows_sort(json_t *rows, const char *key, const char *then);
/* Prints value as indented JSON on standard output. */
void print_value(const json_t *value);
/* Prints text on standard output and frees it. */
void print_text(struct strbuf *text);
