/*
 * DOC: What there is to say. The dirty slots are compared with the cache: what differs is fresh, what is no more is absent. Fresh resources
 * are taken in the order of their names, so that those that are made together lie together, and proxies of other scopes, who have the
 * same resources, get the same slices.
 */
#include <stdlib.h>

#include "pilot/xds/holding_int.h"

#define BULK_MIN 32 /* resources that are worth a chunk */

static void refresh_names(struct xds_holding *h)
{
	if (!h->names_dirty)
		return;
	h->names_dirty = false;
	const struct xds_names *names = xds_scope_names(h->scope, h->type);
	if (!h->wildcard || names->generation == h->names_generation)
		return;
	h->names_generation = names->generation;
	for (struct xds_slot *i = NULL; (i = slots_next(&h->slots, i));)
		i->seen = 0;
	for (size_t i = 0; i < names->n; i++) {
		struct xds_slot *slot = holding_slot(h, names->items[i]);
		slot->seen = 1;
		if (!slot->listed) {
			slot->listed = 1;
			holding_mark(h, slot);
		}
	}
	for (struct xds_slot *i = NULL; (i = slots_next(&h->slots, i));) {
		if (i->seen || !i->listed)
			continue;
		i->listed = 0;
		holding_mark(h, i);
	}
}

static void examine_slot(struct xds_holding *h, struct xds_slot *slot, struct xds_answer *a)
{
	const struct xds_resource *now = slot_wanted(slot) ? xds_entry_get(slot->entry) : NULL;

	if (now) {
		if (now->version != slot->version)
			entry_list_add(&a->fresh, slot->entry);
	} else if (slot->version > XDS_VERSION_ABSENT) {
		/* Clusters go last, when nothing uses them any more. */
		entry_list_add(h->type == XDS_CDS ? &h->gone : &a->absent, slot->entry);
	} else if (h->type == XDS_VHDS && slot->listed) {
		entry_list_add(
			&a->absent, slot->entry); /* also what never was: Envoy waits for the first word on a host */
	} else if (!slot->named) {
		holding_drop(h, slot);
	} else if (h->mode == XDS_DELTA && slot->version == XDS_VERSION_NONE) {
		entry_list_add(&a->absent, slot->entry);
	}
}

/* The client forgets it, or was told that it does not exist. */
static void forget(struct xds_holding *h, const xds_entry_list *absent)
{
	for (size_t i = 0; i < absent->len; i++) {
		struct xds_slot *slot = slots_find(&h->slots, absent->items[i]);
		if (slot && slot->named)
			holding_set_version(h, slot, XDS_VERSION_ABSENT);
		else if (slot)
			holding_drop(h, slot);
	}
}

static void add_fresh(struct xds_holding *h, struct xds_answer *a)
{
	bool mine = h->mode == XDS_DELTA && h->scope->scope->kind == SCOPE_OWN && h->scope->sessions == 1;
	for (size_t i = 0; i < a->fresh.len; i++) {
		struct xds_resource *r = xds_entry_bytes(a->fresh.items[i]);
		answer_add(a, h->mode, r);
		holding_set_version(h, slots_find(&h->slots, a->fresh.items[i]), r->version);
		if (mine) /* only this proxy has it, and it was sent */
			xds_resource_drop_bytes(r);
	}
}

/* Pieces that were packed one by one would be an entry each in the queues of all who get the answer. */
#define JOIN_MIN 3
#define JOIN_PIECE_BYTES 4096u

static void join_pieces(struct xds_answer *a)
{
	if (a->slices.len < JOIN_MIN || a->bytes / a->slices.len > JOIN_PIECE_BYTES)
		return;
	struct buf *all = buf_new(a->bytes);
	uint8_t *p = all->data;
	for (size_t i = 0; i < a->slices.len; i++) {
		memcpy(p, a->slices.items[i].ptr, a->slices.items[i].len);
		p += a->slices.items[i].len;
		buf_unref(a->slices.items[i].buf);
	}
	a->slices.items[0] = (struct buf_slice){all, all->data, a->bytes};
	a->slices.len = 1;
}

static struct str routes_of(const struct xds_entry *host)
{
	size_t slash;
	return str_rfind(host->name, '/', &slash) ? str_sub(host->name, 0, slash) : host->name;
}

/* An answer is about the hosts of one RouteConfiguration: what is refused does not take those of others with it. */
static void leave_other_routes(struct xds_holding *h, xds_entry_list *sorted)
{
	size_t n = 0;
	while (n < sorted->len && str_eq(routes_of(sorted->items[n]), routes_of(sorted->items[0])))
		n++;
	for (size_t i = n; i < sorted->len; i++) {
		entry_list_add(&h->dirty, sorted->items[i]);
		xds_entry_unref(sorted->items[i]);
	}
	sorted->len = n;
}

static struct xds_answer *examine(struct xds_holding *h)
{
	struct xds_answer *a = answer_new();

	refresh_names(h);
	xds_entry_list dirty = h->dirty;
	h->dirty = (xds_entry_list){0};
	h->changed_us = 0;
	entry_list_sort(&dirty);
	if (h->type == XDS_VHDS)
		leave_other_routes(h, &dirty);
	xds_store_bulk(engine_store(h->scope->engine), dirty.len >= BULK_MIN);
	for (size_t i = 0; i < dirty.len; i++) {
		struct xds_slot *slot = slots_find(&h->slots, dirty.items[i]);
		if (!slot || !slot->dirty)
			continue;
		slot->dirty = 0;
		examine_slot(h, slot, a);
	}
	xds_store_bulk(engine_store(h->scope->engine), false);
	entry_list_clear(&dirty);
	if (h->mode == XDS_SOTW && !xds_type_info(h->type)->wildcard)
		entry_list_clear(&a->absent); /* no way to say it */
	add_fresh(h, a);
	join_pieces(a);
	forget(h, &a->absent);
	return a;
}

struct xds_answer *holding_answer(struct xds_holding **h)
{
	struct xds_holding *from;
	if (!holding_pending(*h))
		return NULL;
	const struct holding_step *known = holding_find_step(&(*h)->steps, STEP_ANSWER, 0);
	if (known) {
		struct xds_answer *a = answer_ref(known->answer);
		holding_go(h, known->next);
		return a;
	}
	struct xds_holding *n = holding_private(h, &from);
	struct xds_answer *a = examine(n);
	if (from)
		holding_remember(&from->steps, (struct holding_step){STEP_ANSWER, 0, n, a, false});
	return a;
}

uint64_t holding_full_sum(struct xds_holding *h)
{
	if (!holding_pending(h))
		return h ? h->sum : 0;
	const struct holding_step *known = holding_find_step(&h->steps, STEP_ANSWER, 0);
	if (known)
		return known->next->sum;
	struct xds_holding *n = holding_copy(h);
	struct xds_answer *a = examine(n);
	uint64_t sum = n->sum;
	holding_remember(&h->steps, (struct holding_step){STEP_ANSWER, 0, n, a, false});
	answer_unref(a);
	holding_unref(n);
	return sum;
}

struct xds_answer *holding_removal(struct xds_holding **h)
{
	struct xds_holding *from;
	if (!*h || !(*h)->gone.len)
		return NULL;
	const struct holding_step *known = holding_find_step(&(*h)->steps, STEP_REMOVAL, 0);
	if (known) {
		struct xds_answer *a = answer_ref(known->answer);
		holding_go(h, known->next);
		return a;
	}
	struct xds_holding *n = holding_private(h, &from);
	struct xds_answer *a = answer_new();
	xds_entry_list gone = n->gone;
	n->gone = (xds_entry_list){0};
	for (struct xds_slot *i = NULL; (i = slots_next(&n->slots, i));)
		i->seen = 0;
	for (size_t i = 0; i < gone.len; i++) {
		struct xds_slot *slot = slots_find(&n->slots, gone.items[i]);
		if (!slot || slot->version <= XDS_VERSION_ABSENT)
			continue;
		if (slot->seen ||
			(slot_wanted(slot) && xds_entry_get(slot->entry))) /* twice in the list, or it came back */
			continue;
		slot->seen = 1;
		entry_list_add(&a->absent, gone.items[i]);
	}
	entry_list_clear(&gone);
	entry_list_sort(&a->absent);
	forget(n, &a->absent);
	if (from)
		holding_remember(&from->steps, (struct holding_step){STEP_REMOVAL, 0, n, a, false});
	return a;
}

const struct xds_answer *holding_whole(struct xds_holding *h)
{
	xds_entry_list all = {0};
	if (h->whole)
		return h->whole;
	h->whole = answer_new();
	for (struct xds_slot *i = NULL; (i = slots_next(&h->slots, i));)
		entry_list_add(&all, i->entry);
	entry_list_sort(&all);
	for (size_t i = 0; i < all.len; i++) {
		const struct xds_slot *slot = slots_find(&h->slots, all.items[i]);
		/* What is there, and what is about to go but must not yet. */
		const struct xds_resource *r = slot_wanted(slot) ? xds_entry_bytes(slot->entry) : NULL;
		if (!r && slot->version > XDS_VERSION_ABSENT)
			r = slot->entry->res ? slot->entry->res : slot->entry->last;
		if (!r || !r->home)
			continue;
		entry_list_add(&h->whole->fresh, slot->entry);
		answer_add(h->whole, h->mode, r);
	}
	entry_list_clear(&all);
	return h->whole;
}
