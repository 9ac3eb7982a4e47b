/*
 * DOC: YAML to trees, by libyaml's events.
 *
 * libyaml knows the syntax; meaning and limits are ours. Each document is parsed by itself (yaml_chunk.h). Its events fill
 * a stack of frames; an alias shares the node of its anchor, and counts as many nodes as stand below it, so that nested
 * aliases ("billion laughs") meet LIMIT_DOCUMENT_NODES. "<<" merges maps as YAML 1.1 says: keys of the map itself win,
 * then those of the first merged map. Keys become strings as in Kubernetes' way through JSON, so `1` and "1" are one key.
 * Wrong keys and tags are reported and reading goes on; after an error of syntax or a limit the document ends.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "common/base/limits.h"
#include "common/pb/node_build.h"
#include "common/pb/scalar.h"
#include "common/pb/yaml_chunk.h"

#define TAG_PREFIX "tag:yaml.org,2002:"

struct anchor {
	const char *name;
	struct node *node;
	size_t nodes;
	unsigned height;
};

struct reader {
	struct arena *arena;
	struct diags *diags;
	const char *file;
	const struct yaml_chunk *chunk;
	VEC(struct node *) documents; /* of the file */
	/* of the document */
	struct frame stack[LIMIT_DOCUMENT_DEPTH];
	unsigned depth;
	struct node *root;
	VEC(struct anchor) anchors;
	size_t nodes;
	size_t aliases;
	bool bad; /* an error was reported: the document is not given out */
	size_t problems; /* how many */
};

static bool report(struct reader *r, const char *rule, unsigned line, unsigned column, const char *fmt, ...)
	PRINTF_LIKE(5, 6);

static bool report(struct reader *r, const char *rule, unsigned line, unsigned column, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	struct diag *d = diag_add(r->diags, DIAG_ERROR, rule, "", "%s", text);
	d->file = r->file;
	d->line = line;
	d->column = column;
	r->bad = true;
	r->problems++;
	return false;
}

static unsigned line_at(const struct reader *r, const yaml_mark_t *m)
{
	return r->chunk->line + (unsigned)m->line;
}

static bool report_at(struct reader *r, const yaml_mark_t *m, const char *rule, const char *text)
{
	return report(r, rule, line_at(r, m), (unsigned)m->column + 1, "%s", text);
}

static bool count_nodes(struct reader *r, size_t more, const yaml_mark_t *m)
{
	r->nodes += more;
	if (r->nodes <= LIMIT_DOCUMENT_NODES)
		return true;
	return report(r, "limit-nodes", line_at(r, m), 0,
		"a document has more than %u values, aliases expanded "
		"(LIMIT_DOCUMENT_NODES)",
		LIMIT_DOCUMENT_NODES);
}

static bool add_anchor(struct reader *r, const char *name, struct node *node, size_t nodes, unsigned height)
{
	if (!name)
		return true;
	if (r->anchors.len >= LIMIT_YAML_ALIASES)
		return report(r, "limit-aliases", node->line, node->column,
			"a document has more than %u anchors (LIMIT_YAML_ALIASES)", LIMIT_YAML_ALIASES);
	struct anchor a = {arena_strdup(r->arena, name), node, nodes, height};
	vec_push(&r->anchors, a);
	return true;
}

static struct frame *top(struct reader *r)
{
	return r->depth ? &r->stack[r->depth - 1] : NULL;
}

/* Kubernetes' converter to JSON writes keys that are numbers or booleans as strings. */
static bool key_text(struct reader *r, const struct node *n, struct str *out)
{
	struct number number;
	char real[REAL_TEXT_MAX];
	*out = n->text;
	switch (n->type) {
	case NODE_STRING:
		return true;
	case NODE_BOOL:
		*out = scalar_is_true(n->text) ? STR("true") : STR("false");
		return true;
	case NODE_NUMBER:
		if (!scalar_number(n->text, &number))
			return false;
		if (number.integral)
			*out = str_of(arena_printf(
				r->arena, "%s%llu", number.negative ? "-" : "", (unsigned long long)number.magnitude));
		else if (number.real - number.real == 0) {
			real_text(number.real, false, real);
			*out = arena_str(r->arena, str_of(real));
		}
		return true;
	case NODE_NULL:
	case NODE_LIST:
	case NODE_MAP:
		return false;
	}
	return false;
}

static void set_key(struct reader *r, struct frame *f, const struct node *n)
{
	f->has_key = true;
	f->key_line = n->line;
	f->merges = n->type == NODE_STRING && !n->quoted && str_eqc(n->text, "<<");
	if (!key_text(r, n, &f->key)) {
		(void)report(r, "bad-key", n->line, n->column, "a key must be text, a number or a boolean");
		f->key = STR("");
	}
}

static void add_pair(struct reader *r, struct frame *f, struct node *value)
{
	const struct node_pair *first = frame_find(f, f->key);
	f->has_key = false;
	if (f->merges) {
		vec_push(&f->merged, value);
	} else if (first) {
		(void)report(r, "duplicate-key", f->key_line, 0,
			"the key \"" STR_FMT "\" is there twice, first in line %u", STR_ARG(f->key), first->line);
	} else {
		frame_add_pair(f, f->key, f->key_line, value);
	}
}

/* A finished value goes to where the reader is. */
static void place(struct reader *r, struct node *n, unsigned height)
{
	struct frame *f = top(r);
	if (!f) {
		r->root = n;
		return;
	}
	if (height > f->height)
		f->height = height;
	if (f->node->type == NODE_LIST)
		vec_push(&f->items, n);
	else if (f->has_key)
		add_pair(r, f, n);
	else
		set_key(r, f, n);
}

static const struct {
	const char *tag;
	enum node_type type;
} tags[] = {
	{TAG_PREFIX "str", NODE_STRING},
	{TAG_PREFIX "int", NODE_NUMBER},
	{TAG_PREFIX "float", NODE_NUMBER},
	{TAG_PREFIX "bool", NODE_BOOL},
	{TAG_PREFIX "null", NODE_NULL},
	{TAG_PREFIX "seq", NODE_LIST},
	{TAG_PREFIX "map", NODE_MAP},
	{"!", NODE_STRING},
};

/* The type a tag asks for, or `otherwise` without one. */
static enum node_type tagged_type(
	struct reader *r, const yaml_char_t *tag, enum node_type otherwise, const yaml_mark_t *m)
{
	if (!tag)
		return otherwise;
	for (size_t i = 0; i < ARRAY_LEN(tags); i++)
		if (streq((const char *)tag, tags[i].tag))
			return tags[i].type;
	(void)report(r, "unknown-tag", line_at(r, m), (unsigned)m->column + 1, "the tag \"%s\" is not supported",
		(const char *)tag);
	return otherwise;
}

static bool on_scalar(struct reader *r, const yaml_event_t *ev)
{
	struct str text = str_n(ev->data.scalar.value, ev->data.scalar.length);
	bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	enum node_type natural = plain ? scalar_type(text) : NODE_STRING;
	enum node_type type = tagged_type(r, ev->data.scalar.tag, natural, &ev->start_mark);
	size_t zero;
	if (str_find(text, '\0', &zero))
		return report_at(r, &ev->start_mark, "control-character", "a value holds a zero character");
	if (type != NODE_STRING && type != natural && type != scalar_type(text))
		(void)report_at(r, &ev->start_mark, "wrong-type", "the value does not fit its tag");
	struct node *n = node_new(r->arena, type, text);
	n->line = line_at(r, &ev->start_mark);
	n->column = (unsigned)ev->start_mark.column + 1;
	n->quoted = !plain && type == NODE_STRING;
	if (!count_nodes(r, 1, &ev->start_mark) || !add_anchor(r, (const char *)ev->data.scalar.anchor, n, 1, 0))
		return false;
	place(r, n, 0);
	return true;
}

static bool too_deep(struct reader *r, const yaml_mark_t *m)
{
	return report(r, "limit-depth", line_at(r, m), (unsigned)m->column + 1,
		"a document is nested deeper than %u (LIMIT_DOCUMENT_DEPTH)", LIMIT_DOCUMENT_DEPTH);
}

static bool on_alias(struct reader *r, const yaml_event_t *ev)
{
	const char *name = (const char *)ev->data.alias.anchor;
	if (++r->aliases > LIMIT_YAML_ALIASES)
		return report(r, "limit-aliases", line_at(r, &ev->start_mark), 0,
			"a document has more than %u aliases (LIMIT_YAML_ALIASES)", LIMIT_YAML_ALIASES);
	for (size_t i = r->anchors.len; i-- > 0;) {
		const struct anchor *a = &r->anchors.items[i];
		if (!streq(a->name, name))
			continue;
		if (r->depth + a->height > LIMIT_DOCUMENT_DEPTH)
			return too_deep(r, &ev->start_mark);
		if (!count_nodes(r, a->nodes, &ev->start_mark))
			return false;
		place(r, a->node, a->height);
		return true;
	}
	return report(r, "unknown-alias", line_at(r, &ev->start_mark), (unsigned)ev->start_mark.column + 1,
		"no complete value before this has the anchor \"%s\"", name);
}

static bool on_start(struct reader *r, const yaml_event_t *ev, enum node_type type)
{
	const yaml_mark_t *m = &ev->start_mark;
	bool map = type == NODE_MAP;
	const yaml_char_t *tag = map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag;
	const yaml_char_t *anchor = map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
	if (r->depth >= LIMIT_DOCUMENT_DEPTH)
		return too_deep(r, m);
	if (!streq((const char *)tag, "!") && tagged_type(r, tag, type, m) != type)
		(void)report_at(r, m, "wrong-type", "the value does not fit its tag");
	struct node *n = node_new(r->arena, type, STR(""));
	n->line = line_at(r, m);
	n->column = (unsigned)m->column + 1;
	if (!count_nodes(r, 1, m))
		return false;
	r->stack[r->depth++] = (struct frame){
		.node = n,
		.anchor = anchor ? arena_strdup(r->arena, (const char *)anchor) : NULL,
		.nodes_before = r->nodes - 1,
	};
	return true;
}

static void merge_one(struct reader *r, struct frame *f, const struct node *value)
{
	if (value->type == NODE_MAP)
		frame_merge(f, value);
	else
		(void)report(r, "bad-merge", value->line, value->column, "\"<<\" takes a map or a list of maps");
}

static bool on_end(struct reader *r)
{
	struct frame *f = top(r);
	for (size_t i = 0; i < f->merged.len; i++) {
		const struct node *value = f->merged.items[i];
		if (value->type != NODE_LIST) {
			merge_one(r, f, value);
			continue;
		}
		for (size_t k = 0; k < value->len; k++)
			merge_one(r, f, value->items[k]);
	}
	frame_close(f, r->arena);
	struct node *n = f->node;
	unsigned height = f->height + 1;
	bool ok = add_anchor(r, f->anchor, n, r->nodes - f->nodes_before, height);
	frame_done(f);
	r->depth--;
	place(r, n, height);
	return ok;
}

static bool give_out(struct reader *r, struct node *n, unsigned depth)
{
	const struct node *items = str_eqc(node_text(n, "kind"), "List") ? node_get(n, "items") : NULL;
	if (n->type == NODE_NULL)
		return true;
	if (items && items->type == NODE_LIST && depth < LIMIT_DOCUMENT_DEPTH) {
		for (size_t i = 0; i < items->len; i++)
			if (!give_out(r, items->items[i], depth + 1))
				return false;
		return true;
	}
	if (r->documents.len >= LIMIT_DOCUMENTS_PER_FILE)
		return report(r, "limit-documents", n->line, 0,
			"the file has more than %u documents "
			"(LIMIT_DOCUMENTS_PER_FILE)",
			LIMIT_DOCUMENTS_PER_FILE);
	vec_push(&r->documents, n);
	return true;
}

static void document_done(struct reader *r)
{
	while (r->depth > 0)
		frame_done(&r->stack[--r->depth]);
	r->anchors.len = 0;
	r->nodes = r->aliases = 0;
	r->root = NULL;
	r->bad = false;
	r->problems = 0;
}

static bool on_document_end(struct reader *r)
{
	bool ok = r->bad || !r->root || give_out(r, r->root, 0);
	document_done(r);
	return ok;
}

static bool on_event(struct reader *r, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(r, ev);
	case YAML_ALIAS_EVENT:
		return on_alias(r, ev);
	case YAML_MAPPING_START_EVENT:
		return on_start(r, ev, NODE_MAP);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(r, ev, NODE_LIST);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		return on_end(r);
	case YAML_DOCUMENT_END_EVENT:
		return on_document_end(r);
	case YAML_DOCUMENT_START_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_NO_EVENT:
		return true;
	}
	return true;
}

static bool report_syntax(struct reader *r, const yaml_parser_t *p)
{
	unsigned line = line_at(r, &p->problem_mark);
	unsigned column = (unsigned)p->problem_mark.column + 1;
	if (yaml_line_has_tab(r->chunk, line))
		return report(r, "yaml-syntax", line, 1, "a tab is not allowed as indentation, use spaces");
	const char *problem = p->problem ? p->problem : "unreadable";
	if (!p->context)
		return report(r, "yaml-syntax", line, column, "%s", problem);
	return report(r, "yaml-syntax", line, column, "%s (%s that begins in line %u)", problem, p->context,
		line_at(r, &p->context_mark));
}

static void read_events(struct reader *r)
{
	yaml_parser_t parser;
	if (!yaml_parser_initialize(&parser))
		abort();
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)r->chunk->text.ptr, r->chunk->text.len);
	for (bool more = true; more;) {
		yaml_event_t ev;
		if (!yaml_parser_parse(&parser, &ev)) {
			(void)report_syntax(r, &parser);
			break;
		}
		more = on_event(r, &ev) && ev.type != YAML_STREAM_END_EVENT && r->problems < LIMIT_DIAGS_PER_DOCUMENT;
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&parser);
	document_done(r);
}

static void read_chunk(struct reader *r, const struct yaml_chunk *c)
{
	struct yaml_bad_byte bad;
	r->chunk = c;
	if (c->text.len > LIMIT_DOCUMENT_BYTES)
		(void)report(r, "limit-document-bytes", c->line, 0,
			"a document has more than %u bytes "
			"(LIMIT_DOCUMENT_BYTES)",
			LIMIT_DOCUMENT_BYTES);
	else if (!yaml_chunk_is_text(c, &bad))
		(void)report(r, bad.rule, bad.line, bad.column, "0x%02x is not allowed in YAML text", bad.value);
	else
		read_events(r);
	r->bad = false;
}

static struct reader *reader_new(struct arena *a, const char *file, struct diags *d)
{
	struct reader *r = xzalloc(sizeof(*r));
	r->arena = a;
	r->diags = d;
	r->file = arena_strdup(d->arena, file ? file : "");
	return r;
}

static void reader_finish(struct reader *r, struct documents *out)
{
	out->len = r->documents.len;
	out->items = out->len ? arena_dup(r->arena, r->documents.items, out->len * sizeof(*out->items)) : NULL;
	vec_done(&r->documents);
	vec_done(&r->anchors);
	free(r);
}

static void read_chunks(struct reader *r, struct str text)
{
	unsigned line = 1;
	struct yaml_chunk chunk;
	if (str_starts(text, STR("\xef\xbb\xbf")))
		text = str_from(text, 3);
	while (r->documents.len < LIMIT_DOCUMENTS_PER_FILE && yaml_chunk_next(&text, &line, &chunk))
		read_chunk(r, &chunk);
}

static bool read_yaml(struct arena *a, struct str text, const char *file, struct documents *out, struct diags *d)
{
	size_t errors_before = d->errors;
	struct reader *r = reader_new(a, file, d);
	if (text.len > LIMIT_FILE_BYTES)
		(void)report(r, "limit-file-bytes", 0, 0, "the file has more than %u bytes (LIMIT_FILE_BYTES)",
			LIMIT_FILE_BYTES);
	else
		read_chunks(r, text);
	reader_finish(r, out);
	return d->errors == errors_before;
}

static bool read_json(struct arena *a, struct node *json, const char *file, struct documents *out, struct diags *d)
{
	struct reader *r = reader_new(a, file, d);
	bool ok = give_out(r, json, 0);
	reader_finish(r, out);
	return ok;
}

/* JSON is nearly YAML, and YAML's reader knows lines; JSON's own reader has the last word where the two differ (escapes). */
bool yaml_parse(struct arena *a, struct str text, const char *file, struct documents *out, struct diags *d)
{
	struct str trimmed = str_trim(text);
	if (!str_starts(trimmed, STR("{")) && !str_starts(trimmed, STR("[")))
		return read_yaml(a, text, file, out, d);
	cleanup(arena_free_p) struct arena *scratch = arena_new();
	struct diags trial;
	struct node *json = NULL;
	diags_init(&trial, scratch);
	if (read_yaml(a, text, file, out, &trial))
		return true;
	if (!json_parse(a, text, &json, &trial))
		return read_yaml(a, text, file, out, d);
	return read_json(a, json, file, out, d);
}
