/*
 * Where a field lives in a protobuf-c message. protobuf-c describes a message by offsets only; these few accessors are
 * the single place that turns a descriptor into an address, so that copy, comparison, decoding and encoding are walks
 * over the same words. Internal to common/pb. All our messages are proto3: a field has no label or is repeated.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/base/util.h"

static inline void *field_at(void *message, const ProtobufCFieldDescriptor *f)
{
	return (char *)message + f->offset;
}

static inline const void *field_at_const(const void *message, const ProtobufCFieldDescriptor *f)
{
	return (const char *)message + f->offset;
}

/* Repeated fields: the count and the array. */
static inline size_t *field_count(void *message, const ProtobufCFieldDescriptor *f)
{
	return (size_t *)(void *)((char *)message + f->quantifier_offset);
}

static inline size_t field_len(const void *message, const ProtobufCFieldDescriptor *f)
{
	return *(const size_t *)(const void *)((const char *)message + f->quantifier_offset);
}

static inline void **field_items(void *message, const ProtobufCFieldDescriptor *f)
{
	return field_at(message, f);
}

static inline const char *field_items_const(const void *message, const ProtobufCFieldDescriptor *f)
{
	return *(const char *const *)field_at_const(message, f);
}

/* Members of a oneof share one number that says which of them is set; 0: none. */
static inline uint32_t *field_case(void *message, const ProtobufCFieldDescriptor *f)
{
	return (uint32_t *)(void *)((char *)message + f->quantifier_offset);
}

static inline bool field_in_oneof(const ProtobufCFieldDescriptor *f)
{
	return f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

static inline bool field_is_chosen(const void *message, const ProtobufCFieldDescriptor *f)
{
	return *(const uint32_t *)(const void *)((const char *)message + f->quantifier_offset) == f->id;
}

static inline const ProtobufCMessage *message_at(const void *value)
{
	return *(const ProtobufCMessage *const *)value;
}

static inline const char *string_at(const void *value)
{
	const char *s = *(const char *const *)value;
	return s ? s : "";
}

/* Bytes of one value of the field in memory. */
size_t field_value_size(const ProtobufCFieldDescriptor *f);
/* Not the default: non-empty list, chosen oneof member, message there, text not empty, number not zero. */
bool field_is_set(const void *message, const ProtobufCFieldDescriptor *f);
/* The value (not the list) at `value` is its type's default. */
bool field_value_is_zero(const ProtobufCFieldDescriptor *f, const void *value);
/* A repeated field of map entries. */
bool field_is_map(const ProtobufCFieldDescriptor *f);
/* Entries of one map field in the order of their keys; the sort is stable. */
int map_entry_cmp(const void *entry, const void *other);
bool map_entries_sorted(ProtobufCMessage *const *entries, size_t len);
void map_entries_sort(ProtobufCMessage **entries, size_t len);
/* A sorted copy of the array of entries (free it); NULL when it is sorted as it is. */
ProtobufCMessage **map_entries_sorted_copy(const void *entries, size_t len);
/* Room that pb_grow() relies on for an array of `len` values: a power of two of bytes. */
size_t pb_room(size_t len, size_t item_size);
/* Before unpacking: the bytes are complete, within the limits, and every string is text. *unknown: has fields we do not know. */
struct err;
bool pb_check_wire(
	const ProtobufCMessageDescriptor *d, const void *data, size_t len, bool *unknown, struct err *e) MUST_CHECK;

/* Generated: every message of libprotos, sorted by full name. */
extern const ProtobufCMessageDescriptor *const pb_registry[];
extern const size_t pb_registry_len;
