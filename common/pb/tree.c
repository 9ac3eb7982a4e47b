/*
 * DOC: Walks over whole messages: deep copy, equality, order of maps, content hash.
 *
 * Two messages are equal when a reader of proto3 cannot tell them apart: absent equals default, maps are sets, a NULL
 * string is an empty one. The hash is that of the packed bytes with every map sorted, so that equal messages have equal
 * hashes at every replica; a message whose maps are in order already (all that decoding and copying make) is packed as
 * it is, only others are copied first.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/pb/field.h"
#include "common/pb/pb.h"

static bool equal_messages(const ProtobufCMessage *x, const ProtobufCMessage *y);

static void copy_value(struct arena *a, const ProtobufCFieldDescriptor *f, void *value)
{
	if (f->type == PROTOBUF_C_TYPE_STRING) {
		char **s = value;
		if (*s != protobuf_c_empty_string)
			*s = *s ? arena_strdup(a, *s) : NULL;
	} else if (f->type == PROTOBUF_C_TYPE_BYTES) {
		ProtobufCBinaryData *b = value;
		b->data = b->len ? arena_dup(a, b->data, b->len) : NULL;
	} else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
		ProtobufCMessage **m = value;
		*m = *m ? pb_copy(a, *m) : NULL;
	}
}

static void copy_list(struct arena *a, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	size_t size = field_value_size(f);
	size_t n = field_len(m, f);
	char *items = n ? arena_alloc(a, pb_room(n, size)) : NULL;
	if (n)
		memcpy(items, *field_items(m, f), n * size);
	*field_items(m, f) = items;
	for (size_t i = 0; i < n; i++)
		copy_value(a, f, items + i * size);
	if (field_is_map(f))
		map_entries_sort((ProtobufCMessage **)(void *)items, n);
}

void *pb_copy(struct arena *a, const void *message)
{
	if (!message)
		return NULL;
	const ProtobufCMessageDescriptor *d = ((const ProtobufCMessage *)message)->descriptor;
	ProtobufCMessage *m = arena_dup(a, message, d->sizeof_message);
	m->n_unknown_fields = 0;
	m->unknown_fields = NULL;
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			copy_list(a, m, f);
		else if (!field_in_oneof(f) || field_is_chosen(m, f))
			copy_value(a, f, field_at(m, f));
	}
	return m;
}

static bool equal_values(const ProtobufCFieldDescriptor *f, const void *x, const void *y)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		return strcmp(string_at(x), string_at(y)) == 0;
	case PROTOBUF_C_TYPE_BYTES: {
		const ProtobufCBinaryData *bx = x;
		const ProtobufCBinaryData *by = y;
		return str_eq(str_n(bx->data, bx->len), str_n(by->data, by->len));
	}
	case PROTOBUF_C_TYPE_MESSAGE:
		return equal_messages(message_at(x), message_at(y));
	case PROTOBUF_C_TYPE_BOOL:
		return !*(const protobuf_c_boolean *)x == !*(const protobuf_c_boolean *)y;
	default: /* floats, too: by bits, so that NaN equals itself; both zeros were dealt with as absent */
		return memcmp(x, y, field_value_size(f)) == 0;
	}
}

static bool equal_items(const ProtobufCFieldDescriptor *f, const char *x, const char *y, size_t n)
{
	size_t size = field_value_size(f);
	for (size_t i = 0; i < n; i++)
		if (!equal_values(f, x + i * size, y + i * size))
			return false;
	return true;
}

static bool equal_lists(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *x, const ProtobufCMessage *y)
{
	size_t n = field_len(x, f);
	if (n != field_len(y, f))
		return false;
	const char *ix = field_items_const(x, f);
	const char *iy = field_items_const(y, f);
	if (n == 0 || !field_is_map(f))
		return equal_items(f, ix, iy, n);
	cleanup(free_p) ProtobufCMessage **sx = map_entries_sorted_copy(ix, n);
	cleanup(free_p) ProtobufCMessage **sy = map_entries_sorted_copy(iy, n);
	return equal_items(f, sx ? (const char *)sx : ix, sy ? (const char *)sy : iy, n);
}

static bool equal_fields(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *x, const ProtobufCMessage *y)
{
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return equal_lists(f, x, y);
	bool set = field_is_set(x, f);
	if (set != field_is_set(y, f))
		return false;
	return !set || equal_values(f, field_at_const(x, f), field_at_const(y, f));
}

static bool equal_messages(const ProtobufCMessage *x, const ProtobufCMessage *y)
{
	if (x == y || !x || !y)
		return x == y;
	if (x->descriptor != y->descriptor)
		return false;
	for (unsigned i = 0; i < x->descriptor->n_fields; i++)
		if (!equal_fields(&x->descriptor->fields[i], x, y))
			return false;
	return true;
}

bool pb_equal(const void *x, const void *y)
{
	return equal_messages(x, y);
}

/* Calls fn for every message right below m. */
static bool each_child(const ProtobufCMessage *m, bool (*fn)(const ProtobufCMessage *child))
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		if (f->type != PROTOBUF_C_TYPE_MESSAGE || !field_is_set(m, f))
			continue;
		bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
		const void *at = list ? (const void *)field_items_const(m, f) : field_at_const(m, f);
		ProtobufCMessage *const *items = at;
		for (size_t k = 0; k < (list ? field_len(m, f) : 1); k++)
			if (items[k] && !fn(items[k]))
				return false;
	}
	return true;
}

static bool maps_sorted(const ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		if (field_is_map(f) &&
			!map_entries_sorted(*(ProtobufCMessage *const *const *)field_at_const(m, f), field_len(m, f)))
			return false;
	}
	return each_child(m, maps_sorted);
}

static bool sort_below(const ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		if (field_is_map(f))
			map_entries_sort(*(ProtobufCMessage * *const *)field_at_const(m, f), field_len(m, f));
	}
	return each_child(m, sort_below);
}

void pb_sort_maps(void *message)
{
	(void)sort_below(message);
}

uint64_t pb_hash(const void *message)
{
	cleanup(arena_free_p) struct arena *scratch = NULL;
	if (!maps_sorted(message)) {
		scratch = arena_new();
		message = pb_copy(scratch, message);
	}
	size_t size = pb_packed_size(message);
	cleanup(free_p) uint8_t *packed = xmalloc(size ? size : 1);
	(void)protobuf_c_message_pack(message, packed);
	return hash64(str_n(packed, size));
}
