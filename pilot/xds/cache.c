/*
 * DOC: Building and keeping. The translator runs on a view of the scope that records each question; the keys go into the engine's
 * index. A touched key makes its dependents stale, nothing more: whoever needs one asks for it, and only the first who asks pays.
 * When the rebuilt content is the same, its version is the same, and no session sees a change.
 */
#include "pilot/xds/cache.h"

#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/metric.h"
#include "pilot/xds/engine.h"
#include "pilot/xds/holding.h"

METRIC(cache_builds, COUNTER, "pilot_xds_cache_builds", "resources translated and encoded", "type");
METRIC(cache_same, COUNTER, "pilot_xds_cache_unchanged", "resources translated again with the same content", "type");

static void read_keys_clear_p(struct read_keys *k)
{
	read_keys_done(k);
}

struct xds_scope *xds_scope_new(struct engine *e, struct arena *a, const struct scope *scope, struct str id)
{
	struct xds_scope *s = xzalloc(sizeof(*s));
	s->engine = e;
	s->arena = a;
	s->scope = scope;
	s->id = arena_str(a, id);
	s->users = 1;
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		s->entries[t] = map_new();
		s->names[t] = (struct xds_names){
			.reads.kind = DEP_NAMES, .scope = s, .type = (enum xds_type)t, .stale = true};
	}
	return s;
}

void xds_scope_ref(struct xds_scope *s)
{
	s->users++;
}

void xds_scope_join(struct xds_scope *s)
{
	s->users++;
	s->sessions++;
	if (!s->parked_us)
		return;
	s->parked_us = 0; /* its use is one of ours, the holdings stay until the next parking */
	s->users--;
}

static void replace_parked(struct xds_scope *s, struct xds_holding *const *held)
{
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		struct xds_holding *old = s->parked[t];
		s->parked[t] = held ? holding_ref(held[t]) : NULL;
		holding_unref(old);
	}
}

void xds_scope_leave(struct xds_scope *s, struct xds_holding *const *held, uint64_t now_us)
{
	assert(s->sessions > 0);
	if (--s->sessions) {
		xds_scope_unref(s);
		return;
	}
	replace_parked(s, held);
	s->parked_us = now_us ? now_us : 1;
}

void xds_scope_unpark(struct xds_scope *s)
{
	bool parked = s->parked_us != 0;
	xds_scope_ref(s);
	s->parked_us = 0;
	replace_parked(s, NULL);
	for (unsigned m = 0; m < XDS_MODE_COUNT; m++)
		for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
			steps_forget(&s->firsts[m][t]);
	if (parked)
		xds_scope_unref(s);
	xds_scope_unref(s);
}

void xds_scope_unref(struct xds_scope *s)
{
	assert(s->users > 0);
	if (--s->users)
		return;
	engine_forget_scope(s->engine, s);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		read_index_remove(engine_index(s->engine), &s->names[t].reads);
		arena_free(s->names[t].arena);
		map_free(s->entries[t]);
		vec_done(&s->holdings[t]);
	}
	vec_done(&s->changed);
	arena_free(s->arena);
	free(s);
}

void xds_cache_stale(struct read_dep *d)
{
	if (d->kind == DEP_ENTRY) {
		struct xds_entry *e = container_of(d, struct xds_entry, reads);
		engine_touched(e->scope->engine, e->scope);
		e->stale = true;
		xds_entry_ref(e);
		vec_push(&e->scope->changed, e);
	} else {
		struct xds_names *n = container_of(d, struct xds_names, reads);
		engine_touched(n->scope->engine, n->scope);
		n->stale = true;
		n->scope->names_changed[n->type] = true;
	}
}

static void touch_holdings(struct xds_scope *s, enum xds_type t, uint64_t at_us)
{
	VEC(struct xds_holding *) all = {0}; /* with a use each: what is forgotten takes others with it */
	for (size_t i = 0; i < s->holdings[t].len; i++)
		vec_push(&all, holding_ref(s->holdings[t].items[i]));
	for (size_t i = 0; i < all.len; i++)
		holding_touch(all.items[i], s->changed.items, s->changed.len, s->names_changed[t], at_us);
	for (size_t i = 0; i < all.len; i++)
		holding_unref(all.items[i]);
	vec_done(&all);
}

void xds_scope_touched(struct xds_scope *s, uint64_t at_us)
{
	bool any[XDS_TYPE_COUNT] = {0};

	for (size_t i = 0; i < s->changed.len; i++)
		any[s->changed.items[i]->type] = true;
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		if (any[t] || s->names_changed[t])
			touch_holdings(s, (enum xds_type)t, at_us);
	for (size_t i = 0; i < s->changed.len; i++)
		xds_entry_unref(s->changed.items[i]);
	vec_done(&s->changed);
	memset(s->names_changed, 0, sizeof(s->names_changed));
}

struct xds_entry *xds_scope_peek(const struct xds_scope *s, enum xds_type t, struct str name)
{
	return map_get(s->entries[t], name);
}

struct xds_entry *xds_scope_entry(struct xds_scope *s, enum xds_type t, struct str name)
{
	struct xds_entry *e = xds_scope_peek(s, t, name);
	if (e) {
		e->users++;
		return e;
	}
	e = xzalloc(sizeof(*e) + name.len + 1);
	char *copy = (char *)(e + 1);
	if (name.len)
		memcpy(copy, name.ptr, name.len);
	e->reads.kind = DEP_ENTRY;
	e->scope = s;
	e->type = t;
	e->stale = true;
	e->users = 1;
	e->name = str_n(copy, name.len);
	e->name_hash = hash64(name);
	(void)map_put(s->entries[t], e->name, e);
	xds_scope_ref(s);
	return e;
}

void xds_entry_ref(struct xds_entry *e)
{
	e->users++;
}

void xds_entry_unref(struct xds_entry *e)
{
	struct xds_scope *s = e->scope;
	assert(e->users > 0);
	if (--e->users)
		return;
	read_index_remove(engine_index(s->engine), &e->reads);
	(void)map_del(s->entries[e->type], e->name);
	xds_resource_unref(e->res);
	xds_resource_unref(e->last);
	free(e);
	xds_scope_unref(s);
}

static const struct translator *translator_of(const struct xds_scope *s, enum xds_type t)
{
	return engine_source(s->engine)->translators[t];
}

static struct xds_resource *build(struct xds_entry *e, struct read_keys *reads, struct arena *a)
{
	struct view v = {
		.model = engine_model(e->scope->engine), .scope = e->scope->scope, .reads = reads, .scratch = a};
	const ProtobufCMessage *m = translator_of(e->scope, e->type)->build(&v, e->name, a);
	metric_add(&cache_builds, 1, xds_type_info(e->type)->name);
	return m ? xds_encode(engine_store(e->scope->engine), e->type, e->name, m) : NULL;
}

/* Keeps the old resource when the content is the same: its buffers may be waiting in streams. */
static void entry_replace(struct xds_entry *e, struct xds_resource *new)
{
	if (new && e->res &&new->version == e->res->version) {
		metric_add(&cache_same, 1, xds_type_info(e->type)->name);
		xds_resource_unref(new);
		return;
	}
	if (new) {
		xds_resource_unref(e->last);
		e->last = NULL;
		xds_resource_unref(e->res);
	} else if (e->res) {
		xds_resource_unref(e->last);
		e->last = e->res;
	}
	e->res = new;
}

struct xds_resource *xds_entry_get(struct xds_entry *e)
{
	if (!e->stale)
		return e->res;
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(read_keys_clear_p) struct read_keys reads = {0};
	entry_replace(e, build(e, &reads, a));
	read_keys_seal(&reads);
	read_index_add(engine_index(e->scope->engine), &e->reads, &reads);
	e->stale = false;
	return e->res;
}

struct xds_resource *xds_entry_bytes(struct xds_entry *e)
{
	struct xds_resource *r = xds_entry_get(e);
	if (!r || r->home)
		return r;
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct xds_resource *again = build(e, NULL, a);
	assert(again && again->version == r->version); /* nothing that it is made from has changed */
	xds_resource_unref(r);
	return e->res = again;
}

void xds_entry_sources(struct xds_entry *e, void (*fn)(void *ctx, const struct source_ref *s), void *ctx)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct view v = {.model = engine_model(e->scope->engine),
		.scope = e->scope->scope,
		.scratch = a,
		.on_source = fn,
		.ctx = ctx};
	(void)translator_of(e->scope, e->type)->build(&v, e->name, a);
}

static bool names_equal(const struct xds_names *n, const struct str *items, size_t len)
{
	if (!n->generation || n->n != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!str_eq(n->items[i], items[i]))
			return false;
	}
	return true;
}

static void names_replace(struct xds_names *n, const struct str *items, size_t len)
{
	size_t bytes = (len + 1) * sizeof(*items);
	for (size_t i = 0; i < len; i++)
		bytes += items[i].len + 16;
	struct arena *a = arena_new_sized(bytes);
	n->n = len;
	n->items = ARENA_ARRAY(a, struct str, len);
	for (size_t i = 0; i < len; i++)
		n->items[i] = arena_str(a, items[i]);
	arena_free(n->arena);
	n->arena = a;
	n->generation++;
}

const struct xds_names *xds_scope_names(struct xds_scope *s, enum xds_type t)
{
	struct xds_names *n = &s->names[t];
	if (!n->stale)
		return n;
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(read_keys_clear_p) struct read_keys reads = {0};
	struct view v = {.model = engine_model(s->engine), .scope = s->scope, .reads = &reads, .scratch = a};
	struct str *items = NULL;
	size_t len = 0;

	translator_of(s, t)->names(&v, a, &items, &len);
	if (!names_equal(n, items, len))
		names_replace(n, items, len);
	read_keys_seal(&reads);
	read_index_add(engine_index(s->engine), &n->reads, &reads);
	n->stale = false;
	return n;
}

size_t xds_scope_bytes(const struct xds_scope *s)
{
	size_t bytes = sizeof(*s) + arena_bytes(s->arena);
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++) {
		bytes += read_dep_bytes(&s->names[t].reads) + (s->names[t].arena ? arena_bytes(s->names[t].arena) : 0);
		struct str key;
		void *value;
		for (size_t i = 0; map_next(s->entries[t], &i, &key, &value);) {
			const struct xds_entry *e = value;
			bytes += sizeof(*e) + read_dep_bytes(&e->reads) + 2 * (key.len + 1) +
				 (e->res ? xds_resource_bytes(e->res) : 0);
		}
	}
	return bytes;
}
