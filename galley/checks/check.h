/*
 * The check of one object: a context that collects diagnostics with line and path, and the table form of rules. A rule row names a
 * path of the message, the checker, its limits and where the rule comes from; check_rules() walks all places that the path names.
 * Checkers are pure: they read the message and add diagnostics. Everything is in the context's arena.
 */
#pragma once

#include "common/base/diag.h"
#include "common/pb/json.h"

struct check {
	struct arena *arena;
	struct diags *diags;
	const struct node *document; /* for line numbers; NULL: none (objects that did not come from text) */
	const char *ns; /* of the object */
	const char *name;
	size_t diags_before, errors_before; /* of the list, which other documents of the file have filled too */
};

struct rule;
typedef void check_fn(struct check *c, const struct rule *r, const struct pb_place *p);

struct rule {
	const char *path; /* "http[].route[].weight" */
	check_fn *check; /* NULL: only `required` */
	double min, max; /* numbers, percentages; list lengths */
	bool required;
	const char *source; /* citation */
};

/* Runs the rows over a message whose paths begin with prefix ("spec"). */
void check_rules(struct check *c, const void *message, const char *prefix, const struct rule *rules, size_t n);

/* Adds a diagnostic at a path, with the line of its node. `source` is the citation ("" for none). */
void check_error(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
	PRINTF_LIKE(5, 6);
void check_warn(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
	PRINTF_LIKE(5, 6);
void check_info(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
	PRINTF_LIKE(5, 6);
/* A path built in the arena: path_at(c, "spec.http[%zu].route", i). */
const char *path_at(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Of a place: its string ("" when absent), its message (NULL when absent). */
struct str place_str(const struct pb_place *p);
const void *place_message(const struct pb_place *p);
