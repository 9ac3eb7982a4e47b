/*
 * Between struct bus_change and the frames of protos/bus/bus.proto: packing, checked unpacking, splitting into
 * frames, and the one-string name of (topic, key) by which maps are keyed here. Pure: no sockets, no state.
 */
#pragma once

#include <zmq.h>

#include "common/base/limits.h"
#include "common/bus/bus.h"

#include "bus/bus.pb-c.h"

#define BUS_PROTOCOL 1u

/* (topic, key) as one string; borrowed from `buf`. */
struct bus_id {
	char bytes[4 + LIMIT_BUS_KEY_BYTES];
};
struct str bus_id(struct bus_id *buf, uint32_t topic, struct str key);
uint32_t bus_id_topic(struct str id);
struct str bus_id_key(struct str id);

/* Never 0, which means "not known". */
uint64_t bus_hash(struct str value);

/*
 * An unpacked and checked frame in the arena, or NULL and e. A body that this version does not know is not an error.
 */
Bus__Frame *wire_unpack(struct arena *a, struct str bytes, struct err *e) MUST_CHECK;
/* Initialises *msg with the packed frame. */
void wire_pack(const Bus__Frame *f, zmq_msg_t *msg);

/* Change messages of `changes`, in the arena; values and origins are borrowed. */
Bus__Change **wire_changes(struct arena *a, const struct bus_change *changes, size_t n);
/*
 * The changes of a frame, in the arena, without those of topics that are unknown or that `publisher` may not publish
 * (counted in *ret_foreign) and those not in the 0-terminated `topics` (NULL: all). Content stays in the frame's
 * arena.
 */
size_t wire_changes_of(struct arena *a, Bus__Change *const *changes, size_t n, const char *publisher,
	const uint32_t *topics, struct bus_change **ret_changes, size_t *ret_foreign);
/*
 * Upper bound of the packed size; how many of the first n changes go into one frame of about LIMIT_BUS_CHUNK_BYTES
 * (at least 1).
 */
size_t wire_change_bytes(const struct bus_change *c);
size_t wire_fit(const struct bus_change *changes, size_t n);
bool wire_topic_listed(const uint32_t *topics, uint32_t id);
/* NULL, or why this change can not go over the bus ("key too long" ...). */
const char *wire_change_problem(const struct bus_change *c);
/* The changes of topics that are not private, *n of them: all themselves when none is, else a copy in the arena. */
const struct bus_change *wire_public(struct arena *a, const struct bus_change *all, size_t n_all, size_t *n);
