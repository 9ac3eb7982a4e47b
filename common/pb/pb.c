/*
 * DOC: Messages on arenas: making, growing, packing and unpacking them.
 *
 * protobuf-c allocates through callbacks, so unpacking into an arena is its own parser with an allocator that never
 * frees. That parser recurses without a bound and believes every length, hence pb_check_wire() walks the bytes first.
 * What it leaves is finished here: fields that we do not know are dropped (they would travel on unseen by validation
 * and make equal content unequal), and lists get the room that pb_grow() counts on.
 *
 * pb_grow() keeps no capacity: a list of n values has room for the next power of two, so a full list is one whose size
 * is a power of two. pb_copy() and pb_unpack() keep to that.
 */
#include "common/pb/pb.h"

#include <string.h>

#include "common/base/limits.h"
#include "common/pb/field.h"
#include "wkt/any.pb-c.h"

#define ROOM_MIN 16 /* bytes; an arena gives no less */

static void finish(struct arena *a, ProtobufCMessage *m, bool unknown);

void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);
	d->message_init(m);
	return m;
}

size_t pb_room(size_t len, size_t item_size)
{
	size_t room = ROOM_MIN;
	while (room < len * item_size)
		room *= 2;
	return room;
}

void *pb_grow(struct arena *a, void *items, size_t len, size_t item_size)
{
	assert((item_size & (item_size - 1)) == 0);
	size_t used = len * item_size;
	bool full = len == 0 || (used >= ROOM_MIN && (used & (used - 1)) == 0);
	if (!full)
		return items;
	void *grown = arena_alloc(a, pb_room(len + 1, item_size));
	if (used)
		memcpy(grown, items, used);
	return grown;
}

/* Whole units of ROOM_MIN, which the arena's alignment takes anyway, so that short lists have their room already. */
static void *unpack_alloc(void *arena, size_t size)
{
	return arena_alloc(arena, (size + ROOM_MIN - 1) / ROOM_MIN * ROOM_MIN);
}

static void unpack_free(void *arena, void *pointer)
{
	(void)arena;
	(void)pointer;
}

ProtobufCMessage *pb_unpack(
	struct arena *a, const ProtobufCMessageDescriptor *d, const void *data, size_t len, struct err *e)
{
	bool unknown = false;
	if (!pb_check_wire(d, data, len, &unknown, e)) {
		err_in(e, "%s", d->name);
		return NULL;
	}
	ProtobufCAllocator allocator = {.alloc = unpack_alloc, .free = unpack_free, .allocator_data = a};
	static const uint8_t nothing[1];
	ProtobufCMessage *m = protobuf_c_message_unpack(d, &allocator, len, len ? data : nothing);
	if (!m) {
		err_set(e, ERR_PEER, "%s: %zu bytes are not such a message", d->name, len);
		return NULL;
	}
	finish(a, m, unknown);
	return m;
}

static void finish_field(struct arena *a, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, bool unknown)
{
	if (!field_is_set(m, f))
		return;
	if (f->label != PROTOBUF_C_LABEL_REPEATED) {
		if (f->type == PROTOBUF_C_TYPE_MESSAGE)
			finish(a, *(ProtobufCMessage **)field_at(m, f), unknown);
		return;
	}
	size_t n = field_len(m, f);
	size_t used = n * field_value_size(f);
	if (pb_room(n, field_value_size(f)) - used >= ROOM_MIN) {
		void *roomy = arena_alloc(a, pb_room(n, field_value_size(f)));
		memcpy(roomy, *field_items(m, f), used);
		*field_items(m, f) = roomy;
	}
	if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
		ProtobufCMessage **items = *(ProtobufCMessage ***)field_at(m, f);
		for (size_t i = 0; i < n; i++)
			finish(a, items[i], unknown);
	}
}

static void finish(struct arena *a, ProtobufCMessage *m, bool unknown)
{
	if (unknown) {
		m->n_unknown_fields = 0;
		m->unknown_fields = NULL;
	}
	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		finish_field(a, m, &m->descriptor->fields[i], unknown);
}

size_t pb_packed_size(const void *message)
{
	return protobuf_c_message_get_packed_size(message);
}

struct str pb_pack(struct arena *a, const void *message)
{
	size_t size = pb_packed_size(message);
	uint8_t *data = arena_alloc(a, size ? size : 1);
	size_t written = protobuf_c_message_pack(message, data);
	assert(written == size);
	return str_n(data, size);
}

void *pb_any(struct arena *a, const void *message)
{
	const ProtobufCMessage *m = message;
	Wkt__Any *any = PB_NEW(a, Wkt__Any, wkt__any);
	any->type_url = arena_printf(a, "type.googleapis.com/%s", m->descriptor->name);
	any->value.len = pb_packed_size(message);
	any->value.data = arena_alloc(a, any->value.len ? any->value.len : 1);
	(void)protobuf_c_message_pack(message, any->value.data);
	return any;
}
