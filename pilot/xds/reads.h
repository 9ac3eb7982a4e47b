/*
 * The reverse of recorded reads: from a read key to everything that recorded it. What depends on the model embeds a `read_dep`;
 * read_index_touch() takes each dependent of the touched keys out of the index and hands it over, to be built anew when asked for.
 * One index per engine, so that a change costs nothing for the scopes that it does not concern; owner thread: the worker's.
 */
#pragma once

#include "pilot/model/model.h"

enum read_dep_kind { DEP_ENTRY, DEP_NAMES, DEP_SCOPE };

struct read_edge;

struct read_dep {
	enum read_dep_kind kind;
	size_t n;
	struct read_edge *edges;
};

struct read_index;
struct read_index *read_index_new(void);
void read_index_free(struct read_index *x);
/* The dependent recorded these keys (sealed); it must not be in the index. */
void read_index_add(struct read_index *x, struct read_dep *d, const struct read_keys *keys);
void read_index_remove(struct read_index *x, struct read_dep *d); /* fine when it is not in the index */
/* touched NULL: every key. */
void read_index_touch(
	struct read_index *x, const struct read_keys *touched, void (*stale)(void *ctx, struct read_dep *d), void *ctx);
bool read_dep_is(const struct read_dep *d, const struct read_keys *keys); /* recorded just these (sealed) */
size_t read_dep_bytes(const struct read_dep *d); /* about what it takes in the index */
