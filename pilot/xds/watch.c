/*
 * DOC: Keeping account of what a client holds. All changes of slots go through here, so that the sum (the version of a state of the
 * world), the count of names and the list of dirty slots always agree.
 */
#include "pilot/xds/watch.h"

#include <stdlib.h>

#include "common/base/limits.h"

#define NAME_BYTES_MAX 4096u

void entry_list_add(xds_entry_list *l, struct xds_entry *e)
{
	xds_entry_ref(e);
	vec_push(l, e);
}

void entry_list_clear(xds_entry_list *l)
{
	for (size_t i = 0; i < l->len; i++)
		xds_entry_unref(l->items[i]);
	vec_done(l);
}

void watch_done(struct xds_watch *w)
{
	entry_list_clear(&w->dirty);
	entry_list_clear(&w->gone);
	entry_list_clear(&w->in_flight);
	slots_done(&w->slots);
	free(w->nack);
	*w = (struct xds_watch){.type = w->type};
}

void watch_mark(struct xds_watch *w, struct xds_slot *slot)
{
	if (slot->dirty)
		return;
	slot->dirty = 1;
	entry_list_add(&w->dirty, slot->entry);
}

static uint64_t mix(uint64_t name, uint64_t version)
{
	uint64_t x = name + version * 0x9e3779b97f4a7c15ull;
	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 29;
	return x;
}

void watch_set_version(struct xds_watch *w, struct xds_slot *slot, uint64_t version)
{
	if (slot->version > XDS_VERSION_ABSENT)
		w->sum -= mix(slot->entry->name_hash, slot->version);
	slot->version = version & ((1ull << XDS_VERSION_BITS) - 1);
	if (slot->version > XDS_VERSION_ABSENT)
		w->sum += mix(slot->entry->name_hash, slot->version);
}

void watch_drop(struct xds_watch *w, struct xds_slot *slot)
{
	watch_set_version(w, slot, XDS_VERSION_NONE);
	w->named -= slot->named;
	xds_entry_unref(slots_remove(&w->slots, slot));
}

static struct xds_scope *scope_of_name(struct xds_session *s, enum xds_type t, struct str name)
{
	return s->scope[engine_source(s->engine)->translators[t]->scope(name)];
}

struct xds_slot *watch_peek(struct xds_session *s, struct xds_watch *w, struct str name)
{
	return slots_find(&w->slots, xds_scope_peek(scope_of_name(s, w->type, name), w->type, name));
}

struct xds_slot *watch_slot(struct xds_session *s, struct xds_watch *w, struct str name)
{
	struct xds_entry *e = xds_scope_entry(scope_of_name(s, w->type, name), w->type, name);
	struct xds_slot *slot = slots_find(&w->slots, e);
	if (!slot)
		return slots_add(&w->slots, e);
	xds_entry_unref(e);
	return slot;
}

bool watch_name(struct xds_session *s, struct xds_watch *w, struct str name, struct xds_slot **slot, struct err *e)
{
	if (name.len > NAME_BYTES_MAX)
		return err_set(e, ERR_LIMIT, "a resource name has %zu bytes, at most %u are accepted", name.len,
			NAME_BYTES_MAX);
	*slot = watch_slot(s, w, name);
	if ((*slot)->named)
		return true;
	if (w->named >= LIMIT_XDS_NAMES)
		return err_set(
			e, ERR_LIMIT, "%s: more than %u resource names", xds_type_info(w->type)->name, LIMIT_XDS_NAMES);
	(*slot)->named = 1;
	w->named++;
	watch_mark(w, *slot);
	return true;
}

void watch_unname(struct xds_watch *w, struct xds_slot *slot)
{
	w->named -= slot->named;
	slot->named = 0;
	if (!slot->listed)
		watch_drop(w, slot);
}

/* Slots that match `keep` no more are dropped; dropping moves slots, so they are collected first. */
static void drop_unlisted(struct xds_watch *w)
{
	xds_entry_list drop = {0};
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		i->listed = 0;
		if (!i->named)
			entry_list_add(&drop, i->entry);
	}
	for (size_t i = 0; i < drop.len; i++)
		watch_drop(w, slots_find(&w->slots, drop.items[i]));
	entry_list_clear(&drop);
}

void watch_set_wildcard(struct xds_watch *w, bool on)
{
	if (on == w->wildcard)
		return;
	w->wildcard = on;
	w->names_dirty = on;
	memset(w->names_generation, 0, sizeof(w->names_generation));
	if (!on)
		drop_unlisted(w);
}

static void refresh_scope_names(struct xds_session *s, struct xds_watch *w, enum scope_kind kind)
{
	const struct xds_names *names = xds_scope_names(s->scope[kind], w->type);
	if (names->generation == w->names_generation[kind])
		return;
	w->names_generation[kind] = names->generation;
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));)
		i->seen = 0;
	for (size_t i = 0; i < names->n; i++) {
		struct xds_slot *slot = watch_slot(s, w, names->items[i]);
		slot->seen = 1;
		if (!slot->listed) {
			slot->listed = 1;
			watch_mark(w, slot);
		}
	}
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		if (i->seen || !i->listed || i->entry->scope != s->scope[kind])
			continue;
		i->listed = 0;
		watch_mark(w, i);
	}
}

void watch_refresh_names(struct xds_session *s, struct xds_watch *w)
{
	if (w->names_dirty && w->wildcard) {
		for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
			refresh_scope_names(s, w, (enum scope_kind)k);
	}
	w->names_dirty = false;
}

struct xds_resource *watch_current(const struct xds_slot *slot)
{
	return slot->named || slot->listed ? xds_entry_get(slot->entry) : NULL;
}

void watch_move(struct xds_session *s, struct xds_watch *w, const struct xds_scope *from)
{
	struct xds_slots old = w->slots;
	w->slots = (struct xds_slots){0};
	entry_list_clear(&w->dirty);
	entry_list_clear(&w->gone);
	for (struct xds_slot *i = NULL; (i = slots_next(&old, i));) {
		struct xds_slot copy = *i;
		if (i->entry->scope == from)
			copy.entry = xds_scope_entry(
				scope_of_name(s, w->type, i->entry->name), w->type, i->entry->name);
		else
			xds_entry_ref(copy.entry);
		copy.dirty = 0;
		*slots_add(&w->slots, copy.entry) = copy;
	}
	slots_done(&old);
	w->all_dirty = true;
	w->names_dirty = w->wildcard;
	memset(w->names_generation, 0, sizeof(w->names_generation));
}

void watch_follow_clusters(struct xds_session *s, const xds_entry_list *clusters)
{
	struct xds_watch *eds = &s->watches[XDS_EDS];
	for (size_t i = 0; eds->open && i < clusters->len; i++) {
		struct xds_slot *slot = watch_peek(s, eds, clusters->items[i]->name);
		if (!slot || slot->version <= XDS_VERSION_ABSENT)
			continue;
		watch_set_version(eds, slot, XDS_VERSION_NONE);
		watch_mark(eds, slot);
	}
}

uint64_t watch_full_sum(struct xds_watch *w)
{
	uint64_t sum = 0;
	for (struct xds_slot *i = NULL; (i = slots_next(&w->slots, i));) {
		const struct xds_resource *r = watch_current(i);
		if (r)
			sum += mix(i->entry->name_hash, r->version);
	}
	return sum;
}
