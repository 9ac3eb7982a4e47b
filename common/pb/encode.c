/*
 * DOC: Messages to JSON. Canonical: fields in the order of their numbers, maps in the order of their keys, the shortest
 * decimal for floating point, so that the same content is the same text everywhere. 64-bit integers are strings, because
 * JSON's numbers are doubles for most readers; enum numbers without a name stay numbers.
 */
#include <math.h>

#include "common/base/base64.h"
#include "common/pb/codec.h"
#include "common/pb/scalar.h"
#include "wkt/struct.pb-c.h"

#define NAME_MAX_BYTES 128

static void line_break(struct writer *w)
{
	if (w->options->indent == 0)
		return;
	strbuf_addc(w->out, '\n');
	for (unsigned i = 0; i < w->level * w->options->indent; i++)
		strbuf_addc(w->out, ' ');
}

void write_open(struct writer *w, char bracket)
{
	strbuf_addc(w->out, bracket);
	w->level++;
}

void write_next(struct writer *w, bool *first)
{
	if (!*first)
		strbuf_addc(w->out, ',');
	*first = false;
	line_break(w);
}

void write_name(struct writer *w, struct str name, bool *first)
{
	write_next(w, first);
	strbuf_add_json(w->out, name);
	strbuf_adds(w->out, w->options->indent ? ": " : ":");
}

void write_close(struct writer *w, char bracket, bool empty)
{
	w->level--;
	if (!empty)
		line_break(w);
	strbuf_addc(w->out, bracket);
}

void encode_real(struct writer *w, double value, bool single)
{
	char text[REAL_TEXT_MAX];
	if (isnan(value)) {
		strbuf_adds(w->out, "\"NaN\"");
	} else if (isinf(value)) {
		strbuf_adds(w->out, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	} else {
		real_text(value, single, text);
		strbuf_adds(w->out, text);
	}
}

static void encode_enum(struct writer *w, const ProtobufCFieldDescriptor *f, int32_t value)
{
	const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value(f->descriptor, value);
	if (f->descriptor == &wkt__null_value__descriptor)
		strbuf_adds(w->out, "null");
	else if (named)
		strbuf_addf(w->out, "\"%s\"", named->name);
	else
		strbuf_addf(w->out, "%d", (int)value);
}

static void encode_bytes(struct writer *w, const ProtobufCBinaryData *b)
{
	strbuf_addc(w->out, '"');
	base64_write(str_n(b->data, b->len), w->out);
	strbuf_addc(w->out, '"');
}

void encode_value(struct writer *w, const ProtobufCFieldDescriptor *f, const void *value)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		strbuf_addf(w->out, "%d", (int)*(const int32_t *)value);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		strbuf_addf(w->out, "\"%lld\"", (long long)*(const int64_t *)value);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		strbuf_addf(w->out, "%u", (unsigned)*(const uint32_t *)value);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		strbuf_addf(w->out, "\"%llu\"", (unsigned long long)*(const uint64_t *)value);
		break;
	case PROTOBUF_C_TYPE_FLOAT:
		encode_real(w, *(const float *)value, true);
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		encode_real(w, *(const double *)value, false);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		strbuf_adds(w->out, *(const protobuf_c_boolean *)value ? "true" : "false");
		break;
	case PROTOBUF_C_TYPE_ENUM:
		encode_enum(w, f, *(const int32_t *)value);
		break;
	case PROTOBUF_C_TYPE_STRING:
		strbuf_add_json(w->out, str_of(string_at(value)));
		break;
	case PROTOBUF_C_TYPE_BYTES:
		encode_bytes(w, value);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		if (message_at(value))
			encode_message(w, message_at(value));
		else
			strbuf_adds(w->out, "{}");
		break;
	}
}

static void encode_list(struct writer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const char *items = field_items_const(m, f);
	bool first = true;
	write_open(w, '[');
	for (size_t i = 0; i < field_len(m, f); i++) {
		write_next(w, &first);
		encode_value(w, f, items + i * field_value_size(f));
	}
	write_close(w, ']', first);
}

/* A key is always a string in JSON. */
static void write_key(struct writer *w, const ProtobufCMessage *entry, bool *first)
{
	const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
	struct strbuf text = {0};
	struct writer plain = {.out = &text, .options = w->options};
	if (key->type == PROTOBUF_C_TYPE_STRING) {
		write_name(w, str_of(string_at(field_at_const(entry, key))), first);
		return;
	}
	encode_value(&plain, key, field_at_const(entry, key));
	struct str s = strbuf_str(&text);
	bool quoted = str_starts(s, STR("\""));
	write_name(w, quoted ? str_sub(s, 1, s.len - 2) : s, first);
	strbuf_done(&text);
}

static void encode_map(struct writer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	size_t len = field_len(m, f);
	const void *items = field_items_const(m, f);
	cleanup(free_p) ProtobufCMessage **sorted = map_entries_sorted_copy(items, len);
	ProtobufCMessage *const *entries = sorted ? sorted : items;
	bool first = true;
	write_open(w, '{');
	for (size_t i = 0; i < len; i++) {
		const ProtobufCFieldDescriptor *value = &entries[i]->descriptor->fields[1];
		bool again = i + 1 < len && map_entry_cmp(entries[i], entries[i + 1]) == 0;
		if (again) /* of two entries with one key the later one counts */
			continue;
		write_key(w, entries[i], &first);
		encode_value(w, value, field_at_const(entries[i], value));
	}
	write_close(w, '}', first);
}

static bool shown(const struct writer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	if (field_is_set(m, f))
		return true;
	return w->options->defaults && !field_in_oneof(f) &&
	       (f->label == PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE);
}

void encode_members(struct writer *w, const ProtobufCMessage *m, bool *first)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		char json[NAME_MAX_BYTES];
		if (!shown(w, m, f))
			continue;
		pb_json_name(f, json, sizeof(json));
		write_name(w, str_of(w->options->proto_names ? f->name : json), first);
		if (field_is_map(f))
			encode_map(w, m, f);
		else if (f->label == PROTOBUF_C_LABEL_REPEATED)
			encode_list(w, m, f);
		else
			encode_value(w, f, field_at_const(m, f));
	}
}

void encode_message(struct writer *w, const ProtobufCMessage *m)
{
	const struct special *s = special_of(m->descriptor);
	bool first = true;
	w->depth++;
	if (s) {
		s->encode(w, m);
	} else {
		write_open(w, '{');
		encode_members(w, m, &first);
		write_close(w, '}', first);
	}
	w->depth--;
}

void pb_to_json(const void *message, const struct pb_encode_options *o, struct strbuf *out)
{
	static const struct pb_encode_options plain;
	struct writer w = {.out = out, .options = o ? o : &plain};
	encode_message(&w, message);
}
