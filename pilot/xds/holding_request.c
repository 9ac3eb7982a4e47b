/*
 * DOC: What requests do to holdings. Names are subscribed to, in the incremental protocol also unsubscribed from, and a client that comes
 * back says which versions it has. The names of "*" come later, from the model (holding_answer.c).
 */
#include <stdlib.h>

#include "pilot/xds/holding_int.h"

static void name_it(struct xds_holding *h, struct xds_slot *slot)
{
	if (slot->named)
		return;
	slot->named = 1;
	h->named++;
	holding_mark(h, slot);
}

static void unname(struct xds_holding *h, struct xds_slot *slot)
{
	h->named -= slot->named;
	slot->named = 0;
	if (!slot->listed)
		holding_drop(h, slot);
}

/* Dropping moves slots, so they are collected first. */
static void unname_unseen(struct xds_holding *h)
{
	xds_entry_list list = {0};
	for (struct xds_slot *i = NULL; (i = slots_next(&h->slots, i));)
		if (i->named && !i->seen)
			entry_list_add(&list, i->entry);
	for (size_t i = 0; i < list.len; i++)
		unname(h, slots_find(&h->slots, list.items[i]));
	entry_list_clear(&list);
}

static void set_wildcard(struct xds_holding *h, bool on)
{
	xds_entry_list list = {0};
	if (on == h->wildcard)
		return;
	h->wildcard = h->names_dirty = on;
	h->names_generation = 0;
	for (struct xds_slot *i = NULL; !on && (i = slots_next(&h->slots, i));) {
		i->listed = 0;
		if (!i->named)
			entry_list_add(&list, i->entry);
	}
	for (size_t i = 0; i < list.len; i++)
		holding_drop(h, slots_find(&h->slots, list.items[i]));
	entry_list_clear(&list);
}

/* The client holds something that we do not know: unlike NONE it is removed when it does not exist. */
#define VERSION_FOREIGN ((1ull << XDS_VERSION_BITS) - 1)

static void initial(struct xds_holding *h, const struct request_item *i, bool distrust)
{
	uint64_t version = distrust ? VERSION_FOREIGN : xds_version_parse(i->version);
	struct xds_slot *slot = h->wildcard ? holding_slot(h, i->name) : holding_peek(h, i->name);
	if (!slot || (!h->wildcard && !slot->named))
		return;
	holding_set_version(h, slot, version > XDS_VERSION_ABSENT ? version : VERSION_FOREIGN);
	holding_mark(h, slot);
}

static void unsubscribe(struct xds_holding *h, struct str name, bool *asked)
{
	struct xds_slot *slot = holding_peek(h, name);
	if (!slot || !slot->named)
		return;
	if (slot->listed) { /* still part of the wildcard: the client must hear that it keeps it */
		holding_set_version(h, slot, XDS_VERSION_NONE);
		holding_mark(h, slot);
		*asked = true;
	}
	unname(h, slot);
}

static void subscribe(struct xds_holding *h, struct str name, bool *asked)
{
	struct xds_slot *slot = holding_slot(h, name);
	bool was = slot->named;
	slot->seen = 1;
	name_it(h, slot);
	if (h->mode == XDS_DELTA) { /* a name that is subscribed to again is sent again */
		holding_set_version(h, slot, XDS_VERSION_NONE);
		holding_mark(h, slot);
	}
	*asked |= !was && slot->version <= XDS_VERSION_ABSENT;
}

static void do_item(struct xds_holding *h, const struct request_item *i, const struct holding_change *c, bool *asked)
{
	switch (i->what) {
	case REQUEST_NAME:
		subscribe(h, i->name, asked);
		return;
	case REQUEST_UNSUBSCRIBE:
		unsubscribe(h, i->name, asked);
		return;
	case REQUEST_INITIAL:
		initial(h, i, c->distrust);
		return;
	}
}

static void each(struct xds_holding *h, const struct holding_change *c, enum request_what what, bool *asked)
{
	struct request_item i;
	const struct translator *t = engine_source(h->scope->engine)->translators[h->type];
	if (c->part->n <= REQUEST_FEW) {
		for (size_t k = 0; k < c->part->n; k++)
			if (c->part->few[k].what == what)
				do_item(h, &c->part->few[k], c, asked);
		return;
	}
	for (size_t cursor = 0; request_next(c->request, &cursor, &i);)
		if (i.what == what && t->scope(i.name) == c->kind && !(str_eqc(i.name, "*") && what != REQUEST_INITIAL))
			do_item(h, &i, c, asked);
}

static void apply(struct xds_holding *h, const struct holding_change *c, bool *asked)
{
	if (h->mode == XDS_SOTW) {
		for (struct xds_slot *i = NULL; (i = slots_next(&h->slots, i));)
			i->seen = 0;
		each(h, c, REQUEST_NAME, asked);
		unname_unseen(h);
		set_wildcard(h, c->wildcard);
		return;
	}
	each(h, c, REQUEST_NAME, asked);
	set_wildcard(h, c->wildcard || (c->unstar && h->wildcard));
	if (c->first)
		each(h, c, REQUEST_INITIAL, asked);
	each(h, c, REQUEST_UNSUBSCRIBE, asked);
	set_wildcard(h, c->wildcard);
}

static bool nothing_new(const struct xds_holding *h, const struct holding_change *c, uint64_t key)
{
	if (!h)
		return !c->part->n && !c->wildcard;
	if (h->wildcard != c->wildcard)
		return false;
	return c->request->mode == XDS_SOTW ? h->request == key : !c->part->n;
}

void holding_request(
	struct xds_scope *s, enum xds_type t, struct xds_holding **h, const struct holding_change *c, bool *asked)
{
	enum xds_mode mode = c->request->mode;
	uint64_t key = holding_mix(
		c->part->hash, c->part->n * 16 + c->distrust * 8u + c->first * 4u + c->wildcard * 2u + c->unstar);
	xds_step_list *steps = *h ? &(*h)->steps : &s->firsts[mode][t];
	struct xds_holding *from = NULL;

	*asked = false;
	if (nothing_new(*h, c, key))
		return;
	const struct holding_step *known = holding_find_step(steps, STEP_REQUEST, key);
	if (known) {
		*asked = known->asked;
		holding_go(h, known->next);
		return;
	}
	bool keep = true;
	if (*h) {
		(void)holding_private(h, &from);
		keep = from != NULL;
	} else {
		*h = holding_new(s, t, mode);
		keep = s->scope->kind != SCOPE_OWN || s->sessions > 1;
	}
	apply(*h, c, asked);
	(*h)->request = key;
	if (keep)
		holding_remember(from ? &from->steps : &s->firsts[mode][t],
			(struct holding_step){STEP_REQUEST, key, *h, NULL, *asked});
}
