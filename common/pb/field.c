/*
 * DOC: Values of fields and entries of maps.
 *
 * protobuf-c gives every value an in-memory form by its type; a value counts as absent under proto3's rule, when it is
 * the default of its type. A map is a list of entry messages there, and its order is of no meaning, so whatever
 * compares, hashes or prints sorts by key first. Keys are strings, integers or booleans by the language's rules.
 */
#include "common/pb/field.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/pb/pb.h"

static const size_t value_sizes[] = {
	[PROTOBUF_C_TYPE_INT32] = 4,
	[PROTOBUF_C_TYPE_SINT32] = 4,
	[PROTOBUF_C_TYPE_SFIXED32] = 4,
	[PROTOBUF_C_TYPE_INT64] = 8,
	[PROTOBUF_C_TYPE_SINT64] = 8,
	[PROTOBUF_C_TYPE_SFIXED64] = 8,
	[PROTOBUF_C_TYPE_UINT32] = 4,
	[PROTOBUF_C_TYPE_FIXED32] = 4,
	[PROTOBUF_C_TYPE_UINT64] = 8,
	[PROTOBUF_C_TYPE_FIXED64] = 8,
	[PROTOBUF_C_TYPE_FLOAT] = 4,
	[PROTOBUF_C_TYPE_DOUBLE] = 8,
	[PROTOBUF_C_TYPE_BOOL] = sizeof(protobuf_c_boolean),
	[PROTOBUF_C_TYPE_ENUM] = 4,
	[PROTOBUF_C_TYPE_STRING] = sizeof(char *),
	[PROTOBUF_C_TYPE_BYTES] = sizeof(ProtobufCBinaryData),
	[PROTOBUF_C_TYPE_MESSAGE] = sizeof(ProtobufCMessage *),
};

size_t field_value_size(const ProtobufCFieldDescriptor *f)
{
	return value_sizes[f->type];
}

bool field_value_is_zero(const ProtobufCFieldDescriptor *f, const void *value)
{
	static const char zeros[8];
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		return !*string_at(value);
	case PROTOBUF_C_TYPE_BYTES:
		return ((const ProtobufCBinaryData *)value)->len == 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		return !message_at(value);
	case PROTOBUF_C_TYPE_FLOAT: /* protobuf-c leaves minus zero out, too */
		return *(const float *)value == 0.0f;
	case PROTOBUF_C_TYPE_DOUBLE:
		return *(const double *)value == 0.0;
	default:
		return memcmp(value, zeros, value_sizes[f->type]) == 0;
	}
}

bool field_is_set(const void *message, const ProtobufCFieldDescriptor *f)
{
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return field_len(message, f) > 0;
	if (!field_in_oneof(f))
		return !field_value_is_zero(f, field_at_const(message, f));
	if (!field_is_chosen(message, f))
		return false;
	return f->type != PROTOBUF_C_TYPE_MESSAGE || message_at(field_at_const(message, f));
}

bool pb_is_map_entry(const ProtobufCMessageDescriptor *d)
{
	return d->n_fields == 2 && str_ends(str_of(d->name), STR("Entry")) && d->fields[0].id == 1 &&
	       d->fields[1].id == 2 && streq(d->fields[0].name, "key") && streq(d->fields[1].name, "value");
}

bool field_is_map(const ProtobufCFieldDescriptor *f)
{
	return f->label == PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_MESSAGE &&
	       pb_is_map_entry(f->descriptor);
}

static int order(bool less, bool more)
{
	return less ? -1 : more ? 1 : 0;
}

int map_entry_cmp(const void *entry, const void *other)
{
	const ProtobufCFieldDescriptor *key = &((const ProtobufCMessage *)entry)->descriptor->fields[0];
	const void *x = field_at_const(entry, key);
	const void *y = field_at_const(other, key);
	switch (key->type) {
	case PROTOBUF_C_TYPE_STRING:
		return strcmp(string_at(x), string_at(y));
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return order(*(const int64_t *)x<*(const int64_t *)y, *(const int64_t *)x> * (const int64_t *)y);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return order(*(const uint64_t *)x<*(const uint64_t *)y, *(const uint64_t *)x> * (const uint64_t *)y);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return order(*(const uint32_t *)x<*(const uint32_t *)y, *(const uint32_t *)x> * (const uint32_t *)y);
	default:
		return order(*(const int32_t *)x<*(const int32_t *)y, *(const int32_t *)x> * (const int32_t *)y);
	}
}

bool map_entries_sorted(ProtobufCMessage *const *entries, size_t len)
{
	for (size_t i = 1; i < len; i++)
		if (map_entry_cmp(entries[i - 1], entries[i]) > 0)
			return false;
	return true;
}

/* Merges the sorted halves [0, half) and [half, len) of `entries`; `spare` has room for one half. */
static void merge_halves(ProtobufCMessage **entries, size_t half, size_t len, ProtobufCMessage **spare)
{
	memcpy(spare, entries, half * sizeof(*spare));
	size_t left = 0;
	size_t right = half;
	for (size_t at = 0; left < half; at++) {
		if (right < len && map_entry_cmp(entries[right], spare[left]) < 0)
			entries[at] = entries[right++];
		else
			entries[at] = spare[left++];
	}
}

static void merge_sort(ProtobufCMessage **entries, size_t len, ProtobufCMessage **spare)
{
	if (len < 2)
		return;
	size_t half = len / 2;
	merge_sort(entries, half, spare);
	merge_sort(entries + half, len - half, spare);
	merge_halves(entries, half, len, spare);
}

/* Not qsort: of two entries with one key the later one counts, so their order must stay. */
void map_entries_sort(ProtobufCMessage **entries, size_t len)
{
	if (map_entries_sorted(entries, len))
		return;
	cleanup(free_p) ProtobufCMessage **spare = xmalloc((len / 2 + 1) * sizeof(*spare));
	merge_sort(entries, len, spare);
}

ProtobufCMessage **map_entries_sorted_copy(const void *entries, size_t len)
{
	if (map_entries_sorted(entries, len))
		return NULL;
	ProtobufCMessage **copy = xmalloc(len * sizeof(*copy));
	memcpy(copy, entries, len * sizeof(*copy));
	map_entries_sort(copy, len);
	return copy;
}
