/*
 * DOC: Group testing of objects against a real client. CLEARING: everything unclear is hidden, and the client must accept that; if
 * it does not, the versions before are hidden too, and if that does not help, the objects are not the cause and all are shown
 * again. SHOWING: one span of them is shown; accepted, it is innocent; refused, it is halved, or, when it is one object, isolated. A new
 * model ends a trial, since what is refused then may be something new.
 */
#include "pilot/xds/trial.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "pilot/xds/watch.h"

METRIC(isolations, COUNTER, "pilot_xds_isolated_objects_total", "objects hidden from the proxy that refused them",
	"type");

LOG_SCOPE(ads_log, "ads", "xDS streams");

bool trial_hideable(const struct source_ref *s)
{
	static const uint32_t topics[] = {
		TOPIC_VIRTUAL_SERVICE, TOPIC_DESTINATION_RULE, TOPIC_GATEWAY, TOPIC_SIDECAR, TOPIC_MESH};

	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		if (topics[i] == s->topic)
			return true;
	return false;
}

/* ---- what is hidden */
static bool is_shown(const struct xds_trial *t, size_t i)
{
	return t->cleared[i] || (t->phase == TRIAL_SHOWING && i >= t->shown.from && i < t->shown.to);
}

/* The proxy gets the scopes of what is hidden from it now. */
static void apply(struct xds_session *s)
{
	struct xds_trial *t = &s->trial;
	struct arena *old = t->hidden;
	struct hidden *list;
	size_t n = 0;

	t->hidden = arena_new();
	list = ARENA_ARRAY(t->hidden, struct hidden, t->n + t->isolated.len + 1);
	for (size_t i = 0; i < t->isolated.len; i++)
		list[n++] = t->isolated.items[i].what;
	for (size_t i = 0; t->phase != TRIAL_IDLE && i < t->n; i++)
		if (!is_shown(t, i))
			list[n++] = (struct hidden){t->suspects[i].topic, arena_str(t->hidden, t->suspects[i].key),
				t->suspects[i].hash, t->absent};
	s->proxy->hidden = list;
	s->proxy->n_hidden = n;
	t->pushed = false;
	session_rescope(s);
	arena_free(old);
}

static void end(struct xds_session *s)
{
	struct xds_trial *t = &s->trial;

	t->phase = TRIAL_IDLE;
	apply(s);
	arena_free(t->arena);
	t->arena = NULL;
	t->n = t->n_waiting = 0;
}

static void give_up(struct xds_session *s)
{
	s->trial.gave_up = model_version(engine_model(s->engine));
	log_warn(&ads_log, "no object explains a refusal", KV("proxy", s->proxy->id),
		KV("type", xds_type_info(s->trial.type)->name), KV("error", s->trial.text));
	end(s);
}

/* ---- verdicts */
static void isolate(struct xds_session *s, size_t i)
{
	struct xds_trial *t = &s->trial;
	const struct source_ref *x = &t->suspects[i];
	struct xds_isolated one = {.key = xstrndup(x->key.ptr, x->key.len),
		.object = xstrdup(x->object),
		.origin = xstrdup(x->origin ? x->origin : ""),
		.text = xstrdup(t->text)};

	one.what = (struct hidden){x->topic, str_of(one.key), x->hash, t->absent};
	vec_push(&t->isolated, one);
	t->cleared[i] = true; /* it is in the other list now */
	metric_add(&isolations, 1, xds_type_info(t->type)->name);
	log_warn(&ads_log, "object isolated: the proxy refuses it", KV("object", one.object), KV("origin", one.origin),
		KV("proxy", s->proxy->id), KV("error", one.text));
	struct xds_nack n = {.type = t->type,
		.proxy = s->proxy,
		.text = str_of(one.text),
		.objects = x,
		.n_objects = 1,
		.isolated = true};
	if (s->ops->on_nack)
		s->ops->on_nack(s->ctx, &n);
}

static void wait_for(struct xds_trial *t, size_t from, size_t to)
{
	if (from < to && t->n_waiting < TRIAL_DEPTH)
		t->waiting[t->n_waiting++] = (struct trial_span){from, to};
}

/* What is refused as a whole: one object is the cause, of several each half is looked at. */
static void accuse(struct xds_session *s, struct trial_span g)
{
	size_t middle = g.from + (g.to - g.from) / 2;

	if (g.to - g.from == 1) {
		isolate(s, g.from);
		return;
	}
	wait_for(&s->trial, middle, g.to);
	wait_for(&s->trial, g.from, middle);
}

bool trial_takes(const struct xds_session *s, size_t n)
{
	const struct xds_trial *t = &s->trial;

	switch (t->phase) {
	case TRIAL_IDLE:
		return n && t->gave_up != model_version(engine_model(s->engine));
	case TRIAL_CLEARING:
		return !t->absent;
	case TRIAL_SHOWING:
		break;
	}
	return true;
}

void trial_refused(
	struct xds_session *s, struct xds_watch *w, const struct source_ref *suspects, size_t n, struct str text)
{
	struct xds_trial *t = &s->trial;

	switch (t->phase) {
	case TRIAL_IDLE:
		if (!trial_takes(s, n))
			return;
		t->phase = TRIAL_CLEARING;
		t->type = w->type;
		t->arena = arena_new();
		t->n = min_size(n, TRIAL_OBJECTS_MAX);
		t->absent = false;
		t->suspects = ARENA_ARRAY(t->arena, struct source_ref, t->n);
		t->cleared = ARENA_ARRAY(t->arena, bool, t->n);
		t->waiting = ARENA_ARRAY(t->arena, struct trial_span, TRIAL_DEPTH);
		for (size_t i = 0; i < t->n; i++) {
			t->suspects[i] = suspects[i];
			t->suspects[i].object = arena_strdup(t->arena, suspects[i].object);
			t->suspects[i].origin = arena_strdup(t->arena, suspects[i].origin);
			t->suspects[i].key = arena_str(t->arena, suspects[i].key);
		}
		t->text = arena_cstr(t->arena, text);
		t->shown = (struct trial_span){0, t->n};
		break;
	case TRIAL_CLEARING:
		if (!trial_takes(s, n)) {
			give_up(s);
			return;
		}
		t->absent = true;
		break;
	case TRIAL_SHOWING:
		t->phase = TRIAL_CLEARING;
		t->text = arena_cstr(t->arena, text);
		break;
	}
	apply(s);
}

/* ---- steps */
static bool quiet(const struct xds_session *s)
{
	for (unsigned i = 0; i < XDS_TYPE_COUNT; i++) {
		const struct xds_watch *w = &s->watches[i];

		if (w->open && (w->outstanding || watch_pending(w)))
			return false;
	}
	return true;
}

static void show_next(struct xds_session *s)
{
	struct xds_trial *t = &s->trial;

	if (!t->n_waiting) {
		end(s);
		return;
	}
	t->shown = t->waiting[--t->n_waiting];
	t->phase = TRIAL_SHOWING;
	apply(s);
}

bool trial_step(struct xds_session *s)
{
	struct xds_trial *t = &s->trial;

	if (t->phase == TRIAL_IDLE || !quiet(s))
		return false;
	if (t->phase == TRIAL_CLEARING && !t->pushed) {
		give_up(s); /* the objects are not in what was refused */
		return true;
	}
	if (t->phase == TRIAL_CLEARING)
		accuse(s, t->shown);
	else
		for (size_t i = t->shown.from; i < t->shown.to; i++)
			t->cleared[i] = true;
	show_next(s);
	return true;
}

static void isolated_done(struct xds_isolated *x)
{
	free(x->key);
	free(x->object);
	free(x->origin);
	free(x->text);
}

void trial_model_changed(struct xds_session *s)
{
	struct xds_trial *t = &s->trial;
	size_t n = 0;
	bool changed = t->phase != TRIAL_IDLE;

	for (size_t i = 0; i < t->isolated.len; i++) {
		if (model_has(engine_model(s->engine), &t->isolated.items[i].what)) {
			t->isolated.items[n++] = t->isolated.items[i];
			continue;
		}
		isolated_done(&t->isolated.items[i]);
		changed = true;
	}
	t->isolated.len = n;
	if (changed)
		end(s);
}

void trial_done(struct xds_trial *t)
{
	for (size_t i = 0; i < t->isolated.len; i++)
		isolated_done(&t->isolated.items[i]);
	vec_done(&t->isolated);
	arena_free(t->arena);
	arena_free(t->hidden);
}
