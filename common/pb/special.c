/*
 * DOC: Messages whose JSON form is not an object of their fields: google.protobuf's well-known types by proto3's JSON
 * mapping, and fairlead.kube.v1.IntOrString as Kubernetes writes it. A row per message; a new one is a row and its two
 * functions.
 */
#include "common/base/limits.h"
#include "common/base/base64.h"
#include "common/pb/codec.h"
#include "common/pb/scalar.h"
#include "common/pb/wkt_text.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/duration.pb-c.h"
#include "wkt/field_mask.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "wkt/timestamp.pb-c.h"
#include "wkt/wrappers.pb-c.h"

static ProtobufCMessage *decode_duration(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Wkt__Duration *m = pb_new(d->arena, type);
	if (n->type != NODE_STRING) {
		(void)wrong_type(d, n, "a duration such as \"1.5s\"");
		return NULL;
	}
	if (!duration_read(n->text, &m->seconds, &m->nanos)) {
		char words[NODE_WORDS_MAX];
		(void)problem(d, n, "bad-duration", "%s is not a duration such as \"1.5s\" or \"1m30s\"",
			node_words(n, words));
		return NULL;
	}
	return &m->base;
}

static void encode_duration(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__Duration *duration = (const void *)m;
	strbuf_addc(w->out, '"');
	duration_write(duration->seconds, duration->nanos, w->out);
	strbuf_addc(w->out, '"');
}

static ProtobufCMessage *decode_timestamp(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Wkt__Timestamp *m = pb_new(d->arena, type);
	if (n->type != NODE_STRING) {
		(void)wrong_type(d, n, "a time such as \"2006-01-02T15:04:05Z\"");
		return NULL;
	}
	if (!timestamp_read(n->text, &m->seconds, &m->nanos)) {
		(void)problem(d, n, "bad-timestamp", "the text is not a time of RFC 3339 in the years 1 to 9999");
		return NULL;
	}
	return &m->base;
}

/* A time that the text form has no year for is shown as its number of seconds. */
static void encode_timestamp(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__Timestamp *t = (const void *)m;
	strbuf_addc(w->out, '"');
	if (!timestamp_write(t->seconds, t->nanos, w->out))
		strbuf_addf(w->out, "%lld", (long long)t->seconds);
	strbuf_addc(w->out, '"');
}

static ProtobufCMessage *decode_wrapper(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	ProtobufCMessage *m = pb_new(d->arena, type);
	return decode_scalar(d, &type->fields[0], n, field_at(m, &type->fields[0])) ? m : NULL;
}

static void encode_wrapper(struct writer *w, const ProtobufCMessage *m)
{
	const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
	encode_value(w, f, field_at_const(m, f));
}

/* Struct and ListValue have one field, and are what it is. */
static ProtobufCMessage *decode_only_field(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	ProtobufCMessage *m = pb_new(d->arena, type);
	size_t problems = d->problems;
	if (type == &wkt__struct__descriptor)
		decode_map(d, m, &type->fields[0], n);
	else
		decode_list(d, m, &type->fields[0], n);
	return d->problems == problems ? m : NULL;
}

static void encode_struct(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__Struct *s = (const void *)m;
	cleanup(free_p) ProtobufCMessage **sorted = map_entries_sorted_copy(s->fields, s->n_fields);
	Wkt__Struct__FieldsEntry **entries = sorted ? (Wkt__Struct__FieldsEntry **)(void *)sorted : s->fields;
	bool first = true;
	write_open(w, '{');
	for (size_t i = 0; i < s->n_fields; i++) {
		write_name(w, str_of(entries[i]->key), &first);
		if (entries[i]->value)
			encode_message(w, &entries[i]->value->base);
		else
			strbuf_adds(w->out, "null");
	}
	write_close(w, '}', first);
}

static void encode_list_value(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__ListValue *list = (const void *)m;
	bool first = true;
	write_open(w, '[');
	for (size_t i = 0; i < list->n_values; i++) {
		write_next(w, &first);
		encode_message(w, &list->values[i]->base);
	}
	write_close(w, ']', first);
}

static bool decode_value_number(struct decoder *d, const struct node *n, double *out)
{
	struct number number;
	if (!scalar_number(n->text, &number) || number.real - number.real != 0)
		return wrong_type(d, n, "a finite number");
	*out = number.real;
	return true;
}

static ProtobufCMessage *decode_any_value(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Wkt__Value *v = pb_new(d->arena, type);
	bool ok = true;
	switch (n->type) {
	case NODE_NULL:
		v->kind_case = WKT__VALUE__KIND_NULL_VALUE;
		break;
	case NODE_BOOL:
		v->kind_case = WKT__VALUE__KIND_BOOL_VALUE;
		v->bool_value = scalar_is_true(n->text);
		break;
	case NODE_NUMBER:
		v->kind_case = WKT__VALUE__KIND_NUMBER_VALUE;
		ok = decode_value_number(d, n, &v->number_value);
		break;
	case NODE_STRING:
		v->kind_case = WKT__VALUE__KIND_STRING_VALUE;
		v->string_value = arena_cstr(d->arena, n->text);
		break;
	case NODE_LIST:
		v->kind_case = WKT__VALUE__KIND_LIST_VALUE;
		v->list_value = (void *)decode_message(d, &wkt__list_value__descriptor, n);
		ok = v->list_value != NULL;
		break;
	case NODE_MAP:
		v->kind_case = WKT__VALUE__KIND_STRUCT_VALUE;
		v->struct_value = (void *)decode_message(d, &wkt__struct__descriptor, n);
		ok = v->struct_value != NULL;
		break;
	}
	return ok ? &v->base : NULL;
}

static void encode_any_value(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__Value *v = (const void *)m;
	const ProtobufCFieldDescriptor *f = v->kind_case ? protobuf_c_message_descriptor_get_field(
								   m->descriptor, v->kind_case)
							 : NULL;
	if (!f || !field_is_set(m, f) || v->kind_case == WKT__VALUE__KIND_NULL_VALUE)
		strbuf_adds(w->out, "null");
	else
		encode_value(w, f, field_at_const(m, f));
}

static ProtobufCMessage *decode_int_or_string(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Kube__IntOrString *m = pb_new(d->arena, type);
	const ProtobufCFieldDescriptor *f = &type->fields[n->type == NODE_STRING ? 1 : 0];
	return decode_scalar(d, f, n, field_at(&m->base, f)) ? &m->base : NULL;
}

static void encode_int_or_string(struct writer *w, const ProtobufCMessage *m)
{
	const Kube__IntOrString *v = (const void *)m;
	if (str_empty(v->str_val))
		strbuf_addf(w->out, "%lld", (long long)v->int_val);
	else
		strbuf_add_json(w->out, str_of(v->str_val));
}

/* A comma-separated list of paths, their names in JSON's form. */
static ProtobufCMessage *decode_field_mask(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Wkt__FieldMask *m = pb_new(d->arena, type);
	struct str rest = n->text;
	struct str path;
	if (n->type != NODE_STRING) {
		(void)wrong_type(d, n, "a string of paths");
		return NULL;
	}
	while (n->text.len > 0 && str_split(&rest, ',', &path)) {
		struct strbuf proto = {0};
		for (size_t i = 0; i < path.len; i++) {
			bool upper = path.ptr[i] >= 'A' && path.ptr[i] <= 'Z';
			if (upper)
				strbuf_addc(&proto, '_');
			strbuf_addc(&proto, upper ? (char)(path.ptr[i] | 0x20) : path.ptr[i]);
		}
		pb_add(d->arena, m, paths, arena_cstr(d->arena, strbuf_str(&proto)));
		strbuf_done(&proto);
	}
	return &m->base;
}

static void encode_field_mask(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__FieldMask *mask = (const void *)m;
	struct strbuf text = {0};
	for (size_t i = 0; i < mask->n_paths; i++) {
		if (i > 0)
			strbuf_addc(&text, ',');
		for (const char *p = mask->paths[i] ? mask->paths[i] : ""; *p; p++) {
			bool raise = *p == '_' && p[1] >= 'a' && p[1] <= 'z';
			p += raise;
			strbuf_addc(&text, raise ? (char)(*p & ~0x20) : *p);
		}
	}
	strbuf_add_json(w->out, strbuf_str(&text));
	strbuf_done(&text);
}

static const ProtobufCMessageDescriptor *type_of_url(struct str url)
{
	size_t at;
	return str_rfind(url, '/', &at) ? pb_find_descriptor(str_from(url, at + 1)) : NULL;
}

static const struct node *any_value_node(struct decoder *d, const struct node *n, const char *key)
{
	const struct node *value = node_get(n, key);
	if (!value)
		(void)problem(d, n, "unknown-type", "the type is not known here, so \"value\" in base64 is expected");
	return value;
}

/* The content under its own members, or in base64 when the type is not known or the bytes were not of that type. */
static bool decode_any_content(
	struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n, Wkt__Any *any)
{
	const ProtobufCFieldDescriptor *bytes = &any->base.descriptor->fields[1];
	const struct node *raw = node_get(n, "@value");
	if (!type && !raw)
		raw = any_value_node(d, n, "value");
	if (raw)
		return decode_scalar(d, bytes, raw, &any->value);
	if (!type)
		return false;
	const struct special *s = special_of(type);
	const struct node *value = s ? node_get(n, "value") : n;
	if (!value)
		return problem(d, n, "wrong-type", "%s in an Any needs a member \"value\"", type->short_name);
	unsigned depth = d->depth;
	d->depth = 0; /* an Any is packed by itself */
	ProtobufCMessage *m = s ? s->decode(d, type, value) : decode_fields(d, type, value, true);
	d->depth = depth;
	if (!m || d->problems)
		return false;
	any->value.len = pb_packed_size(m);
	any->value.data = arena_alloc(d->arena, any->value.len + 1);
	(void)protobuf_c_message_pack(m, any->value.data);
	return true;
}

static ProtobufCMessage *decode_any(struct decoder *d, const ProtobufCMessageDescriptor *type, const struct node *n)
{
	Wkt__Any *any = pb_new(d->arena, type);
	const struct node *url = node_get(n, "@type");
	if (n->type != NODE_MAP) {
		(void)wrong_type(d, n, "a map with \"@type\"");
		return NULL;
	}
	if (!url && n->len == 0)
		return &any->base;
	if (!url || url->type != NODE_STRING) {
		(void)problem(d, n, "wrong-type", "a member \"@type\" is expected, \"type.googleapis.com/<message>\"");
		return NULL;
	}
	any->type_url = arena_cstr(d->arena, url->text);
	return decode_any_content(d, type_of_url(url->text), n, any) ? &any->base : NULL;
}

static void encode_raw(struct writer *w, const char *name, const Wkt__Any *any, bool *first)
{
	write_name(w, str_of(name), first);
	strbuf_addc(w->out, '"');
	base64_write(str_n(any->value.data, any->value.len), w->out);
	strbuf_addc(w->out, '"');
}

static void encode_any_content(struct writer *w, const Wkt__Any *any, bool *first)
{
	const ProtobufCMessageDescriptor *type = type_of_url(str_of(any->type_url ? any->type_url : ""));
	if (!type) {
		encode_raw(w, "value", any, first);
		return;
	}
	cleanup(arena_free_p) struct arena *scratch = arena_new();
	ProtobufCMessage *m = w->depth <= LIMIT_PB_DEPTH
				      ? pb_unpack(scratch, type, any->value.data, any->value.len, NULL)
				      : NULL;
	const struct special *s = special_of(type);
	if (!m) {
		encode_raw(w, "@value", any, first);
	} else if (s) {
		write_name(w, STR("value"), first);
		encode_message(w, m);
	} else {
		encode_members(w, m, first);
	}
}

static void encode_any(struct writer *w, const ProtobufCMessage *m)
{
	const Wkt__Any *any = (const void *)m;
	bool first = true;
	write_open(w, '{');
	if (!str_empty(any->type_url) || any->value.len > 0) {
		write_name(w, STR("@type"), &first);
		strbuf_add_json(w->out, str_of(any->type_url ? any->type_url : ""));
		encode_any_content(w, any, &first);
	}
	write_close(w, '}', first);
}

static const struct special specials[] = {
	{&wkt__any__descriptor, decode_any, encode_any, false},
	{&wkt__duration__descriptor, decode_duration, encode_duration, false},
	{&wkt__timestamp__descriptor, decode_timestamp, encode_timestamp, false},
	{&wkt__field_mask__descriptor, decode_field_mask, encode_field_mask, false},
	{&wkt__struct__descriptor, decode_only_field, encode_struct, false},
	{&wkt__list_value__descriptor, decode_only_field, encode_list_value, false},
	{&wkt__value__descriptor, decode_any_value, encode_any_value, true},
	{&wkt__double_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__float_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__int64_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__uint64_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__int32_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__uint32_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__bool_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__string_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&wkt__bytes_value__descriptor, decode_wrapper, encode_wrapper, false},
	{&kube__int_or_string__descriptor, decode_int_or_string, encode_int_or_string, false},
};

const struct special *special_of(const ProtobufCMessageDescriptor *type)
{
	for (size_t i = 0; i < ARRAY_LEN(specials); i++)
		if (specials[i].type == type)
			return &specials[i];
	return NULL;
}
