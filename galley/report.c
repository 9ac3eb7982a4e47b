#include "galley/pipeline.h"

#include <stdlib.h>

#include "common/pb/json.h"

/*
 * DOC: What galley says about its state: every diagnostic that holds now, and the debug pages. Two definitions of one object are
 * reported here and not when a file is read, because they lie in different files and either may change.
 */

static void copy_diag(struct diags *out, const struct diag *d)
{
	struct diag *n = diag_add(out, d->severity, d->rule, d->path, "%s", d->text);
	n->object = arena_strdup(out->arena, d->object);
	n->file = arena_strdup(out->arena, d->file);
	n->source = arena_strdup(out->arena, d->source);
	n->line = d->line;
	n->column = d->column;
}

static void duplicates(const struct slot *s, struct diags *out)
{
	const struct claim *first = s->claims.items;
	for (size_t i = 1; i < s->claims.len; i++) {
		const struct claim *c = &s->claims.items[i];
		struct diag *d = diag_add(out, DIAG_ERROR, "duplicate-object", "",
			"is already defined at %s:%u, which counts", first->unit->file, first->document->line);
		d->object = arena_strdup(out->arena, c->document->title);
		d->file = arena_strdup(out->arena, c->unit->file);
		d->line = c->document->line;
	}
}

static int by_str(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* The keys of values about which there is something to say, in order: mostly there is nothing. */
struct tellers {
	VEC(struct str) keys;
};

static void sort_tellers(struct tellers *t)
{
	if (t->keys.len > 1)
		qsort(t->keys.items, t->keys.len, sizeof(*t->keys.items), by_str);
}

void galley_diags(const struct galley *g, struct diags *out)
{
	struct tellers files = {0}, slots = {0};
	struct str key;
	void *value;
	for (size_t i = 0; map_next(g->store.remarked, &i, &key, &value);)
		vec_push(&files.keys, key);
	for (size_t i = 0; map_next(g->store.contested, &i, &key, &value);)
		vec_push(&slots.keys, key);
	sort_tellers(&files);
	sort_tellers(&slots);
	for (size_t i = 0; i < files.keys.len; i++) {
		const struct unit *u = map_get(g->store.units, files.keys.items[i]);
		for (size_t k = 0; k < u->diags.len; k++)
			copy_diag(out, &u->diags.items[k]);
	}
	for (size_t i = 0; i < slots.keys.len; i++)
		duplicates(map_get(g->store.slots, slots.keys.items[i]), out);
	vec_done(&files.keys);
	vec_done(&slots.keys);
}

struct galley_counts galley_counts(const struct galley *g)
{
	struct galley_counts n = {.files = map_len(g->store.units),
		.objects = g->store.good,
		.quarantined = g->store.quarantined,
		.foreign = g->store.foreign};
	struct str key;
	void *value;
	for (size_t i = 0; map_next(g->spaces, &i, &key, &value);) {
		const struct space *s = value;
		n.services += s->found.n;
		n.endpoints += s->endpoints;
	}
	return n;
}

/* ---- debug pages */

static void member(struct strbuf *out, const char *name, const char *value)
{
	strbuf_add_json(out, str_of(name));
	strbuf_addc(out, ':');
	strbuf_add_json(out, str_of(value ? value : ""));
}

static void separator(struct strbuf *out, bool *first)
{
	if (!*first)
		strbuf_addc(out, ',');
	*first = false;
}

void galley_diags_json(const struct diags *diags, struct strbuf *out)
{
	strbuf_addc(out, '[');
	for (size_t i = 0; i < diags->len; i++) {
		const struct diag *d = &diags->items[i];
		strbuf_adds(out, i ? ",{" : "{");
		member(out, "severity", diag_severity_name(d->severity));
		strbuf_addc(out, ',');
		member(out, "rule", d->rule);
		strbuf_addc(out, ',');
		member(out, "object", d->object);
		strbuf_addc(out, ',');
		member(out, "file", d->file);
		strbuf_addf(out, ",\"line\":%u,", d->line);
		member(out, "path", d->path);
		strbuf_addc(out, ',');
		member(out, "text", d->text);
		strbuf_addc(out, ',');
		member(out, "source", d->source);
		strbuf_addc(out, '}');
	}
	strbuf_addc(out, ']');
}

void galley_debug_diagnostics(const struct galley *g, struct strbuf *out)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags diags;
	diags_init(&diags, a);
	galley_diags(g, &diags);
	galley_diags_json(&diags, out);
}

static void slot_json(const struct slot *s, struct strbuf *out)
{
	const struct document *d = slot_winner(s);
	strbuf_addc(out, '{');
	member(out, "key", s->key);
	strbuf_addc(out, ',');
	member(out, "newest", d ? document_state_name(d->state) : "absent");
	if (d) {
		strbuf_addc(out, ',');
		member(out, "file", s->claims.items[0].unit->file);
		strbuf_addf(out, ",\"line\":%u,", d->line);
		member(out, "reason", d->reason);
	}
	strbuf_addf(out, ",\"definitions\":%zu,", s->claims.len);
	member(out, "in_force", s->good ? s->good->origin : "");
	strbuf_addc(out, '}');
}

static void slots_json(const struct galley *g, bool quarantined_only, struct strbuf *out)
{
	struct str *keys = map_keys_sorted(g->store.slots);
	bool first = true;
	strbuf_addc(out, '[');
	for (size_t i = 0; i < map_len(g->store.slots); i++) {
		const struct slot *s = map_get(g->store.slots, keys[i]);
		if (quarantined_only && !slot_quarantined(s))
			continue;
		separator(out, &first);
		slot_json(s, out);
	}
	strbuf_addc(out, ']');
	free(keys);
}

void galley_debug_objects(const struct galley *g, struct strbuf *out)
{
	slots_json(g, false, out);
}

void galley_debug_quarantine(const struct galley *g, struct strbuf *out)
{
	slots_json(g, true, out);
}

void galley_debug_foreign(const struct galley *g, struct strbuf *out)
{
	struct str *files = map_keys_sorted(g->store.units);
	bool first = true;
	strbuf_addc(out, '[');
	for (size_t i = 0; i < map_len(g->store.units); i++) {
		const struct unit *u = map_get(g->store.units, files[i]);
		for (size_t k = 0; k < u->documents.len; k++) {
			if (u->documents.items[k].state != DOCUMENT_FOREIGN)
				continue;
			separator(out, &first);
			strbuf_addc(out, '{');
			member(out, "kind", u->documents.items[k].title);
			strbuf_addc(out, ',');
			member(out, "file", u->file);
			strbuf_addf(out, ",\"line\":%u}", u->documents.items[k].line);
		}
	}
	strbuf_addc(out, ']');
	free(files);
}

void galley_debug_networks(const struct galley *g, struct strbuf *out)
{
	static const struct pb_encode_options plain = {0};
	strbuf_addc(out, '[');
	for (size_t i = 0; i < g->networks.list.n; i++) {
		strbuf_adds(out, i ? "," : "");
		pb_to_json(g->networks.list.items[i], &plain, out);
	}
	strbuf_addc(out, ']');
}

void galley_debug_services(const struct galley *g, struct strbuf *out)
{
	static const struct pb_encode_options plain = {0};
	struct str *names = map_keys_sorted(g->spaces);
	bool first = true;
	strbuf_addc(out, '[');
	for (size_t i = 0; i < map_len(g->spaces); i++) {
		const struct space *s = map_get(g->spaces, names[i]);
		for (size_t k = 0; k < s->found.n; k++) {
			separator(out, &first);
			strbuf_adds(out, "{\"service\":");
			pb_to_json(s->found.items[k].service, &plain, out);
			strbuf_adds(out, ",\"endpoints\":");
			pb_to_json(s->found.items[k].endpoints, &plain, out);
			strbuf_addc(out, '}');
		}
	}
	strbuf_addc(out, ']');
	free(names);
}
