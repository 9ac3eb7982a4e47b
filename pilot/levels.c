/*
 * DOC: The levels of one worker's proxies (xds/level.c), put together on its thread: mostly they are all at the present model, so the list has
 * one item, and collecting it looks at each session once. What proxies refuse by themselves is counted per object.
 */
#include <stdlib.h>

#include "pilot/worker.h"
#include "pilot/xds/trial.h"

static int newest_first(const void *x, const void *y)
{
	const struct worker_level *a = x, *b = y;
	return a->version > b->version ? -1 : a->version < b->version;
}

/* Sorts and joins what is at the same version. */
static void join(struct worker_levels *l)
{
	size_t out = 0;
	if (l->n_levels > 1)
		qsort(l->levels, l->n_levels, sizeof(*l->levels), newest_first);
	for (size_t i = 0; i < l->n_levels; i++) {
		if (out && l->levels[out - 1].version == l->levels[i].version)
			l->levels[out - 1].proxies += l->levels[i].proxies;
		else
			l->levels[out++] = l->levels[i];
	}
	l->n_levels = out;
}

static void add_rejection(struct worker_levels *l, const struct xds_isolated *x)
{
	for (size_t i = 0; i < l->n_rejections; i++)
		if (l->rejections[i].topic == x->what.topic && str_eqc(l->rejections[i].key, x->key)) {
			l->rejections[i].proxies++;
			return;
		}
	if (l->n_rejections == WORKER_REJECTIONS_MAX)
		return;
	l->rejections[l->n_rejections++] = (struct worker_rejection){
		.topic = x->what.topic,
		.key = arena_str(l->arena, str_of(x->key)),
		.text = arena_str(l->arena, str_of(x->text)),
		.proxies = 1,
	};
}

static void add_session(struct worker_levels *l, struct xds_session *s)
{
	size_t n;
	const struct xds_isolated *isolated = session_isolated(s, &n);
	const char *refusal = session_refusal(s);
	uint64_t level = session_level(s);

	if (!session_proxy(s))
		return;
	for (size_t i = 0; i < n; i++)
		add_rejection(l, &isolated[i]);
	if (refusal && !l->refusal.len)
		l->refusal = arena_str(l->arena, str_of(refusal));
	if (!level)
		l->connecting++;
	else if (l->n_levels &&
		 l->levels[l->n_levels - 1].version == level) /* mostly they are all at the present model */
		l->levels[l->n_levels - 1].proxies++;
	else
		l->levels[l->n_levels++] = (struct worker_level){level, 1};
}

struct worker_levels *levels_collect(struct engine *e, unsigned index)
{
	struct arena *a = arena_new();
	struct worker_levels *l = ARENA_NEW(a, struct worker_levels);

	*l = (struct worker_levels){.arena = a, .index = index};
	l->levels = ARENA_ARRAY(a, struct worker_level, engine_sessions(e) + 1);
	l->rejections = ARENA_ARRAY(a, struct worker_rejection, WORKER_REJECTIONS_MAX);
	for (size_t i = 0; i < engine_sessions(e); i++)
		add_session(l, engine_session(e, i));
	join(l);
	return l;
}
