/*
 * protobuf-c messages on arenas. Messages are built with PB_NEW and pb_add, never malloc'd, never free_unpacked'd: they live as
 * long as their arena. Descriptors are the only reflection. All functions are thread-safe on distinct arenas.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/base/arena.h"
#include "common/base/err.h"

/* PB_NEW(a, Rds__Route, rds__route) -> Rds__Route *, initialised with defaults. */
#define PB_NEW(a, Type, lower) ((Type *)pb_new((a), &lower##__descriptor))

void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *d);

/* Appends to a repeated field: `pb_add(a, route, routes, item)` works on `n_routes`/`routes`; grows by doubling in the arena.
 * The list must be empty or come from pb_add, pb_copy, pb_unpack or the codec: those leave room up to the next power of two. */
#define pb_add(a, msg, field, item) \
	do { \
		(msg)->field = pb_grow((a), (msg)->field, (msg)->n_##field, sizeof(*(msg)->field)); \
		(msg)->field[(msg)->n_##field++] = (item); \
	} while (0)
void *pb_grow(struct arena *a, void *items, size_t len, size_t item_size);

/* Limits: LIMIT_PB_MESSAGE_BYTES, LIMIT_PB_DEPTH. The result (and all below) is in the arena; NULL and e on error. */
ProtobufCMessage *pb_unpack(
	struct arena *a, const ProtobufCMessageDescriptor *d, const void *data, size_t len, struct err *e) MUST_CHECK;
#define PB_UNPACK(a, Type, lower, data, len, e) ((Type *)pb_unpack((a), &lower##__descriptor, (data), (len), (e)))

/* Packed, in the arena. Deterministic: fields by number, map entries sorted by key (pb_sort_maps is applied by the codec and by
 * pb_copy; messages built by hand keep the order they were built in). */
struct str pb_pack(struct arena *a, const void *message);
size_t pb_packed_size(const void *message);

/* Deep copy into another arena; deep equality (maps compare as sets); content hash of the canonical packing. */
void *pb_copy(struct arena *a, const void *message);
bool pb_equal(const void *x, const void *y);
uint64_t pb_hash(const void *message);
/* Sorts map fields by key, everywhere below, so that equal content packs to equal bytes. */
void pb_sort_maps(void *message);

/* google.protobuf.Any of a message: type URL "type.googleapis.com/<full name>" and packed value. Wkt__Any * as void * to keep this header free of generated code. */
void *pb_any(struct arena *a, const void *message);

/* All descriptors that the codec can find by full name (for Any in JSON); registered by generated table pb_registry.c. */
const ProtobufCMessageDescriptor *pb_find_descriptor(struct str full_name);

const ProtobufCFieldDescriptor *pb_field_by_json_name(const ProtobufCMessageDescriptor *d, struct str name);
void pb_json_name(const ProtobufCFieldDescriptor *f, char *out, size_t out_size); /* lowerCamelCase */
bool pb_is_map_entry(const ProtobufCMessageDescriptor *d);
