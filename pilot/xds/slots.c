/*
 * DOC: Open addressing on the address of the entry, with backward-shift deletion, so that there are no tombstones. The set is at
 * most three quarters full.
 */
#include "pilot/xds/slots.h"

#include <stdlib.h>
#include <string.h>

#include "pilot/xds/cache.h"

static size_t place_of(const struct xds_slots *s, const struct xds_entry *e)
{
	uint64_t v = (uint64_t)(uintptr_t)e;
	return (size_t)((v * 0x9e3779b97f4a7c15ull) >> 24) & (s->cap - 1);
}

static struct xds_slot *probe(const struct xds_slots *s, const struct xds_entry *e)
{
	size_t i = place_of(s, e);
	while (s->items[i].entry && s->items[i].entry != e)
		i = (i + 1) & (s->cap - 1);
	return &s->items[i];
}

struct xds_slot *slots_find(const struct xds_slots *s, const struct xds_entry *e)
{
	if (!s->cap || !e)
		return NULL;
	struct xds_slot *slot = probe(s, e);
	return slot->entry ? slot : NULL;
}

static void resize(struct xds_slots *s, size_t cap)
{
	struct xds_slots old = *s;
	s->cap = cap;
	s->items = xzalloc(cap * sizeof(*s->items));
	for (size_t i = 0; i < old.cap; i++) {
		if (old.items[i].entry)
			*probe(s, old.items[i].entry) = old.items[i];
	}
	free(old.items);
}

struct xds_slot *slots_add(struct xds_slots *s, struct xds_entry *e)
{
	if ((s->len + 1) * 4 > s->cap * 3)
		resize(s, s->cap ? s->cap * 2 : 8);
	struct xds_slot *slot = probe(s, e);
	assert(!slot->entry);
	*slot = (struct xds_slot){.entry = e};
	s->len++;
	return slot;
}

struct xds_entry *slots_remove(struct xds_slots *s, struct xds_slot *slot)
{
	struct xds_entry *e = slot->entry;
	size_t hole = (size_t)(slot - s->items);

	for (size_t i = (hole + 1) & (s->cap - 1); s->items[i].entry; i = (i + 1) & (s->cap - 1)) {
		size_t home = place_of(s, s->items[i].entry);
		/* It may move into the hole unless its home lies after the hole, going round. */
		if (((i - home) & (s->cap - 1)) >= ((i - hole) & (s->cap - 1))) {
			s->items[hole] = s->items[i];
			hole = i;
		}
	}
	s->items[hole] = (struct xds_slot){0};
	s->len--;
	return e;
}

void slots_done(struct xds_slots *s)
{
	for (size_t i = 0; i < s->cap; i++) {
		if (s->items[i].entry)
			xds_entry_unref(s->items[i].entry);
	}
	free(s->items);
	*s = (struct xds_slots){0};
}

void slots_copy(struct xds_slots *to, const struct xds_slots *from)
{
	*to = *from;
	if (!from->cap)
		return;
	to->items = xmalloc(from->cap * sizeof(*to->items));
	memcpy(to->items, from->items, from->cap * sizeof(*to->items));
	for (size_t i = 0; i < to->cap; i++)
		if (to->items[i].entry)
			xds_entry_ref(to->items[i].entry);
}

struct xds_slot *slots_next(const struct xds_slots *s, struct xds_slot *after)
{
	for (size_t i = after ? (size_t)(after - s->items) + 1 : 0; i < s->cap; i++) {
		if (s->items[i].entry)
			return &s->items[i];
	}
	return NULL;
}
