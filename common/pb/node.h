/*
 * A document as a tree: what YAML and JSON parse to, before any schema. Each node knows its line and column, so that every
 * later message can point at it. Lives in an arena. Scalars keep their text and how it was written, because the schema, not the
 * parser, decides what `on`, `010` or `1e3` mean for a string field.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/diag.h"

enum node_type { NODE_NULL, NODE_BOOL, NODE_NUMBER, NODE_STRING, NODE_LIST, NODE_MAP };

struct node_pair;

struct node {
	enum node_type type;
	unsigned line;
	unsigned column;
	bool quoted; /* a quoted scalar is always a string */
	struct str text; /* scalars: as written (unescaped) */
	size_t len; /* LIST, MAP */
	struct node **items; /* LIST */
	struct node_pair *pairs; /* MAP, in document order; duplicate keys were refused */
};

struct node_pair {
	struct str key;
	unsigned line;
	struct node *value;
};

const struct node *node_get(const struct node *map, const char *key); /* NULL when absent or not a map */
struct str node_text(const struct node *map, const char *key); /* empty when absent or not a scalar */
/* "metadata.name" through nested maps. */
struct str node_text_at(const struct node *map, const char *dotted_path);

/* The content of one file: several YAML documents (or one JSON value, or a JSON/YAML `kind: List`, whose items become documents). */
struct documents {
	struct node **items;
	size_t len;
};

/* YAML 1.1 as Kubernetes reads it (through JSON). Syntax errors, limits, duplicate keys and unknown aliases become diags of the
 * file, with line and column; documents before the error are still returned, so that one bad document harms no good one where the
 * syntax allows to go on. */
bool yaml_parse(struct arena *a, struct str text, const char *file, struct documents *out, struct diags *d);
/* JSON text as a tree (jansson), for the API server and debug pages. */
bool json_parse(struct arena *a, struct str text, struct node **out, struct diags *d);
/* Writes a tree as YAML/JSON text (CLI output). */
void node_write_yaml(const struct node *n, struct strbuf *out);
void node_write_json(const struct node *n, struct strbuf *out);
