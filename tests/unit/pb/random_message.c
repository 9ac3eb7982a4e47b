/*
 * DOC: Fills messages by their descriptors. Most fields stay empty, so that messages keep a reasonable size; lists have up
 * to three values. Types whose text form cannot hold everything (Duration, Timestamp, FieldMask, Value, Any) are made by
 * rows of their own.
 */
#include "tests/unit/pb/random_message.h"

#include <stdio.h>

#include "common/pb/field.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/duration.pb-c.h"
#include "wkt/field_mask.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "wkt/timestamp.pb-c.h"
#include "wkt/wrappers.pb-c.h"
#include "xds/core.pb-c.h"

uint32_t random_next(struct random *r)
{
	r->state = r->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(r->state >> 33);
}

static bool one_in(struct random *r, unsigned n)
{
	return random_next(r) % n == 0;
}

static uint64_t random_u64(struct random *r)
{
	uint64_t v = (uint64_t)random_next(r) << 40 ^ (uint64_t)random_next(r) << 20 ^ random_next(r);
	return v >> random_next(r) % 60;
}

static char *random_string(struct random *r, struct arena *a)
{
	static const char *const pieces[] = {"a", "Z", "true", "010", ".", "-", "/", "\n", "\"", "\\", "<<", "ü", "€",
		"😀", "\t", "\x7f", " ", ": ", "# ", "{", "null", "\xc2\x85", "\xe2\x80\xa8", "@", "x_y"};
	struct strbuf s = {0};
	for (unsigned n = random_next(r) % 5; n > 0; n--)
		strbuf_adds(&s, pieces[random_next(r) % ARRAY_LEN(pieces)]);
	char *copy = arena_cstr(a, strbuf_str(&s));
	strbuf_done(&s);
	return copy;
}

static double random_real(struct random *r)
{
	double numerator = (double)(int64_t)random_u64(r);
	return one_in(r, 2) ? numerator : numerator / (double)(random_next(r) % 1000000 + 1);
}

static int32_t random_enum(struct random *r, const ProtobufCEnumDescriptor *e)
{
	if (e == &wkt__null_value__descriptor)
		return 0;
	return one_in(r, 8) ? (int32_t)(random_next(r) % 1000) : e->values[random_next(r) % e->n_values].value;
}

static void random_scalar(struct random *r, struct arena *a, const ProtobufCFieldDescriptor *f, void *value)
{
	uint64_t bits = random_u64(r);
	if (f->type == PROTOBUF_C_TYPE_STRING) {
		*(char **)value = random_string(r, a);
	} else if (f->type == PROTOBUF_C_TYPE_BYTES) {
		ProtobufCBinaryData *b = value;
		b->len = random_next(r) % 7;
		b->data = arena_dup(a, &bits, 8);
	} else if (f->type == PROTOBUF_C_TYPE_ENUM) {
		*(int32_t *)value = random_enum(r, f->descriptor);
	} else if (f->type == PROTOBUF_C_TYPE_BOOL) {
		*(protobuf_c_boolean *)value = one_in(r, 2);
	} else if (f->type == PROTOBUF_C_TYPE_DOUBLE) {
		*(double *)value = random_real(r);
	} else if (f->type == PROTOBUF_C_TYPE_FLOAT) {
		*(float *)value = (float)random_real(r);
	} else {
		memcpy(value, &bits, field_value_size(f));
	}
}

static void random_value(
	struct random *r, struct arena *a, const ProtobufCFieldDescriptor *f, void *value, unsigned depth)
{
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		*(ProtobufCMessage **)value = random_message(r, a, f->descriptor, depth - 1);
	else
		random_scalar(r, a, f, value);
}

static void random_list(
	struct random *r, struct arena *a, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, unsigned depth)
{
	size_t n = random_next(r) % 4;
	char *items = n ? arena_alloc(a, pb_room(n, field_value_size(f))) : NULL;
	for (size_t i = 0; i < n; i++) {
		void *value = items + i * field_value_size(f);
		random_value(r, a, f, value, depth);
		if (!field_is_map(f))
			continue;
		ProtobufCMessage *entry = *(ProtobufCMessage **)value;
		const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
		if (key->type == PROTOBUF_C_TYPE_STRING)
			*(char **)field_at(entry, key) = arena_printf(a, "%s%zu", random_string(r, a), 9 - i);
		else
			*(uint32_t *)field_at(entry, key) = (uint32_t)(9 - i);
	}
	*field_items(m, f) = items;
	*field_count(m, f) = n;
}

static ProtobufCMessage *random_duration(struct random *r, struct arena *a, unsigned depth)
{
	Wkt__Duration *d = PB_NEW(a, Wkt__Duration, wkt__duration);
	int sign = one_in(r, 2) ? 1 : -1;
	d->seconds = sign * (int64_t)(random_u64(r) % 315576000000);
	d->nanos = sign * (int32_t)(one_in(r, 2) ? random_next(r) % 1000000000 : random_next(r) % 1000 * 1000000);
	return &d->base;
}

static ProtobufCMessage *random_timestamp(struct random *r, struct arena *a, unsigned depth)
{
	Wkt__Timestamp *t = PB_NEW(a, Wkt__Timestamp, wkt__timestamp);
	t->seconds = (int64_t)(random_u64(r) % 315537897599) - 62135596800;
	t->nanos = (int32_t)(random_next(r) % 1000000000);
	return &t->base;
}

static ProtobufCMessage *random_mask(struct random *r, struct arena *a, unsigned depth)
{
	static char path[] = "some_field.other";
	Wkt__FieldMask *m = PB_NEW(a, Wkt__FieldMask, wkt__field_mask);
	for (unsigned n = random_next(r) % 3; n > 0; n--)
		pb_add(a, m, paths, path);
	return &m->base;
}

static ProtobufCMessage *random_json_value(struct random *r, struct arena *a, unsigned depth)
{
	Wkt__Value *v = PB_NEW(a, Wkt__Value, wkt__value);
	unsigned kind = depth > 1 ? random_next(r) % 6 + 1 : random_next(r) % 4 + 1;
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(v->base.descriptor, kind);
	v->kind_case = kind;
	random_value(r, a, f, field_at(&v->base, f), depth);
	return &v->base;
}

static ProtobufCMessage *random_int_or_string(struct random *r, struct arena *a, unsigned depth)
{
	Kube__IntOrString *m = PB_NEW(a, Kube__IntOrString, kube__int_or_string);
	if (one_in(r, 2))
		m->int_val = (int64_t)random_u64(r);
	else
		m->str_val = random_string(r, a);
	return &m->base;
}

static ProtobufCMessage *random_any(struct random *r, struct arena *a, unsigned depth)
{
	static const ProtobufCMessageDescriptor *const types[] = {
		&core__locality__descriptor,
		&wkt__duration__descriptor,
		&wkt__struct__descriptor,
		&wkt__any__descriptor,
		&wkt__string_value__descriptor,
		&kube__object_meta__descriptor,
	};
	ProtobufCMessage *m = random_message(r, a, types[random_next(r) % ARRAY_LEN(types)], depth ? depth - 1 : 0);
	pb_sort_maps(m);
	Wkt__Any *any = pb_any(a, m);
	if (one_in(r, 5))
		any->type_url = arena_strdup(a, "type.googleapis.com/not.known.Here");
	return &any->base;
}

static const struct {
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *(*make)(struct random *r, struct arena *a, unsigned depth);
} makers[] = {
	{&wkt__duration__descriptor, random_duration},
	{&wkt__timestamp__descriptor, random_timestamp},
	{&wkt__field_mask__descriptor, random_mask},
	{&wkt__value__descriptor, random_json_value},
	{&kube__int_or_string__descriptor, random_int_or_string},
	{&wkt__any__descriptor, random_any},
};

ProtobufCMessage *random_message(struct random *r, struct arena *a, const ProtobufCMessageDescriptor *d, unsigned depth)
{
	for (size_t i = 0; i < ARRAY_LEN(makers); i++)
		if (makers[i].type == d && (depth > 0 || d != &wkt__any__descriptor))
			return makers[i].make(r, a, depth);
	ProtobufCMessage *m = pb_new(a, d);
	bool entry = pb_is_map_entry(d);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		if (!entry && (depth == 0 || one_in(r, 3)))
			continue;
		if (depth == 0 && f->type == PROTOBUF_C_TYPE_MESSAGE) {
			*(ProtobufCMessage **)field_at(m, f) = random_message(r, a, f->descriptor, 0);
			continue;
		}
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			random_list(r, a, m, f, depth);
			continue;
		}
		if (field_in_oneof(f)) {
			if (*field_case(m, f) != 0)
				continue;
			*field_case(m, f) = f->id;
		}
		random_value(r, a, f, field_at(m, f), depth ? depth : 1);
	}
	return m;
}
