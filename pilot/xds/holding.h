/*
 * What clients hold of one type out of one scope: a set of cache entries, each with the version that was last sent (slots.h). Clients that
 * were told the same share a holding. A holding that is shared is never changed: a *step* (a request, an answer, a removal) leads from it
 * to another one, and is remembered, so that the first client that takes a step pays for it and the others follow for nothing. So what
 * a connected proxy costs is its connection, and what a push costs is one computation and one write per proxy.
 *
 * When a model is taken over, the slots that may differ are marked in the holding, for all its clients at once, and what was remembered
 * is forgotten. NULL stands for the holding of nothing. Only the files of pilot/xds include this; owner thread: the worker's.
 */
#pragma once

#include "pilot/xds/cache.h"
#include "pilot/xds/request.h"
#include "pilot/xds/slots.h"

typedef VEC(struct xds_entry *) xds_entry_list; /* with a use each */

/* What an answer says, for one scope. Counted. */
struct xds_answer {
	unsigned refs;
	uint64_t serial;
	xds_entry_list fresh; /* the client did not have this version; by name */
	xds_entry_list absent; /* the client must be told that it is no more */
	VEC(struct buf_slice) slices; /* of the fresh ones; a reference each */
	size_t bytes;
};

enum step_kind { STEP_REQUEST, STEP_ANSWER, STEP_REMOVAL, STEP_FOLLOW, STEP_MOVE };

struct holding_step {
	enum step_kind kind;
	uint64_t key;
	struct xds_holding *next; /* one use */
	struct xds_answer *answer; /* one use, or NULL */
	bool asked; /* STEP_REQUEST: something must be answered */
};

struct xds_holding {
	unsigned users;
	struct xds_scope *scope;
	enum xds_type type;
	enum xds_mode mode;
	size_t place; /* in the scope's list */
	unsigned depth; /* remembered steps that led here since the last model */
	struct xds_slots slots;
	size_t named; /* slots with the bit */
	size_t held; /* slots with a version */
	uint64_t sum; /* of names and versions held: the version of a state of the world */
	uint64_t request; /* state of the world: the request whose names these are */
	bool wildcard, names_dirty;
	uint64_t names_generation;
	uint64_t changed_us; /* oldest change that is not in an answer; 0: none */
	xds_entry_list dirty; /* slots with the bit */
	xds_entry_list gone; /* CDS: removals that wait until nothing uses the clusters */
	struct xds_answer *whole; /* everything, for a state of the world; NULL: not made */
	xds_step_list steps;
};

static inline bool holding_pending(const struct xds_holding *h)
{
	return h && (h->dirty.len || h->names_dirty);
}

void entry_list_add(xds_entry_list *l, struct xds_entry *e); /* takes a use of its own */
void entry_list_clear(xds_entry_list *l);

struct xds_holding *holding_ref(struct xds_holding *h); /* NULL is fine, here and below */
void holding_unref(struct xds_holding *h);
void answer_unref(struct xds_answer *a);
void steps_forget(xds_step_list *steps);

/* A request's names of this scope. *asked: something in it must be answered, whatever the versions. */
struct holding_change {
	const struct xds_request *request;
	const struct request_part *part;
	bool first, wildcard, unstar;
	bool distrust; /* the client may have dropped what it says that it has */
	enum scope_kind kind;
};
void holding_request(
	struct xds_scope *s, enum xds_type t, struct xds_holding **h, const struct holding_change *c, bool *asked);
/* Compares with the model. The answer is one use; NULL: nothing is pending. */
struct xds_answer *holding_answer(struct xds_holding **h);
/* What the sum would be after an answer. */
uint64_t holding_full_sum(struct xds_holding *h);
struct xds_answer *holding_removal(struct xds_holding **h); /* of what waits in `gone`; NULL: nothing */
const struct xds_answer *holding_whole(struct xds_holding *h); /* borrowed */
/* Endpoints must follow clusters that were sent. */
void holding_follow(struct xds_holding **h, const struct xds_answer *clusters);
/* Virtual hosts must follow routes that were sent. */
void holding_follow_routes(struct xds_holding **h, const struct xds_answer *routes);
/* The client took nothing of an answer: all of it is to be said again. */
void holding_take_back(struct xds_holding **h, const struct xds_answer *refused);
/* The same names and versions out of another scope; all are looked at. */
void holding_move(struct xds_holding **h, struct xds_scope *to);

/* ---- for cache.c */
void holding_touch(struct xds_holding *h, struct xds_entry *const *changed, size_t n, bool names, uint64_t at_us);
