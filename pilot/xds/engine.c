/*
 * DOC: Taking over a model. What recorded a touched key is marked, in the entries and in the holdings that clients share. That costs what
 * the change concerns, not what the mesh holds: an unmarked resource or scope is not looked at.
 * Which scope a proxy is in is such a question too: a session whose keys were touched asks again. Most sessions ask the same, so that
 * their keys stand in the index once.
 */
#include "pilot/xds/engine.h"

#include <stdlib.h>

#include "common/base/hash.h"
#include "pilot/xds/session.h"
#include "pilot/xds/watch.h"

#define UPDATES_KNOWN 64u
#define SCOPE_BYTES 768u /* what most scopes take */

struct engine {
	const struct engine_source *source;
	struct model *model;
	struct xds_store *store;
	struct read_index *index;
	struct map *scopes; /* kind and key -> struct xds_scope */
	struct map *reads; /* id -> struct scope_reads that are not stale */
	VEC(struct xds_scope *) touched; /* while a model is being taken over; a use each */
	bool scopes_touched; /* some scope_reads became stale */
	VEC(struct xds_session *) sessions;
	struct {
		uint64_t version, at_us;
	} updates[UPDATES_KNOWN]; /* a ring of the last ones */
	size_t n_updates;
};

struct engine *engine_new(const struct engine_source *source)
{
	struct engine *e = xzalloc(sizeof(*e));
	e->source = source;
	e->index = read_index_new();
	e->scopes = map_new();
	e->reads = map_new();
	e->store = xds_store_new();
	return e;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	engine_tend(e, UINT64_MAX);
	assert(e->sessions.len == 0 && map_len(e->scopes) == 0 && map_len(e->reads) == 0);
	map_free(e->scopes);
	map_free(e->reads);
	read_index_free(e->index);
	vec_done(&e->touched);
	xds_store_free(e->store);
	vec_done(&e->sessions);
	if (e->model)
		model_unref(e->model);
	free(e);
}

void engine_tend(struct engine *e, uint64_t now_us)
{
	VEC(struct xds_scope *) old = {0};
	struct str key;
	void *value;
	for (size_t i = 0; map_next(e->scopes, &i, &key, &value);) {
		struct xds_scope *s = value;
		if (s->parked_us && now_us - s->parked_us >= ENGINE_PARK_US)
			vec_push(&old, s);
	}
	for (size_t i = 0; i < old.len; i++)
		xds_scope_unpark(old.items[i]);
	vec_done(&old);
}

bool engine_has_content(const struct engine *e)
{
	return e->model != NULL;
}

const struct model *engine_model(const struct engine *e)
{
	return e->model;
}

struct xds_store *engine_store(const struct engine *e)
{
	return e->store;
}

const struct engine_source *engine_source(const struct engine *e)
{
	return e->source;
}

struct read_index *engine_index(const struct engine *e)
{
	return e->index;
}

/* ---- who asked what about scopes */
static struct str reads_id(const uint64_t *id)
{
	return str_n((const char *)id, sizeof(*id));
}

/* The next id when two different sets have the same. */
static struct scope_reads *find_reads(const struct engine *e, const struct read_keys *keys, uint64_t *id)
{
	struct scope_reads *r;
	*id = hash64(str_n((const char *)keys->items, keys->len * sizeof(*keys->items)));
	while ((r = map_get(e->reads, reads_id(id))) && !read_dep_is(&r->dep, keys))
		++*id;
	return r;
}

/* Sealed; one use. */
static struct scope_reads *engine_reads(struct engine *e, const struct read_keys *keys)
{
	uint64_t id;
	struct scope_reads *r = find_reads(e, keys, &id);
	if (!r) {
		r = xzalloc(sizeof(*r));
		r->dep.kind = DEP_SCOPE;
		r->id = id;
		read_index_add(e->index, &r->dep, keys);
		(void)map_put(e->reads, reads_id(&r->id), r);
	}
	r->users++;
	return r;
}

static void forget_reads(struct engine *e, struct scope_reads *r)
{
	if (map_get(e->reads, reads_id(&r->id)) == r)
		(void)map_del(e->reads, reads_id(&r->id));
}

void engine_reads_unref(struct engine *e, struct scope_reads *r)
{
	if (!r || --r->users)
		return;
	forget_reads(e, r);
	read_index_remove(e->index, &r->dep);
	free(r);
}

/* ---- a new model */
void engine_touched(struct engine *e, struct xds_scope *s)
{
	if (s->touched)
		return;
	s->touched = true;
	xds_scope_ref(s);
	vec_push(&e->touched, s);
}

static void on_stale(void *ctx, struct read_dep *d)
{
	struct engine *e = ctx;
	if (d->kind != DEP_SCOPE) {
		xds_cache_stale(d);
		return;
	}
	struct scope_reads *r = container_of(d, struct scope_reads, dep);
	r->stale = e->scopes_touched = true;
	forget_reads(e, r);
}

/* A scope may end here: its last users can be holdings that were remembered only. */
static void touch_scopes(struct engine *e, uint64_t at_us)
{
	for (size_t i = 0; i < e->touched.len; i++)
		xds_scope_touched(e->touched.items[i], at_us);
	for (size_t i = 0; i < e->touched.len; i++) {
		e->touched.items[i]->touched = false;
		xds_scope_unref(e->touched.items[i]);
	}
	vec_done(&e->touched);
}

void engine_update(struct engine *e, struct model *m, const struct read_keys *touched, uint64_t at_us)
{
	struct model *old = e->model;
	e->model = model_ref(m);
	e->updates[e->n_updates % UPDATES_KNOWN].version = model_version(m);
	e->updates[e->n_updates++ % UPDATES_KNOWN].at_us = at_us;
	e->scopes_touched = !old;
	read_index_touch(e->index, old ? touched : NULL, on_stale, e);
	touch_scopes(e, at_us);
	for (size_t i = 0; i < e->sessions.len; i++)
		session_model_changed(e->sessions.items[i], e->scopes_touched);
	if (old)
		model_unref(old);
}

uint64_t engine_version_before(const struct engine *e, uint64_t at_us)
{
	size_t known = min_size(e->n_updates, UPDATES_KNOWN);
	for (size_t i = 1; i <= known; i++)
		if (e->updates[(e->n_updates - i) % UPDATES_KNOWN].at_us < at_us)
			return e->updates[(e->n_updates - i) % UPDATES_KNOWN].version;
	return 0;
}

void engine_join(struct engine *e, struct xds_session *s)
{
	s->place = e->sessions.len;
	vec_push(&e->sessions, s);
}

void engine_leave(struct engine *e, struct xds_session *s)
{
	struct xds_session *last = e->sessions.items[--e->sessions.len];
	e->sessions.items[s->place] = last;
	last->place = s->place;
}

size_t engine_sessions(const struct engine *e)
{
	return e->sessions.len;
}

struct xds_session *engine_session(const struct engine *e, size_t i)
{
	return e->sessions.items[i];
}

static struct str scope_id(struct arena *a, const struct scope *scope)
{
	char *id = arena_printf(a, "%u/" STR_FMT, (unsigned)scope->kind, STR_ARG(scope->key));
	return str_of(id);
}

static struct xds_scope *scope_for(
	struct engine *e, const struct proxy *p, enum scope_kind kind, struct read_keys *reads)
{
	cleanup(arena_free_p) struct arena *a = arena_new_sized(SCOPE_BYTES);
	const struct scope *scope = e->source->scope_of(a, e->model, p, kind, reads);
	struct str id = scope_id(a, scope);
	struct xds_scope *s = map_get(e->scopes, id);

	if (s) {
		xds_scope_join(s);
		return s;
	}
	s = xds_scope_new(e, take(a), scope, id);
	(void)map_put(e->scopes, s->id, s);
	xds_scope_join(s);
	xds_scope_unref(s);
	return s;
}

struct xds_scope *engine_scope(
	struct engine *e, const struct proxy *p, enum scope_kind kind, struct scope_reads **reads)
{
	struct read_keys keys = {0};
	struct xds_scope *s = scope_for(e, p, kind, &keys);

	read_keys_seal(&keys);
	*reads = engine_reads(e, &keys);
	read_keys_done(&keys);
	return s;
}

void engine_forget_scope(struct engine *e, struct xds_scope *s)
{
	(void)map_del(e->scopes, s->id);
}

static void debug_scope(const struct xds_scope *s, struct strbuf *json)
{
	strbuf_adds(json, "{\"key\":");
	strbuf_add_json(json, s->scope->key);
	strbuf_addf(json, ",\"kind\":\"%s\",\"users\":%u,\"bytes\":%zu,\"resources\":{",
		scope_kind_name(s->scope->kind), s->users, xds_scope_bytes(s));
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		strbuf_addf(json, "%s\"%s\":%zu", t ? "," : "", xds_type_info((enum xds_type)t)->name,
			map_len(s->entries[t]));
	strbuf_adds(json, "}}");
}

void engine_debug(const struct engine *e, struct strbuf *json)
{
	struct str key;
	void *scope;
	bool first = true;

	strbuf_addf(json, "{\"model\":%llu,\"sessions\":%zu,\"scopes\":[",
		e->model ? (unsigned long long)model_version(e->model) : 0, e->sessions.len);
	for (size_t i = 0; map_next(e->scopes, &i, &key, &scope); first = false) {
		if (!first)
			strbuf_addc(json, ',');
		debug_scope(scope, json);
	}
	strbuf_adds(json, "]}");
}
