/*
 * Between holding.c (sharing, slots, remembered steps), holding_request.c and holding_answer.c only.
 *
 * A function that changes a holding takes it with holding_private(): the holding itself if nobody else has it, else a copy; then *from
 * is the one that the others still have, where the step that led away from it is remembered.
 */
#pragma once

#include "pilot/xds/engine.h"
#include "pilot/xds/holding.h"

void entry_list_sort(xds_entry_list *l); /* by name */

struct xds_answer *answer_new(void);
struct xds_answer *answer_ref(struct xds_answer *a);
void answer_add(struct xds_answer *a, enum xds_mode mode, const struct xds_resource *r);

struct xds_holding *holding_new(struct xds_scope *s, enum xds_type t, enum xds_mode mode);
struct xds_holding *holding_copy(const struct xds_holding *h);
struct xds_holding *holding_private(struct xds_holding **h, struct xds_holding **from);
const struct holding_step *holding_find_step(const xds_step_list *steps, enum step_kind kind, uint64_t key);
void holding_remember(xds_step_list *steps, struct holding_step step); /* takes uses of its own */
void holding_go(struct xds_holding **h, struct xds_holding *next);
uint64_t holding_mix(uint64_t a, uint64_t b);

void holding_mark(struct xds_holding *h, struct xds_slot *slot);
void holding_set_version(struct xds_holding *h, struct xds_slot *slot, uint64_t version);
void holding_drop(struct xds_holding *h, struct xds_slot *slot);
struct xds_slot *holding_slot(struct xds_holding *h, struct str name); /* made when absent */
struct xds_slot *holding_peek(const struct xds_holding *h, struct str name);

static inline bool slot_wanted(const struct xds_slot *slot)
{
	return slot->named || slot->listed;
}
