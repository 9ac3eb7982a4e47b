/*
 * What a replica holds: for each (topic, key) the hash of its value and where its record stands in the snapshot file.
 * The values themselves are the daemon's; they are not kept twice in memory.
 */
#pragma once

#include "common/base/map.h"
#include "common/bus/wire.h"

struct bus_held {
	uint64_t hash;
	uint64_t offset; /* of the record in the snapshot file; 0: not in it */
	uint32_t bytes; /* of the record with its head */
};

struct bus_content {
	struct map *map; /* bus_id -> struct bus_held * */
	uint64_t record_bytes; /* sum over the held */
};

void content_init(struct bus_content *c);
void content_done(struct bus_content *c);
size_t content_len(const struct bus_content *c);
struct bus_held *content_get(const struct bus_content *c, uint32_t topic, struct str key);
/* Whether applying the change would change anything. */
bool content_differs(const struct bus_content *c, const struct bus_change *change);
/* Applies it; the entry, or NULL when it was a deletion. */
struct bus_held *content_apply(struct bus_content *c, const struct bus_change *change);
void content_debug(const struct bus_content *c, struct strbuf *json); /* "topics":[...]: how many keys of each */
void content_place(struct bus_content *c, struct bus_held *h, uint64_t offset, uint32_t bytes);
