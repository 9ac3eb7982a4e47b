/*
 * DOC: The configuration file of a program: a YAML map from option names to values. It goes through the same parser
 * as the mesh configuration, so errors carry file and line, and duplicate keys are refused.
 */
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/daemon/option_internal.h"
#include "common/io/file.h"
#include "common/pb/node.h"

static bool is_scalar(const struct node *n)
{
	return n->type == NODE_BOOL || n->type == NODE_NUMBER || n->type == NODE_STRING;
}

static void take_list(struct option_set *set, size_t row, const char *where, const struct node *list)
{
	if (set->rows[row].type != OPTION_LIST) {
		options_problem(set, "%s: %s takes one value, not a list", where, set->rows[row].name);
		return;
	}
	for (size_t i = 0; i < list->len; i++) {
		if (is_scalar(list->items[i]))
			options_set(set, row, OPTION_FROM_FILE, where, list->items[i]->text);
		else
			options_problem(set, "%s: %s[%zu] is not a plain value", where, set->rows[row].name, i);
	}
}

static void take_pair(struct option_set *set, const char *path, const struct node_pair *pair)
{
	const char *where = arena_printf(set->arena, "%s:%u", path, pair->line);
	size_t row = options_row(set, pair->key);

	if (row == set->n) {
		const char *near = options_nearest(set, pair->key);

		options_problem(set, "%s: unknown option " STR_FMT "%s%s%s", where, STR_ARG(pair->key),
			near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	} else if (str_eq(pair->key, STR("config"))) {
		options_problem(set, "%s: a configuration file cannot name another one", where);
	} else if (pair->value->type == NODE_LIST) {
		take_list(set, row, where, pair->value);
	} else if (is_scalar(pair->value)) {
		options_set(set, row, OPTION_FROM_FILE, where, pair->value->text);
	} else if (pair->value->type != NODE_NULL) {
		options_problem(set, "%s: " STR_FMT " is not a plain value", where, STR_ARG(pair->key));
	}
}

static void take_documents(struct option_set *set, const char *path, const struct documents *docs)
{
	const struct node *root;

	if (docs->len == 0)
		return;
	if (docs->len > 1) {
		options_problem(set, "%s: one document is expected, %zu are there", path, docs->len);
		return;
	}
	root = docs->items[0];
	if (root->type == NODE_NULL)
		return;
	if (root->type != NODE_MAP) {
		options_problem(set, "%s: a map of options is expected", path);
		return;
	}
	for (size_t i = 0; i < root->len; i++)
		take_pair(set, path, &root->pairs[i]);
}

void options_read_file(struct option_set *set, const char *path)
{
	cleanup(free_p) char *text = NULL;
	size_t len = 0;
	struct documents docs = {0};
	struct diags diags;
	struct err e = {0};

	if (!file_read(path, LIMIT_DOCUMENT_BYTES, &text, &len, &e)) {
		options_problem(set, "--config: %s", e.text);
		return;
	}
	diags_init(&diags, set->arena);
	(void)yaml_parse(set->arena, str_n(text, len), path, &docs, &diags);
	for (size_t i = 0; i < diags.len; i++) {
		cleanup(free_p) char *line = diag_format(&diags.items[i]);

		if (diags.items[i].severity == DIAG_ERROR)
			options_problem(set, "%s", line);
	}
	if (diags.errors == 0)
		take_documents(set, path, &docs);
}
