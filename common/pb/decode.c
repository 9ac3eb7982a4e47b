/*
 * DOC: Trees to messages. The walk follows the document and asks the descriptor for each member; whatever does not fit
 * becomes a diagnostic at its path and the walk goes on, so that all problems of a document are seen at once. A document
 * with any problem gives no message.
 */
#include <stdarg.h>
#include <stdio.h>

#include "common/base/limits.h"
#include "common/pb/codec.h"
#include "common/pb/suggest.h"
#include "wkt/struct.pb-c.h"

#define NAME_MAX_BYTES 128
#define SEEN_WORDS 8 /* 64 fields each; no message has more than 512 */

bool problem(struct decoder *d, const struct node *n, const char *rule, const char *fmt, ...)
{
	if (d->problems++ >= LIMIT_DIAGS_PER_DOCUMENT)
		return false;
	char text[1200];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	struct diag *item = diag_add(d->diags, DIAG_ERROR, rule, d->path.ptr ? d->path.ptr : "", "%s", text);
	item->line = n->line;
	item->column = n->column;
	return false;
}

const char *node_words(const struct node *n, char out[NODE_WORDS_MAX])
{
	static const char *const names[] = {
		[NODE_NULL] = "null",
		[NODE_BOOL] = "the boolean",
		[NODE_NUMBER] = "the number",
		[NODE_STRING] = "the string",
		[NODE_LIST] = "a list",
		[NODE_MAP] = "a map",
	};
	int shown = (int)min_size(n->text.len, 48);
	const char *dots = n->text.len > 48 ? "..." : "";
	if (n->type == NODE_STRING)
		(void)snprintf(out, NODE_WORDS_MAX, "the string \"%.*s%s\"", shown, n->text.ptr, dots);
	else if (n->type == NODE_BOOL || n->type == NODE_NUMBER)
		(void)snprintf(out, NODE_WORDS_MAX, "%s %.*s%s", names[n->type], shown, n->text.ptr, dots);
	else
		(void)snprintf(out, NODE_WORDS_MAX, "%s", names[n->type]);
	return out;
}

bool wrong_type(struct decoder *d, const struct node *n, const char *expected)
{
	char words[NODE_WORDS_MAX];
	bool scalar = n->type == NODE_BOOL || n->type == NODE_NUMBER;
	return problem(d, n, "wrong-type", "%s is expected, got %s%s", expected, node_words(n, words),
		scalar && str_eqc(str_of(expected), "a string") ? "; quote it" : "");
}

size_t path_field(struct decoder *d, const char *name)
{
	size_t len = d->path.len;
	if (len > 0)
		strbuf_addc(&d->path, '.');
	strbuf_adds(&d->path, name);
	return len;
}

size_t path_index(struct decoder *d, size_t index)
{
	size_t len = d->path.len;
	strbuf_addf(&d->path, "[%zu]", index);
	return len;
}

void path_add_key(struct strbuf *path, struct str key)
{
	strbuf_adds(path, "[\"");
	for (size_t i = 0; i < key.len; i++) {
		if (key.ptr[i] == '"' || key.ptr[i] == '\\')
			strbuf_addc(path, '\\');
		strbuf_addc(path, key.ptr[i]);
	}
	strbuf_adds(path, "\"]");
}

size_t path_key(struct decoder *d, struct str key)
{
	size_t len = d->path.len;
	path_add_key(&d->path, key);
	return len;
}

void path_back(struct decoder *d, size_t len)
{
	d->path.len = len;
	if (d->path.ptr)
		d->path.ptr[len] = '\0';
}

static bool takes_null(const ProtobufCFieldDescriptor *f)
{
	if (f->type == PROTOBUF_C_TYPE_ENUM)
		return f->descriptor == &wkt__null_value__descriptor;
	const struct special *s = f->type == PROTOBUF_C_TYPE_MESSAGE ? special_of(f->descriptor) : NULL;
	return s && s->takes_null;
}

bool decode_value(struct decoder *d, const ProtobufCFieldDescriptor *f, const struct node *n, void *value)
{
	if (f->type != PROTOBUF_C_TYPE_MESSAGE)
		return decode_scalar(d, f, n, value);
	ProtobufCMessage *m = decode_message(d, f->descriptor, n);
	*(ProtobufCMessage **)value = m;
	return m != NULL;
}

void decode_list(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const struct node *n)
{
	size_t size = field_value_size(f);
	if (n->type != NODE_LIST) {
		(void)wrong_type(d, n, "a list");
		return;
	}
	char *items = n->len ? arena_alloc(d->arena, pb_room(n->len, size)) : NULL;
	for (size_t i = 0; i < n->len; i++) {
		size_t back = path_index(d, i);
		(void)decode_value(d, f, n->items[i], items + i * size);
		path_back(d, back);
	}
	*field_items(m, f) = items;
	*field_count(m, f) = n->len;
}

static void decode_entry(struct decoder *d, ProtobufCMessage *entry, const struct node_pair *pair)
{
	const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
	const ProtobufCFieldDescriptor *value = &entry->descriptor->fields[1];
	if (decode_map_key(d, key, pair->key, pair->value, field_at(entry, key)))
		(void)decode_value(d, value, pair->value, field_at(entry, value));
}

void decode_map(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const struct node *n)
{
	const ProtobufCMessageDescriptor *type = f->descriptor;
	size_t len = 0;
	if (n->type != NODE_MAP) {
		(void)wrong_type(d, n, "a map");
		return;
	}
	ProtobufCMessage **items = n->len ? arena_alloc(d->arena, pb_room(n->len, sizeof(*items))) : NULL;
	d->depth++;
	for (size_t i = 0; i < n->len; i++) {
		const struct node_pair *pair = &n->pairs[i];
		if (pair->value->type == NODE_NULL && d->ignore_unknown && !takes_null(&type->fields[1]))
			continue;
		size_t back = path_key(d, pair->key);
		items[len] = pb_new(d->arena, type);
		decode_entry(d, items[len++], pair);
		path_back(d, back);
	}
	d->depth--;
	*field_items(m, f) = items;
	*field_count(m, f) = len;
	map_entries_sort(items, len);
	for (size_t i = 1; i < len; i++) /* true and "true", 1 and "01" */
		if (map_entry_cmp(items[i - 1], items[i]) == 0 && d->problems == 0)
			(void)problem(d, n, "duplicate-key", "a key is there twice");
}

static const char *field_name_of_id(const ProtobufCMessageDescriptor *type, uint32_t id, char *out, size_t size)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(type, id);
	out[0] = '\0';
	if (f)
		pb_json_name(f, out, size);
	return out;
}

static void choose(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const char *name,
	const struct node *n)
{
	char other[NAME_MAX_BYTES];
	uint32_t *chosen = field_case(m, f);
	if (*chosen != 0)
		(void)problem(d, n, "oneof-conflict", "only one of \"%s\" and \"%s\" may be set",
			field_name_of_id(m->descriptor, *chosen, other, sizeof(other)), name);
	*chosen = f->id;
}

/* The first mention of the field in this document? */
static bool first_mention(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, uint64_t *seen)
{
	size_t index = (size_t)(f - m->descriptor->fields);
	if (index >= SEEN_WORDS * 64)
		return true;
	uint64_t bit = (uint64_t)1 << index % 64;
	bool first = !(seen[index / 64] & bit);
	seen[index / 64] |= bit;
	return first;
}

static void decode_field(struct decoder *d, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
	const struct node_pair *pair, uint64_t *seen)
{
	const struct node *n = pair->value;
	char name[NAME_MAX_BYTES];
	bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
	if (n->type == NODE_NULL && (repeated || !takes_null(f)))
		return;
	pb_json_name(f, name, sizeof(name));
	size_t back = path_field(d, name);
	if (!first_mention(m, f, seen))
		(void)problem(d, n, "duplicate-key", "\"%s\" and \"%s\" are one field", name, f->name);
	if (field_is_map(f)) {
		decode_map(d, m, f, n);
	} else if (repeated) {
		decode_list(d, m, f, n);
	} else {
		if (field_in_oneof(f))
			choose(d, m, f, name, n);
		(void)decode_value(d, f, n, field_at(m, f));
	}
	path_back(d, back);
}

static void unknown_field(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node_pair *pair)
{
	char near[NAME_MAX_BYTES];
	if (d->ignore_unknown)
		return;
	struct node at = {.type = NODE_NULL, .line = pair->line ? pair->line : pair->value->line};
	size_t back = d->path.len;
	if (back > 0)
		strbuf_addc(&d->path, '.');
	strbuf_add(&d->path, pair->key);
	if (suggest_field(type, pair->key, near, sizeof(near)))
		(void)problem(d, &at, "unknown-field", "unknown field, did you mean \"%s\"?", near);
	else
		(void)problem(d, &at, "unknown-field", "unknown field of %s", type->short_name);
	path_back(d, back);
}

ProtobufCMessage *decode_fields(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n, bool any)
{
	uint64_t seen[SEEN_WORDS] = {0};
	if (n->type != NODE_MAP) {
		(void)wrong_type(d, n, "a map");
		return NULL;
	}
	ProtobufCMessage *m = pb_new(d->arena, type);
	for (size_t i = 0; i < n->len; i++) {
		const struct node_pair *pair = &n->pairs[i];
		if (any && str_starts(pair->key, STR("@")))
			continue;
		const ProtobufCFieldDescriptor *f = pb_field_by_json_name(type, pair->key);
		if (f)
			decode_field(d, m, f, pair, seen);
		else
			unknown_field(d, type, pair);
	}
	return m;
}

ProtobufCMessage *decode_message(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	const struct special *s = special_of(type);
	if (d->depth >= LIMIT_PB_DEPTH) {
		(void)problem(
			d, n, "limit-depth", "messages are nested deeper than %u (LIMIT_PB_DEPTH)", LIMIT_PB_DEPTH);
		return NULL;
	}
	d->depth++;
	ProtobufCMessage *m = s ? s->decode(d, type, n) : decode_fields(d, type, n, false);
	d->depth--;
	return m;
}

void *pb_from_node(struct arena *a, const ProtobufCMessageDescriptor *type, const struct node *n,
	const struct pb_decode_options *o, struct diags *diags)
{
	struct decoder d = {.arena = a, .diags = diags, .ignore_unknown = o && o->ignore_unknown};
	strbuf_adds(&d.path, o && o->path ? o->path : "");
	ProtobufCMessage *m = decode_message(&d, type, n);
	if (d.problems > LIMIT_DIAGS_PER_DOCUMENT)
		(void)diag_add(diags, DIAG_ERROR, "limit-diags", o && o->path ? o->path : "",
			"%zu more problems of this document are not shown", d.problems - LIMIT_DIAGS_PER_DOCUMENT);
	strbuf_done(&d.path);
	return d.problems ? NULL : m;
}

void *pb_from_json_text(struct arena *a, const ProtobufCMessageDescriptor *type, struct str text, struct err *e)
{
	cleanup(arena_free_p) struct arena *scratch = arena_new();
	struct diags diags;
	struct node *n = NULL;
	diags_init(&diags, scratch);
	void *m = json_parse(scratch, text, &n, &diags) ? pb_from_node(a, type, n, NULL, &diags) : NULL;
	if (!m && diags.len > 0)
		err_set(e, ERR_PEER, "%s: %s%s%s", type->name, diags.items[0].path, *diags.items[0].path ? ": " : "",
			diags.items[0].text);
	return m;
}
