/*
 * What the proxies of one scope (one class of equal proxies) share: per type the list of names and the encoded resources, each with
 * the reads it recorded. An entry is built when somebody asks for it and stays until a key that it read is touched or its last user
 * leaves; a scope stays until its last session and its last entry left. Owner thread: the worker's; there are no locks.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"
#include "pilot/translate/translate.h"
#include "pilot/xds/encode.h"
#include "pilot/xds/reads.h"

struct engine;
struct xds_scope;
struct xds_holding;
struct holding_step;
typedef VEC(struct holding_step) xds_step_list;

struct xds_entry {
	struct read_dep reads;
	struct xds_scope *scope;
	enum xds_type type;
	bool stale; /* must be built before it is used */
	unsigned users;
	uint64_t name_hash;
	struct xds_resource *res; /* NULL: does not exist */
	struct xds_resource *last; /* what it was before it ceased to exist, for removals that must wait */
	struct str name; /* NUL-terminated, in the same allocation */
};

struct xds_names {
	struct read_dep reads;
	struct xds_scope *scope;
	enum xds_type type;
	bool stale;
	uint64_t generation; /* grows when the list differs; 0: never made */
	struct arena *arena;
	struct str *items; /* sorted */
	size_t n;
};

struct xds_scope {
	struct engine *engine;
	const struct scope *scope; /* in the arena */
	struct arena *arena;
	struct str id; /* in the engine's table */
	unsigned users; /* sessions, entries, holdings */
	unsigned sessions;
	struct xds_names names[XDS_TYPE_COUNT];
	struct map *entries[XDS_TYPE_COUNT];
	VEC(struct xds_holding *) holdings[XDS_TYPE_COUNT]; /* that clients have; borrowed */
	xds_step_list firsts[XDS_MODE_COUNT][XDS_TYPE_COUNT]; /* from nothing: what proxies begin with */
	/* Since the last session left, so that proxies which come back soon find what they had. */
	struct xds_holding *parked[XDS_TYPE_COUNT];
	uint64_t parked_us; /* 0: it has sessions */
	/* While a model is being taken over: what holdings have to look at. */
	bool touched; /* in the engine's list */
	VEC(struct xds_entry *) changed;
	bool names_changed[XDS_TYPE_COUNT];
};

/* Takes the arena in which `scope` lives. One user. */
struct xds_scope *xds_scope_new(struct engine *e, struct arena *a, const struct scope *scope, struct str id);
void xds_scope_ref(struct xds_scope *s);
void xds_scope_join(struct xds_scope *s); /* a session, with one use */
/* held: what the session had, by type; the last one's is parked and the use with it. */
void xds_scope_leave(struct xds_scope *s, struct xds_holding *const *held, uint64_t now_us);
void xds_scope_unpark(struct xds_scope *s); /* the scope may end here */
void xds_scope_unref(struct xds_scope *s);
/* An entry or a list of names recorded a touched key; its scope is told to the engine. */
void xds_cache_stale(struct read_dep *d);
/* Marks in the holdings what may differ now. */
void xds_scope_touched(struct xds_scope *s, uint64_t at_us);
size_t xds_scope_bytes(const struct xds_scope *s);

/* One more user; made when absent. */
struct xds_entry *xds_scope_entry(struct xds_scope *s, enum xds_type t, struct str name);
struct xds_entry *xds_scope_peek(
	const struct xds_scope *s, enum xds_type t, struct str name); /* NULL: nobody uses it */
void xds_entry_ref(struct xds_entry *e);
void xds_entry_unref(struct xds_entry *e);
/* Built now when it is stale; NULL: there is no such resource. Borrowed until the next model. */
struct xds_resource *xds_entry_get(struct xds_entry *e);
/* The same, and its bytes are there: they are made once more if they were dropped. */
struct xds_resource *xds_entry_bytes(struct xds_entry *e);
/* The configuration objects that an entry's resource is made from. */
void xds_entry_sources(struct xds_entry *e, void (*fn)(void *ctx, const struct source_ref *s), void *ctx);
const struct xds_names *xds_scope_names(struct xds_scope *s, enum xds_type t);
