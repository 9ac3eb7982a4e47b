/*
 * The publisher's content: the current value of every key. A value is immutable and counted, so that a snapshot under
 * way keeps those it still has to send while newer ones replace them: its extra memory is a pointer per change to
 * send, plus what was replaced meanwhile. Counts are plain: everything is on the loop's thread.
 */
#pragma once

#include "common/base/map.h"
#include "common/bus/wire.h"

struct bus_value {
	unsigned refs;
	struct bus_change change; /* its strings follow in the same allocation */
};
struct bus_value *bus_value_new(const struct bus_change *c);
struct bus_value *bus_value_ref(struct bus_value *v);
void bus_value_unref(struct bus_value *v);

struct store {
	struct map *values; /* bus_id -> struct bus_value * */
	uint64_t bytes;
};
void store_init(struct store *s);
void store_done(struct store *s);
/* False: nothing changed (same hash, or deleting what is not there). */
bool store_apply(struct store *s, const struct bus_change *c);
