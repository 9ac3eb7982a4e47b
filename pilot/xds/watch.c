/*
 * DOC: A watch joins the holdings of the scopes of its proxy: sums, counts and pending changes are those of all. Requests are taken
 * apart by scope here, so that what a thousand proxies have in common is found equal, whatever each has of its own.
 */
#include "pilot/xds/watch.h"

#include <stdlib.h>

bool watch_pending(const struct xds_watch *w)
{
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		if (holding_pending(w->held[k]))
			return true;
	return false;
}

bool watch_gone(const struct xds_watch *w)
{
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		if (w->held[k] && w->held[k]->gone.len)
			return true;
	return false;
}

uint64_t watch_sum(const struct xds_watch *w)
{
	uint64_t sum = 0;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		sum += w->held[k] ? w->held[k]->sum : 0;
	return sum;
}

size_t watch_len(const struct xds_watch *w, size_t *named)
{
	size_t len = 0;
	*named = 0;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		len += w->held[k] ? w->held[k]->slots.len : 0;
		*named += w->held[k] ? w->held[k]->named : 0;
	}
	return len;
}

uint64_t watch_changed_us(const struct xds_watch *w)
{
	uint64_t oldest = 0;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		uint64_t at = w->held[k] ? w->held[k]->changed_us : 0;
		if (at && (!oldest || at < oldest))
			oldest = at;
	}
	return oldest;
}

void watch_answered(struct xds_watch *w)
{
	w->outstanding = false;
	w->flight_us = 0;
	for (size_t i = 0; i < w->in_flight.len; i++)
		answer_unref(w->in_flight.items[i]);
	vec_done(&w->in_flight);
}

void watch_take_back(struct xds_watch *w)
{
	for (size_t i = 0; i < w->in_flight.len; i++)
		for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
			holding_take_back(&w->held[k], w->in_flight.items[i]);
}

void watch_done(struct xds_watch *w)
{
	watch_answered(w);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		holding_unref(w->held[k]);
	free(w->nack);
	*w = (struct xds_watch){.type = w->type};
}

static void set_flags(struct xds_watch *w, const struct xds_request *r, bool star, bool unstar, bool first)
{
	bool may = xds_type_info(w->type)->wildcard;
	star &= may;
	if (r->mode == XDS_SOTW) {
		if (r->n_names)
			w->legacy = false;
		else if (first)
			w->legacy = may;
		bool all = star || w->legacy;
		w->answer |= all && !w->wildcard;
		w->wildcard = all;
		return;
	}
	w->answer |= r->n_names > 0;
	if (star) {
		w->wildcard = true;
		w->legacy = false;
	}
	if (first && !r->n_names && may)
		w->legacy = w->answer = w->wildcard = true;
	if (unstar)
		w->wildcard = false;
}

static bool watch_holds_all_named(const struct xds_watch *w)
{
	size_t named = 0, held = 0;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		named += w->held[k] ? w->held[k]->named : 0;
		held += w->held[k] ? w->held[k]->held : 0;
	}
	return held == named;
}

void watch_request(struct xds_session *s, struct xds_watch *w, const struct xds_request *r, bool first)
{
	struct request_part parts[SCOPE_KIND_COUNT];
	bool star, unstar;

	request_parts(r, engine_source(s->engine)->translators[w->type], parts, &star, &unstar);
	set_flags(w, r, star, unstar, first);
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++) {
		const struct holding_change c = {.request = r,
			.part = &parts[k],
			.first = first,
			.wildcard = w->wildcard,
			.unstar = unstar,
			.distrust = w->type == XDS_VHDS && !s->watches[XDS_RDS].resumed,
			.kind = (enum scope_kind)k};
		bool asked;
		holding_request(s->scope[k], w->type, &w->held[k], &c, &asked);
		w->answer |= asked;
	}
	if (first)
		w->resumed = r->n_initial && watch_holds_all_named(w);
}

void watch_follow_clusters(struct xds_session *s)
{
	struct xds_watch *eds = &s->watches[XDS_EDS];
	const struct xds_watch *cds = &s->watches[XDS_CDS];
	for (size_t i = 0; eds->open && i < cds->in_flight.len; i++)
		for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
			holding_follow(&eds->held[k], cds->in_flight.items[i]);
}

void watch_follow_routes(struct xds_session *s)
{
	struct xds_watch *vhds = &s->watches[XDS_VHDS];
	const struct xds_watch *rds = &s->watches[XDS_RDS];
	for (size_t i = 0; vhds->open && i < rds->in_flight.len; i++)
		holding_follow_routes(&vhds->held[SCOPE_SHARED], rds->in_flight.items[i]);
}

bool watch_has_all_routes(struct xds_session *s)
{
	const struct xds_holding *h = s->watches[XDS_RDS].held[SCOPE_SHARED];
	const struct xds_names *names = xds_scope_names(s->scope[SCOPE_SHARED], XDS_RDS);
	return h && h->held >= names->n;
}
