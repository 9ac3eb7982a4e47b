/*
 * DOC: JSON text to trees with jansson, which keeps the order of members and refuses duplicates. It tells no positions, so
 * these nodes have no lines. Its integers have 64 bits with a sign; larger numbers (uint64) must be strings, as protobuf's
 * JSON writes them.
 */
#include <jansson.h>
#include <stdio.h>

#include "common/base/limits.h"
#include "common/pb/node.h"
#include "common/pb/node_build.h"
#include "common/pb/scalar.h"

struct json_reader {
	struct arena *arena;
	struct diags *diags;
	size_t nodes;
};

static struct node *tree_of(struct json_reader *r, const json_t *j, unsigned depth);

static struct node *list_of(struct json_reader *r, const json_t *j, unsigned depth)
{
	struct node *n = node_new(r->arena, NODE_LIST, STR(""));
	n->len = json_array_size(j);
	n->items = ARENA_ARRAY(r->arena, struct node *, n->len);
	for (size_t i = 0; i < n->len; i++)
		if (!(n->items[i] = tree_of(r, json_array_get(j, i), depth + 1)))
			return NULL;
	return n;
}

static struct node *map_of(struct json_reader *r, json_t *j, unsigned depth)
{
	struct node *n = node_new(r->arena, NODE_MAP, STR(""));
	n->pairs = ARENA_ARRAY(r->arena, struct node_pair, json_object_size(j));
	for (void *i = json_object_iter(j); i; i = json_object_iter_next(j, i)) {
		struct node *value = tree_of(r, json_object_iter_value(i), depth + 1);
		if (!value)
			return NULL;
		struct str key = arena_str(r->arena, str_of(json_object_iter_key(i)));
		n->pairs[n->len++] = (struct node_pair){.key = key, .value = value};
	}
	return n;
}

static struct node *string_of(struct json_reader *r, const json_t *j)
{
	struct node *n = node_new(r->arena, NODE_STRING, str_n(json_string_value(j), json_string_length(j)));
	n->quoted = true;
	return n;
}

static struct node *number_of(struct json_reader *r, const json_t *j)
{
	char text[REAL_TEXT_MAX];
	if (json_is_integer(j))
		(void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(j));
	else
		real_text(json_real_value(j), false, text);
	return node_new(r->arena, NODE_NUMBER, str_of(text));
}

static struct node *limit(struct json_reader *r, const char *rule, const char *text)
{
	(void)diag_add(r->diags, DIAG_ERROR, rule, "", "%s", text);
	return NULL;
}

static struct node *tree_of(struct json_reader *r, const json_t *j, unsigned depth)
{
	if (++r->nodes > LIMIT_DOCUMENT_NODES)
		return limit(r, "limit-nodes", "too many values (LIMIT_DOCUMENT_NODES)");
	if (depth >= LIMIT_DOCUMENT_DEPTH && (json_is_object(j) || json_is_array(j)))
		return limit(r, "limit-depth", "nested too deeply (LIMIT_DOCUMENT_DEPTH)");
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return map_of(r, (json_t *)(uintptr_t)j, depth);
	case JSON_ARRAY:
		return list_of(r, j, depth);
	case JSON_STRING:
		return string_of(r, j);
	case JSON_INTEGER:
	case JSON_REAL:
		return number_of(r, j);
	case JSON_TRUE:
		return node_new(r->arena, NODE_BOOL, STR("true"));
	case JSON_FALSE:
		return node_new(r->arena, NODE_BOOL, STR("false"));
	case JSON_NULL:
		return node_new(r->arena, NODE_NULL, STR("null"));
	}
	return NULL;
}

static void json_drop(json_t **j)
{
	json_decref(*j);
}

bool json_parse(struct arena *a, struct str text, struct node **out, struct diags *d)
{
	struct json_reader r = {.arena = a, .diags = d};
	if (text.len > LIMIT_FILE_BYTES) {
		(void)limit(&r, "limit-file-bytes", "the text is too long (LIMIT_FILE_BYTES)");
		return false;
	}
	json_error_t error;
	size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
	cleanup(json_drop) json_t *j = json_loadb(text.ptr ? text.ptr : "", text.len, flags, &error);
	if (!j) {
		struct diag *item = diag_add(d, DIAG_ERROR, "json-syntax", "", "%s", error.text);
		item->line = error.line > 0 ? (unsigned)error.line : 0;
		item->column = error.column > 0 ? (unsigned)error.column : 0;
		return false;
	}
	struct node *n = tree_of(&r, j, 0);
	if (!n)
		return false;
	*out = n;
	return true;
}
