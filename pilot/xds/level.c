/*
 * DOC: How far a client is. Responses do not say which objects they carry, and need not: a client that has nothing outstanding and nothing
 * pending has accepted all of the present model; one that has is behind by the oldest change of it, and has all that came before.
 * So one number per client tells for every object whether the client has it, and costs nothing while configuration is pushed. It never
 * goes down: what a client once accepted it has, whatever it is asked later.
 */
#include "pilot/xds/watch.h"

/* Before this much of its configuration is accepted (or still held, when it comes back), a client serves nothing. */
static const enum xds_type first_types[] = {XDS_CDS, XDS_LDS};

static bool has_begun(const struct xds_session *s)
{
	for (size_t i = 0; i < ARRAY_LEN(first_types); i++) {
		const struct xds_watch *w = &s->watches[first_types[i]];
		if (!w->open || !*w->acked)
			return false;
	}
	return true;
}

static uint64_t before(const struct xds_session *s, const struct xds_watch *w, uint64_t changed_us)
{
	return changed_us ? engine_version_before(s->engine, changed_us) : w->acked_model;
}

static uint64_t watch_level(const struct xds_session *s, const struct xds_watch *w)
{
	uint64_t level = model_version(engine_model(s->engine));
	if (w->nack || w->answer)
		level = min_size(level, w->acked_model);
	if (w->outstanding)
		level = min_size(level, before(s, w, w->flight_us));
	if (watch_pending(w))
		level = min_size(level, before(s, w, watch_changed_us(w)));
	return level;
}

uint64_t session_level(struct xds_session *s)
{
	if (!s->proxy || !has_begun(s))
		return s->level;
	uint64_t level = model_version(engine_model(s->engine));
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		if (s->watches[t].open)
			level = min_size(level, watch_level(s, &s->watches[t]));
	if (level > s->level)
		s->level = level;
	return s->level;
}

const struct xds_isolated *session_isolated(const struct xds_session *s, size_t *n)
{
	*n = s->trial.isolated.len;
	return s->trial.isolated.items;
}

const char *session_refusal(const struct xds_session *s)
{
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		if (s->watches[t].nack)
			return s->watches[t].nack;
	return NULL;
}
