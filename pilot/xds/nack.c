/*
 * DOC: Finding out why a client refused a response. Envoy's text names the resource more often than not ("Error adding/updating
 * cluster(s) outbound|80||x: ..."); when it does not, the resources that were new in the response are the suspects. Each is built once
 * more with a view that tells which configuration objects went into it; of these, the ones that changed since the client last
 * accepted the type are to blame, and if there are several, trial.c finds out which.
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "pilot/xds/watch.h"

#define NACK_RESOURCES_MAX 8
#define NACK_OBJECTS_MAX TRIAL_OBJECTS_MAX
#define NACK_TEXT_MAX 2048

LOG_SCOPE(ads_log, "ads", "xDS streams");

struct report {
	struct arena *arena;
	uint64_t accepted; /* version of the model */
	struct str resources[NACK_RESOURCES_MAX];
	struct source_ref *objects, *old; /* that changed since then, and that did not */
	size_t n_resources, n_objects, n_old;
};

static bool is_listed(const struct source_ref *list, size_t n, const struct source_ref *source)
{
	for (size_t i = 0; i < n; i++)
		if (streq(list[i].object, source->object))
			return true;
	return false;
}

static void on_source(void *ctx, const struct source_ref *source)
{
	struct report *r = ctx;
	bool new = source->since > r->accepted;
	struct source_ref *list = new ? r->objects : r->old;
	size_t *n = new ? &r->n_objects : &r->n_old;

	if (*n == NACK_OBJECTS_MAX || is_listed(list, *n, source))
		return;
	list[*n] = *source;
	list[*n].object = arena_strdup(r->arena, source->object ? source->object : "");
	list[*n].origin = arena_strdup(r->arena, source->origin ? source->origin : "");
	list[*n].key = arena_str(r->arena, source->key);
	(*n)++;
}

static void suspect(struct report *r, struct xds_entry *e)
{
	if (r->n_resources == NACK_RESOURCES_MAX)
		return;
	r->resources[r->n_resources++] = e->name;
	xds_entry_sources(e, on_source, r);
}

static bool mentions(struct str text, struct str name)
{
	return name.len && text.len && memmem(text.ptr, text.len, name.ptr, name.len);
}

/* Those that the text mentions; without a text the first ones. */
static void each_in_flight(const struct xds_watch *w, struct str text, struct report *r)
{
	for (size_t i = 0; i < w->in_flight.len; i++) {
		const struct xds_answer *a = w->in_flight.items[i];
		for (size_t j = 0; j < a->fresh.len; j++)
			if (!text.ptr || mentions(text, a->fresh.items[j]->name))
				suspect(r, a->fresh.items[j]);
	}
}

static struct str join(struct arena *a, const struct report *r)
{
	struct strbuf b = {0};
	for (size_t i = 0; i < r->n_objects; i++)
		strbuf_addf(&b, "%s%s%s%s%s", i ? ", " : "", r->objects[i].object, *r->objects[i].origin ? " (" : "",
			r->objects[i].origin, *r->objects[i].origin ? ")" : "");
	struct str out = arena_str(a, strbuf_str(&b));
	strbuf_done(&b);
	return out;
}

/* What is on trial is to blame for a refusal during the trial. */
static void take_shown(const struct xds_session *s, struct report *r)
{
	const struct xds_trial *t = &s->trial;

	if (t->phase != TRIAL_SHOWING)
		return;
	r->n_objects = 0;
	for (size_t i = t->shown.from; i < t->shown.to; i++)
		r->objects[r->n_objects++] = t->suspects[i];
}

static size_t hideable(const struct report *r, struct source_ref **out)
{
	size_t n = 0;

	*out = arena_array(r->arena, r->n_objects + 1, sizeof(**out));
	for (size_t i = 0; i < r->n_objects; i++)
		if (trial_hideable(&r->objects[i]))
			(*out)[n++] = r->objects[i];
	return n;
}

size_t nack_report(struct xds_session *s, struct xds_watch *w, struct str nonce, struct str text, struct arena *a,
	struct source_ref **suspects)
{
	struct report r = {.arena = a,
		.accepted = w->acked_model,
		.objects = arena_array(a, NACK_OBJECTS_MAX, sizeof(*r.objects)),
		.old = arena_array(a, NACK_OBJECTS_MAX, sizeof(*r.old))};

	text.len = min_size(text.len, NACK_TEXT_MAX);
	each_in_flight(w, text, &r);
	if (!r.n_resources)
		each_in_flight(w, (struct str){0}, &r);
	take_shown(s, &r);
	size_t n_suspects = hideable(&r, suspects);
	if (!r.n_objects) {
		r.objects = r.old;
		r.n_objects = r.n_old;
	}
	log_warn(&ads_log, "proxy refused a response", KV("type", xds_type_info(w->type)->name),
		KV("proxy", s->proxy->id), KV("nonce", nonce), KV("resource", r.n_resources ? r.resources[0] : STR("")),
		KV("objects", join(a, &r)), KV("error", text));
	struct xds_nack n = {.type = w->type,
		.proxy = s->proxy,
		.nonce = nonce,
		.text = text,
		.resources = r.resources,
		.n_resources = r.n_resources,
		.objects = r.objects,
		.n_objects = r.n_objects};
	if (s->ops->on_nack)
		s->ops->on_nack(s->ctx, &n);
	return n_suspects;
}
