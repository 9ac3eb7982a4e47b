/*
 * DOC: Taking over a model. Every scope marks what recorded a touched key, in its entries and in the holdings that its clients share. That
 * costs what the change concerns, not what the mesh holds: an unmarked resource is not looked at.
 * Which scope a proxy is in is such a question too: its keys are kept per session, and a session whose keys were touched asks again.
 */
#include "pilot/xds/engine.h"

#include <stdlib.h>

#include "pilot/xds/session.h"
#include "pilot/xds/watch.h"

#define UPDATES_KNOWN 64u

struct engine {
	const struct engine_source *source;
	struct model *model;
	struct xds_store *store;
	struct map *scopes; /* kind and key -> struct xds_scope */
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
	e->scopes = map_new();
	e->store = xds_store_new();
	return e;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	engine_tend(e, UINT64_MAX);
	assert(e->sessions.len == 0 && map_len(e->scopes) == 0);
	map_free(e->scopes);
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

/* A scope may end here: its last users can be holdings that were remembered only. */
static void touch_scopes(struct engine *e, const struct read_keys *touched, uint64_t at_us)
{
	VEC(struct xds_scope *) all = {0};
	struct str key;
	void *scope;
	for (size_t i = 0; map_next(e->scopes, &i, &key, &scope);) {
		xds_scope_ref(scope);
		vec_push(&all, (struct xds_scope *)scope);
	}
	for (size_t i = 0; i < all.len; i++)
		xds_scope_touch(all.items[i], touched, at_us);
	for (size_t i = 0; i < all.len; i++)
		xds_scope_unref(all.items[i]);
	vec_done(&all);
}

void engine_update(struct engine *e, struct model *m, const struct read_keys *touched, uint64_t at_us)
{
	struct model *old = e->model;
	e->model = model_ref(m);
	e->updates[e->n_updates % UPDATES_KNOWN].version = model_version(m);
	e->updates[e->n_updates++ % UPDATES_KNOWN].at_us = at_us;
	touch_scopes(e, old ? touched : NULL, at_us);
	for (size_t i = 0; i < e->sessions.len; i++)
		session_model_changed(e->sessions.items[i], old ? touched : NULL);
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

struct xds_scope *engine_scope(struct engine *e, const struct proxy *p, enum scope_kind kind, struct read_keys *reads)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
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
