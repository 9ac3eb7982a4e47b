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
struct xds_session;
struct xds_scope;

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
	unsigned users; /* sessions and entries */
	struct read_index *index;
	struct xds_names names[XDS_TYPE_COUNT];
	struct map *entries[XDS_TYPE_COUNT];
	/* While a model is being taken over: what sessions have to look at. */
	VEC(struct xds_entry *) changed;
	bool names_changed[XDS_TYPE_COUNT];
};

/* Takes the arena in which `scope` lives. One user. */
struct xds_scope *xds_scope_new(struct engine *e, struct arena *a, const struct scope *scope, struct str id);
void xds_scope_ref(struct xds_scope *s);
void xds_scope_unref(struct xds_scope *s);
/* Marks what recorded a touched key (NULL: all) and fills `changed`, which holds a use of each entry. */
void xds_scope_touch(struct xds_scope *s, const struct read_keys *touched);
void xds_scope_touched_done(struct xds_scope *s);
size_t xds_scope_bytes(const struct xds_scope *s);

/* One more user; made when absent. */
struct xds_entry *xds_scope_entry(struct xds_scope *s, enum xds_type t, struct str name);
struct xds_entry *xds_scope_peek(
	const struct xds_scope *s, enum xds_type t, struct str name); /* NULL: nobody uses it */
void xds_entry_ref(struct xds_entry *e);
void xds_entry_unref(struct xds_entry *e);
/* Built now when it is stale; NULL: there is no such resource. Borrowed until the next model. */
struct xds_resource *xds_entry_get(struct xds_entry *e);
/* The configuration objects that an entry's resource is made from. */
void xds_entry_sources(struct xds_entry *e, void (*fn)(void *ctx, const struct source_ref *s), void *ctx);
const struct xds_names *xds_scope_names(struct xds_scope *s, enum xds_type t);
