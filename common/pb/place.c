/*
 * DOC: Rule paths over messages: "http[].route[].weight" names every such field of a message. A path is checked against
 * the descriptor as it is walked; a wrong one is a bug in a rule table, not in the user's configuration, hence asserts.
 */
#include "common/pb/codec.h"

#define NAME_MAX_BYTES 128

struct walk {
	struct arena *arena;
	struct strbuf path;
	void (*fn)(void *ctx, const struct pb_place *place);
	void *ctx;
};

static void walk_message(struct walk *w, const ProtobufCMessage *m, struct str rest);

static void back_to(struct walk *w, size_t len)
{
	w->path.len = len;
	if (w->path.ptr)
		w->path.ptr[len] = '\0';
}

static void report(
	struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const void *value, bool present)
{
	struct pb_place place = {
		.message = m,
		.field = f,
		.value = value,
		.present = present,
		.path = arena_cstr(w->arena, strbuf_str(&w->path)),
	};
	w->fn(w->ctx, &place);
}

/* One value of a list or map: the place itself, or the way on. */
static void walk_item(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const void *value,
	struct str rest)
{
	bool text = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES;
	if (rest.len == 0) {
		report(w, m, f, value, !text || !field_value_is_zero(f, value));
		return;
	}
	assert(f->type == PROTOBUF_C_TYPE_MESSAGE && rest.ptr[0] == '.');
	if (message_at(value))
		walk_message(w, message_at(value), str_from(rest, 1));
}

static void walk_list(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct str rest)
{
	const char *items = field_items_const(m, f);
	size_t len = w->path.len;
	for (size_t i = 0; i < field_len(m, f); i++) {
		strbuf_addf(&w->path, "[%zu]", i);
		walk_item(w, m, f, items + i * field_value_size(f), rest);
		back_to(w, len);
	}
}

static void walk_map(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct str rest)
{
	ProtobufCMessage *const *entries = (const void *)field_items_const(m, f);
	size_t len = w->path.len;
	for (size_t i = 0; i < field_len(m, f); i++) {
		const ProtobufCFieldDescriptor *key = &entries[i]->descriptor->fields[0];
		const ProtobufCFieldDescriptor *value = &entries[i]->descriptor->fields[1];
		assert(key->type == PROTOBUF_C_TYPE_STRING);
		path_add_key(&w->path, str_of(string_at(field_at_const(entries[i], key))));
		walk_item(w, entries[i], value, field_at_const(entries[i], value), rest);
		back_to(w, len);
	}
}

static void walk_field(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct str rest)
{
	if (str_starts(rest, STR("[]"))) {
		assert(f->label == PROTOBUF_C_LABEL_REPEATED && !field_is_map(f));
		walk_list(w, m, f, str_from(rest, 2));
	} else if (str_starts(rest, STR("{}"))) {
		assert(field_is_map(f));
		walk_map(w, m, f, str_from(rest, 2));
	} else if (rest.len == 0) {
		report(w, m, f, field_at_const(m, f), field_is_set(m, f));
	} else {
		assert(f->label != PROTOBUF_C_LABEL_REPEATED);
		if (field_is_set(m, f))
			walk_item(w, m, f, field_at_const(m, f), rest);
	}
}

static void walk_message(struct walk *w, const ProtobufCMessage *m, struct str rest)
{
	char json[NAME_MAX_BYTES];
	size_t len = w->path.len;
	size_t name = 0;
	while (name < rest.len && !strchr(".[{", rest.ptr[name]))
		name++;
	const ProtobufCFieldDescriptor *f = pb_field_by_json_name(m->descriptor, str_sub(rest, 0, name));
	assert(f);
	pb_json_name(f, json, sizeof(json));
	if (len > 0)
		strbuf_addc(&w->path, '.');
	strbuf_adds(&w->path, json);
	walk_field(w, m, f, str_from(rest, name));
	back_to(w, len);
}

void pb_each_place(struct arena *a, const void *message, const char *rule_path, const char *prefix,
	void (*fn)(void *ctx, const struct pb_place *place), void *ctx)
{
	struct walk w = {.arena = a, .fn = fn, .ctx = ctx};
	strbuf_adds(&w.path, prefix ? prefix : "");
	walk_message(&w, message, str_of(rule_path));
	strbuf_done(&w.path);
}
