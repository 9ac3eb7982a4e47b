/*
 * What one client holds of one type: a set of cache entries, each with the version that was last sent. Sixteen bytes per resource,
 * because a proxy subscribes to thousands. A slot owns one use of its entry. Owner thread: the worker's.
 */
#pragma once

#include "common/base/util.h"
#include "pilot/xds/encode.h"

struct xds_entry;

struct xds_slot {
	struct xds_entry *entry; /* NULL: free */
	uint64_t version : XDS_VERSION_BITS; /* as sent; XDS_VERSION_NONE, XDS_VERSION_ABSENT */
	uint64_t named : 1; /* subscribed to by name */
	uint64_t listed : 1; /* part of the wildcard's set */
	uint64_t dirty : 1; /* stands in the watch's list of entries to look at */
	uint64_t seen : 1; /* scratch of the comparison of name lists */
};

struct xds_slots {
	struct xds_slot *items;
	size_t cap; /* a power of two, or 0 */
	size_t len;
};

struct xds_slot *slots_find(const struct xds_slots *s, const struct xds_entry *e); /* NULL: absent */
/* Takes over the caller's use of e; it must be absent. Pointers to slots are valid until the next change of the set. */
struct xds_slot *slots_add(struct xds_slots *s, struct xds_entry *e);
struct xds_entry *slots_remove(
	struct xds_slots *s, struct xds_slot *slot); /* the use of the entry goes to the caller */
void slots_done(struct xds_slots *s); /* ends the uses */
void slots_copy(struct xds_slots *to, const struct xds_slots *from); /* into an empty set, with uses of its own */
/* for (struct xds_slot *i = NULL; (i = slots_next(s, i));) — the set must not change meanwhile */
struct xds_slot *slots_next(const struct xds_slots *s, struct xds_slot *after);
