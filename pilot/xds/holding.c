/*
 * DOC: Shared holdings and the steps between them. All changes of slots go through here, so that the sum, the counts and the list of
 * dirty slots always agree. holding_private() is the one place that decides between changing a holding and changing a copy of it.
 *
 * What is remembered is bounded: STEPS_MAX steps from one holding, DEPTH_MAX one after another without a new model; a client that walks
 * further, alone, changes its own copy.
 */
#include "pilot/xds/holding_int.h"

#include <stdlib.h>

#include "pilot/xds/engine.h"

#define STEPS_MAX 8
#define DEPTH_MAX 16

/* ---- entry lists */
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

static void entry_list_copy(xds_entry_list *to, const xds_entry_list *from)
{
	for (size_t i = 0; i < from->len; i++)
		entry_list_add(to, from->items[i]);
}

static int by_name(const void *x, const void *y)
{
	const struct xds_entry *const *a = x, *const *b = y;
	return str_cmp((*a)->name, (*b)->name);
}

void entry_list_sort(xds_entry_list *l)
{
	if (l->len > 1)
		qsort(l->items, l->len, sizeof(*l->items), by_name);
}

/* ---- answers */
struct xds_answer *answer_new(void)
{
	static _Atomic uint64_t serial;
	struct xds_answer *a = xzalloc(sizeof(*a));
	a->refs = 1;
	a->serial = ++serial;
	return a;
}

struct xds_answer *answer_ref(struct xds_answer *a)
{
	if (a)
		a->refs++;
	return a;
}

void answer_unref(struct xds_answer *a)
{
	if (!a || --a->refs)
		return;
	entry_list_clear(&a->fresh);
	entry_list_clear(&a->absent);
	for (size_t i = 0; i < a->slices.len; i++)
		buf_unref(a->slices.items[i].buf);
	vec_done(&a->slices);
	free(a);
}

void answer_add(struct xds_answer *a, enum xds_mode mode, const struct xds_resource *r)
{
	struct buf_slice s = xds_resource_slice(r, mode);
	struct buf_slice *last = a->slices.len ? &a->slices.items[a->slices.len - 1] : NULL;
	a->bytes += s.len;
	if (last && last->buf == s.buf && last->ptr + last->len == s.ptr) {
		last->len += s.len;
		return;
	}
	(void)buf_ref(s.buf);
	vec_push(&a->slices, s);
}

/* ---- holdings */
struct xds_holding *holding_new(struct xds_scope *s, enum xds_type t, enum xds_mode mode)
{
	struct xds_holding *h = xzalloc(sizeof(*h));
	h->users = 1;
	h->scope = s;
	h->type = t;
	h->mode = mode;
	h->place = s->holdings[t].len;
	vec_push(&s->holdings[t], h);
	xds_scope_ref(s);
	return h;
}

struct xds_holding *holding_ref(struct xds_holding *h)
{
	if (h)
		h->users++;
	return h;
}

void steps_forget(xds_step_list *steps)
{
	xds_step_list old = *steps;
	*steps = (xds_step_list){0};
	for (size_t i = 0; i < old.len; i++) {
		holding_unref(old.items[i].next);
		answer_unref(old.items[i].answer);
	}
	vec_done(&old);
}

static void forget_made(struct xds_holding *h)
{
	steps_forget(&h->steps);
	answer_unref(take(h->whole));
}

void holding_unref(struct xds_holding *h)
{
	if (!h || --h->users)
		return;
	struct xds_scope *s = h->scope;
	struct xds_holding *last = s->holdings[h->type].items[--s->holdings[h->type].len];
	s->holdings[h->type].items[h->place] = last;
	last->place = h->place;
	forget_made(h);
	entry_list_clear(&h->dirty);
	entry_list_clear(&h->gone);
	slots_done(&h->slots);
	free(h);
	xds_scope_unref(s);
}

struct xds_holding *holding_copy(const struct xds_holding *h)
{
	struct xds_holding *n = holding_new(h->scope, h->type, h->mode);
	slots_copy(&n->slots, &h->slots);
	entry_list_copy(&n->dirty, &h->dirty);
	entry_list_copy(&n->gone, &h->gone);
	n->named = h->named;
	n->held = h->held;
	n->sum = h->sum;
	n->request = h->request;
	n->wildcard = h->wildcard;
	n->names_dirty = h->names_dirty;
	n->names_generation = h->names_generation;
	n->changed_us = h->changed_us;
	n->depth = h->depth;
	return n;
}

/* The holding, to be changed: a copy if others have it, too, and then *from is where a step to it can be remembered. */
struct xds_holding *holding_private(struct xds_holding **h, struct xds_holding **from)
{
	struct xds_holding *old = *h;
	*from = NULL;
	if (old->users == 1) {
		forget_made(old);
		return old;
	}
	*h = holding_copy(old);
	holding_unref(old);
	*from = old;
	return *h;
}

const struct holding_step *holding_find_step(const xds_step_list *steps, enum step_kind kind, uint64_t key)
{
	for (size_t i = 0; i < steps->len; i++)
		if (steps->items[i].kind == kind && steps->items[i].key == key)
			return &steps->items[i];
	return NULL;
}

void holding_remember(xds_step_list *steps, struct holding_step step)
{
	if (step.next->depth >= DEPTH_MAX)
		return;
	step.next->depth++;
	(void)holding_ref(step.next);
	(void)answer_ref(step.answer);
	if (steps->len == STEPS_MAX) {
		struct holding_step oldest = steps->items[0];
		memmove(steps->items, steps->items + 1, --steps->len * sizeof(*steps->items));
		holding_unref(oldest.next);
		answer_unref(oldest.answer);
	}
	vec_push(steps, step);
}

void holding_go(struct xds_holding **h, struct xds_holding *next)
{
	struct xds_holding *old = *h;
	*h = holding_ref(next);
	holding_unref(old);
}

/* ---- slots */
void holding_mark(struct xds_holding *h, struct xds_slot *slot)
{
	if (slot->dirty)
		return;
	slot->dirty = 1;
	entry_list_add(&h->dirty, slot->entry);
}

uint64_t holding_mix(uint64_t name, uint64_t version)
{
	uint64_t x = name + version * 0x9e3779b97f4a7c15ull;
	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 29;
	return x;
}

void holding_set_version(struct xds_holding *h, struct xds_slot *slot, uint64_t version)
{
	if (slot->version > XDS_VERSION_ABSENT) {
		h->sum -= holding_mix(slot->entry->name_hash, slot->version);
		h->held--;
	}
	slot->version = version & ((1ull << XDS_VERSION_BITS) - 1);
	if (slot->version > XDS_VERSION_ABSENT) {
		h->sum += holding_mix(slot->entry->name_hash, slot->version);
		h->held++;
	}
}

void holding_drop(struct xds_holding *h, struct xds_slot *slot)
{
	holding_set_version(h, slot, XDS_VERSION_NONE);
	h->named -= slot->named;
	xds_entry_unref(slots_remove(&h->slots, slot));
}

struct xds_slot *holding_slot(struct xds_holding *h, struct str name)
{
	struct xds_entry *e = xds_scope_entry(h->scope, h->type, name);
	struct xds_slot *slot = slots_find(&h->slots, e);
	if (!slot)
		return slots_add(&h->slots, e);
	xds_entry_unref(e);
	return slot;
}

struct xds_slot *holding_peek(const struct xds_holding *h, struct str name)
{
	return slots_find(&h->slots, xds_scope_peek(h->scope, h->type, name));
}

/* ---- what follows from elsewhere */
static struct xds_slot *follows(const struct xds_holding *h, const struct xds_entry *cluster)
{
	struct xds_slot *slot = holding_peek(h, cluster->name);
	return slot && slot->version > XDS_VERSION_ABSENT ? slot : NULL;
}

void holding_follow(struct xds_holding **h, const struct xds_answer *clusters)
{
	struct xds_holding *from;
	bool any = false;
	for (size_t i = 0; *h && (*h)->held && !any && i < clusters->fresh.len; i++)
		any = follows(*h, clusters->fresh.items[i]) != NULL;
	if (!any)
		return;
	const struct holding_step *known = holding_find_step(&(*h)->steps, STEP_FOLLOW, clusters->serial);
	if (known) {
		holding_go(h, known->next);
		return;
	}
	struct xds_holding *n = holding_private(h, &from);
	for (size_t i = 0; i < clusters->fresh.len; i++) {
		struct xds_slot *slot = follows(n, clusters->fresh.items[i]);
		if (!slot)
			continue;
		holding_set_version(n, slot, XDS_VERSION_NONE);
		holding_mark(n, slot);
	}
	if (from)
		holding_remember(&from->steps, (struct holding_step){STEP_FOLLOW, clusters->serial, n, NULL, false});
}

static bool belongs(const struct xds_entry *host, const struct xds_answer *routes)
{
	for (size_t i = 0; i < routes->fresh.len; i++) {
		struct str rc = routes->fresh.items[i]->name;
		if (str_starts(host->name, rc) && host->name.len > rc.len && host->name.ptr[rc.len] == '/')
			return true;
	}
	return false;
}

void holding_follow_routes(struct xds_holding **h, const struct xds_answer *routes)
{
	struct xds_holding *from;
	if (!*h || !(*h)->held || !routes->fresh.len)
		return;
	const struct holding_step *known = holding_find_step(&(*h)->steps, STEP_FOLLOW, routes->serial);
	if (known) {
		holding_go(h, known->next);
		return;
	}
	struct xds_holding *n = holding_private(h, &from);
	for (struct xds_slot *i = NULL; (i = slots_next(&n->slots, i));) {
		if (!belongs(i->entry, routes))
			continue;
		holding_set_version(n, i, XDS_VERSION_NONE);
		holding_mark(n, i);
	}
	if (from)
		holding_remember(&from->steps, (struct holding_step){STEP_FOLLOW, routes->serial, n, NULL, false});
}

static void take_back(struct xds_holding *h, const xds_entry_list *list, uint64_t version)
{
	for (size_t i = 0; i < list->len; i++) {
		if (list->items[i]->scope != h->scope)
			continue;
		struct xds_slot *slot = holding_slot(h, list->items[i]->name);
		holding_set_version(h, slot, version);
		holding_mark(h, slot);
	}
}

void holding_take_back(struct xds_holding **h, const struct xds_answer *refused)
{
	struct xds_holding *from;
	if (!*h || (*h)->mode != XDS_DELTA)
		return;
	struct xds_holding *n = holding_private(h, &from);
	take_back(n, &refused->fresh, XDS_VERSION_NONE);
	take_back(n, &refused->absent, XDS_VERSION_ABSENT + 1); /* some version */
}

void holding_move(struct xds_holding **h, struct xds_scope *to)
{
	struct xds_holding *old = *h;
	if (!old || old->scope == to)
		return;
	uint64_t key = (uint64_t)(uintptr_t)to; /* a remembered step keeps it from being another's */
	const struct holding_step *known = holding_find_step(&old->steps, STEP_MOVE, key);
	if (known) {
		holding_go(h, known->next);
		return;
	}
	struct xds_holding *n = holding_new(to, old->type, old->mode);
	for (struct xds_slot *i = NULL; (i = slots_next(&old->slots, i));) {
		struct xds_slot *slot = slots_add(&n->slots, xds_scope_entry(to, old->type, i->entry->name));
		holding_set_version(n, slot, i->version);
		slot->named = i->named;
		slot->listed = i->listed;
		n->named += i->named;
		holding_mark(n, slot);
	}
	n->wildcard = n->names_dirty = old->wildcard;
	n->request = old->request;
	*h = n;
	if (old->users > 1)
		holding_remember(&old->steps, (struct holding_step){STEP_MOVE, key, n, NULL, false});
	holding_unref(old);
}

void holding_touch(struct xds_holding *h, struct xds_entry *const *changed, size_t n, bool names, uint64_t at_us)
{
	forget_made(h);
	h->depth = 0;
	for (size_t i = 0; i < n; i++) {
		struct xds_slot *slot = changed[i]->type == h->type ? slots_find(&h->slots, changed[i]) : NULL;
		if (slot)
			holding_mark(h, slot);
	}
	if (names && h->wildcard)
		h->names_dirty = true;
	if (holding_pending(h) && !h->changed_us)
		h->changed_us = at_us;
}
