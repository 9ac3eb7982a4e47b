/*
 * DOC: A hash table from key to the list of its dependents. An edge knows its place in the list and the list knows the edge, so that
 * a dependent leaves all its lists in time proportional to its own reads: the last of a list takes the place of the one that leaves.
 * Lists that became empty go away when the table grows.
 */
#include "pilot/xds/reads.h"

#include <stdlib.h>

#include "common/base/vec.h"

struct read_edge {
	uint64_t key;
	uint32_t at; /* place in the key's list */
};

struct back_edge {
	struct read_dep *dep;
	uint32_t edge; /* index into dep->edges */
};

/* Most keys have one dependent: it lies in the table. */
struct key_list {
	uint64_t key;
	uint32_t len;
	uint32_t cap; /* 0: unused; 1: `one` is the list */
	union {
		struct back_edge one;
		struct back_edge *items;
	};
};

static struct back_edge *edges_of(struct key_list *l)
{
	return l->cap > 1 ? l->items : &l->one;
}

struct read_index {
	struct key_list *table;
	size_t cap; /* a power of two, or 0 */
	size_t used;
};

struct read_index *read_index_new(void)
{
	return xzalloc(sizeof(struct read_index));
}

void read_index_free(struct read_index *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->cap; i++)
		if (x->table[i].cap > 1)
			free(x->table[i].items);
	free(x->table);
	free(x);
}

/* Read keys are hashes already, but a test's may be small numbers. */
static size_t place_of(const struct read_index *x, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & (x->cap - 1);
}

static struct key_list *find(const struct read_index *x, uint64_t key)
{
	if (!x->cap)
		return NULL;
	size_t i = place_of(x, key);
	while (x->table[i].cap && x->table[i].key != key)
		i = (i + 1) & (x->cap - 1);
	return &x->table[i];
}

static void grow(struct read_index *x)
{
	struct read_index old = *x;
	size_t live = 0;

	for (size_t i = 0; i < old.cap; i++)
		live += old.table[i].len > 0;
	x->cap = 16;
	while (x->cap < live * 2)
		x->cap *= 2;
	x->used = live;
	x->table = xzalloc(x->cap * sizeof(*x->table));
	for (size_t i = 0; i < old.cap; i++) {
		if (old.table[i].len)
			*find(x, old.table[i].key) = old.table[i];
		else if (old.table[i].cap > 1)
			free(old.table[i].items);
	}
	free(old.table);
}

static struct key_list *find_or_add(struct read_index *x, uint64_t key)
{
	struct key_list *l = find(x, key);
	if (l && l->cap)
		return l;
	if ((x->used + 1) * 4 > x->cap * 3) {
		grow(x);
		l = find(x, key);
	}
	*l = (struct key_list){.key = key, .cap = 1};
	x->used++;
	return l;
}

static void widen(struct key_list *l)
{
	struct back_edge one = l->one;
	struct back_edge *items = xrealloc(l->cap > 1 ? l->items : NULL, 2 * l->cap * sizeof(*items));
	if (l->cap == 1)
		items[0] = one;
	l->items = items;
	l->cap *= 2;
}

void read_index_add(struct read_index *x, struct read_dep *d, const struct read_keys *keys)
{
	assert(!d->edges);
	if (!keys->len)
		return;
	d->n = keys->len;
	d->edges = xmalloc(keys->len * sizeof(*d->edges));
	for (size_t i = 0; i < keys->len; i++) {
		struct key_list *l = find_or_add(x, keys->items[i]);
		if (l->len == l->cap)
			widen(l);
		d->edges[i] = (struct read_edge){.key = keys->items[i], .at = l->len};
		edges_of(l)[l->len++] = (struct back_edge){.dep = d, .edge = (uint32_t)i};
	}
}

void read_index_remove(struct read_index *x, struct read_dep *d)
{
	for (size_t i = 0; i < d->n; i++) {
		struct key_list *l = find(x, d->edges[i].key);
		struct back_edge last = edges_of(l)[--l->len];
		edges_of(l)[d->edges[i].at] = last;
		last.dep->edges[last.edge].at = d->edges[i].at;
	}
	free(d->edges);
	d->edges = NULL;
	d->n = 0;
}

static void touch_list(
	struct read_index *x, struct key_list *l, void (*stale)(void *ctx, struct read_dep *d), void *ctx)
{
	while (l->len) {
		struct read_dep *d = edges_of(l)[l->len - 1].dep;
		read_index_remove(x, d);
		stale(ctx, d);
	}
}

void read_index_touch(
	struct read_index *x, const struct read_keys *touched, void (*stale)(void *ctx, struct read_dep *d), void *ctx)
{
	for (size_t i = 0; touched && i < touched->len; i++) {
		struct key_list *l = find(x, touched->items[i]);
		if (l && l->cap)
			touch_list(x, l, stale, ctx);
	}
	for (size_t i = 0; !touched && i < x->cap; i++)
		touch_list(x, &x->table[i], stale, ctx);
}

bool read_dep_is(const struct read_dep *d, const struct read_keys *keys)
{
	if (d->n != keys->len)
		return false;
	for (size_t i = 0; i < d->n; i++)
		if (d->edges[i].key != keys->items[i])
			return false;
	return true;
}

size_t read_dep_bytes(const struct read_dep *d)
{
	return d->n * (sizeof(struct read_edge) + sizeof(struct back_edge));
}
