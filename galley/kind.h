/*
 * What a configuration kind brings: a table of rules, cross-field checks, and normalisation. One `const struct kind_ops <id>_ops`
 * per row of protos/kinds.def, in galley/kinds/<id>.c; a row without one does not link. All of it is pure: no I/O, clock or globals.
 *
 * Order for an object: strict decode, rules, validate(), and, when there was no error, normalise(), which may change the message
 * freely (it lives in the object's own arena) and must give the same bytes for the same meaning.
 */
#pragma once

#include "common/mesh/kinds.h"
#include "galley/checks/check.h"

struct normal {
	struct arena *arena;
	struct str ns; /* of the object */
	struct str suffix; /* the mesh's domain suffix: "cluster.local" */
};

struct kind_ops {
	const struct rule *rules;
	size_t n_rules;
	void (*validate)(struct check *c, const void *message);
	void (*normalise)(struct normal *n, void *message);
	bool any_name; /* names need not be DNS subdomains */
	bool not_applied; /* published, but no pilot of this version reads it: its author is warned */
};

#define RULES(table) .rules = (table), .n_rules = ARRAY_LEN(table)

const struct kind_ops *kind_ops(enum kind_id id);

/* Shared by several kinds. */
char *normal_host(struct normal *n, const char *host); /* short names become fully qualified, lower case */
char *normal_lower(struct normal *n, const char *s);
void normal_export_to(struct normal *n, char **items, size_t len); /* "." becomes the namespace */
char *normal_upper_protocol(struct normal *n, const char *protocol);
