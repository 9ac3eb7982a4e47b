#include "galley/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/limits.h"

/*
 * DOC: The store. A file replaces all that it defined before. When it no longer parses to its end, what it defined before and does not
 * define in the part that still parses is held: a document in state HELD keeps its claim, and so the last good object stays in force.
 * The first claim in order of file name and place in the file counts, so that the same directory always gives the same result.
 */

static void unit_free(struct unit *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->documents.len; i++)
		object_unref(u->documents.items[i].object);
	vec_done(&u->documents);
	arena_free(u->arena);
	free(u->file);
	free(u);
}

static void slot_free(struct slot *s)
{
	object_unref(s->good);
	vec_done(&s->claims);
	free(s->key);
	free(s);
}

void source_store_init(struct store *s)
{
	*s = (struct store){.units = map_new(),
		.ahead = map_new(),
		.slots = map_new(),
		.remarked = map_new(),
		.contested = map_new()};
}

void source_store_done(struct store *s)
{
	struct str key;
	void *value;
	for (size_t i = 0; map_next(s->slots, &i, &key, &value);)
		slot_free(value);
	for (size_t i = 0; map_next(s->units, &i, &key, &value);)
		unit_free(value);
	for (size_t i = 0; map_next(s->ahead, &i, &key, &value);)
		unit_free(value);
	map_free(s->slots);
	map_free(s->units);
	map_free(s->ahead);
	map_free(s->remarked);
	map_free(s->contested);
	vec_done(&s->touched);
}

const struct unit *source_store_unit(const struct store *s, struct str file)
{
	return map_get(s->units, file);
}

/* ---- claims */

static struct slot *slot_for(struct store *s, const struct document *d)
{
	struct str key = str_of(d->key);
	struct slot *slot = map_get(s->slots, key);
	if (!slot) {
		slot = xzalloc(sizeof(*slot));
		slot->key = xstrdup(d->key);
		slot->kind = d->kind;
		(void)map_put(s->slots, key, slot);
	}
	if (!slot->touched) {
		slot->touched = true;
		vec_push(&s->touched, slot);
	}
	return slot;
}

static bool claims_identity(const struct document *d)
{
	return d->state == DOCUMENT_OK || d->state == DOCUMENT_BAD || d->state == DOCUMENT_HELD;
}

static void drop_claims(struct store *s, const struct unit *u)
{
	for (size_t i = 0; i < u->documents.len; i++) {
		if (!claims_identity(&u->documents.items[i]))
			continue;
		struct slot *slot = slot_for(s, &u->documents.items[i]);
		size_t kept = 0;
		for (size_t k = 0; k < slot->claims.len; k++)
			if (slot->claims.items[k].unit != u)
				slot->claims.items[kept++] = slot->claims.items[k];
		slot->claims.len = kept;
	}
}

static int claim_order(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int c = strcmp(x->unit->file, y->unit->file);
	return c ? c : x->index < y->index ? -1 : x->index > y->index;
}

static void add_claims(struct store *s, const struct unit *u)
{
	for (size_t i = 0; i < u->documents.len; i++) {
		if (!claims_identity(&u->documents.items[i]))
			continue;
		struct slot *slot = slot_for(s, &u->documents.items[i]);
		struct claim claim = {u, &u->documents.items[i], i};
		vec_push(&slot->claims, claim);
		qsort(slot->claims.items, slot->claims.len, sizeof(claim), claim_order);
	}
}

/* ---- units */

/* What the file defined before it broke, and does not define in the part that parses, stays in force. */
static void hold(struct unit *u, const struct unit *before)
{
	cleanup(map_free_p) struct map *defined = map_new();
	for (size_t i = 0; i < u->documents.len; i++)
		if (claims_identity(&u->documents.items[i]))
			(void)map_put(defined, str_of(u->documents.items[i].key), u);
	for (size_t i = 0; i < before->documents.len; i++) {
		const struct document *d = &before->documents.items[i];
		if (!claims_identity(d) || map_get(defined, str_of(d->key)))
			continue;
		struct document held = {
			.state = DOCUMENT_HELD,
			.kind = d->kind,
			.key = arena_strdup(u->arena, d->key),
			.title = arena_strdup(u->arena, d->title),
			.line = d->line,
			.reason = "file-syntax",
		};
		vec_push(&u->documents, held);
	}
}

static struct unit *unit_parse(struct str file, struct str text, struct document_options o)
{
	struct unit *u = xzalloc(sizeof(*u));
	cleanup(arena_free_p) struct arena *tree = arena_new();
	struct documents documents = {0};
	u->file = xstrndup(file.ptr, file.len);
	u->arena = arena_new_sized(256);
	diags_init(&u->diags, u->arena);
	u->broken = !yaml_parse(tree, text, u->file, &documents, &u->diags) || u->diags.errors > 0;
	o.file = u->file;
	for (size_t i = 0; i < documents.len; i++) {
		struct document d;
		document_read(u->arena, documents.items[i], &o, &u->diags, &d);
		vec_push(&u->documents, d);
	}
	return u;
}

/* ---- ahead: reading a file touches nothing but its own unit, so files are read side by side (docs/decisions/reading-threads.md) */
#define AHEAD_MIN 64 /* files that are worth threads */
#define AHEAD_THREADS_MAX 8

struct reading_ahead {
	const struct source_text *files;
	size_t n;
	const struct document_options *options;
	struct unit **units;
	atomic_size_t next;
};

static void *read_ahead(void *ctx)
{
	struct reading_ahead *r = ctx;
	for (size_t i; (i = atomic_fetch_add(&r->next, 1)) < r->n;)
		r->units[i] = unit_parse(r->files[i].file, r->files[i].text, *r->options);
	return NULL;
}

void source_store_ahead(struct store *s, const struct source_text *files, size_t n, const struct document_options *o)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[AHEAD_THREADS_MAX];
	size_t started = 0, wanted = processors > 1 ? min_size((size_t)processors - 1, AHEAD_THREADS_MAX) : 0;
	if (n < AHEAD_MIN || !wanted)
		return;
	struct reading_ahead r = {.files = files, .n = n, .options = o};
	r.units = xzalloc(n * sizeof(struct unit *));
	while (started < wanted && pthread_create(&threads[started], NULL, read_ahead, &r) == 0)
		started++;
	(void)read_ahead(&r); /* also when no thread could be had */
	for (size_t i = 0; i < started; i++)
		(void)pthread_join(threads[i], NULL);
	for (size_t i = 0; i < n; i++)
		unit_free(map_put(s->ahead, files[i].file, r.units[i]));
	free(r.units);
}

static size_t foreign_documents(const struct unit *u)
{
	size_t n = 0;
	for (size_t i = 0; u && i < u->documents.len; i++)
		n += u->documents.items[i].state == DOCUMENT_FOREIGN;
	return n;
}

/* u takes the place of before; either may be NULL. */
static void count_unit(struct store *s, struct str file, struct unit *u, const struct unit *before)
{
	s->foreign += foreign_documents(u);
	s->foreign -= foreign_documents(before);
	if (u && u->diags.len)
		(void)map_put(s->remarked, file, u);
	else if (before && before->diags.len)
		(void)map_del(s->remarked, file);
}

void source_store_put(struct store *s, struct str file, struct str text, const struct document_options *o)
{
	struct unit *u = map_len(s->ahead) ? map_del(s->ahead, file) : NULL;
	if (!u)
		u = unit_parse(file, text, *o);
	struct unit *before = map_get(s->units, file);
	if (before) {
		if (u->broken)
			hold(u, before);
		drop_claims(s, before);
	}
	add_claims(s, u);
	count_unit(s, file, u, before);
	(void)map_put(s->units, file, u);
	unit_free(before);
}

void source_store_remove(struct store *s, struct str file)
{
	struct unit *u = map_del(s->units, file);
	if (u)
		drop_claims(s, u);
	count_unit(s, file, NULL, u);
	unit_free(u);
}

/* ---- what is in force */

const struct document *slot_winner(const struct slot *s)
{
	return s->claims.len ? s->claims.items[0].document : NULL;
}

bool slot_quarantined(const struct slot *s)
{
	const struct document *d = slot_winner(s);
	return d && d->state != DOCUMENT_OK;
}

static struct object *next_good(const struct slot *s)
{
	const struct document *d = slot_winner(s);
	if (!d)
		return NULL;
	return d->state == DOCUMENT_OK ? d->object : s->good;
}

static void count_slot(struct store *s, struct slot *slot)
{
	bool quarantined = slot_quarantined(slot);
	s->quarantined += quarantined;
	s->quarantined -= slot->quarantined;
	slot->quarantined = quarantined;
	if (slot->claims.len > 1)
		(void)map_put(s->contested, str_of(slot->key), slot);
	else
		(void)map_del(s->contested, str_of(slot->key));
}

void source_store_settle(
	struct store *s, void (*fn)(void *ctx, struct slot *slot, const struct object *before), void *ctx)
{
	for (size_t i = 0; i < s->touched.len; i++) {
		struct slot *slot = s->touched.items[i];
		struct object *before = slot->good, *after = next_good(slot);
		slot->touched = false;
		count_slot(s, slot);
		if (after == before)
			continue;
		slot->good = after ? object_ref(after) : NULL;
		s->good += after != NULL;
		s->good -= before != NULL;
		if (!before || !after || before->hash != after->hash)
			fn(ctx, slot, before);
		object_unref(before);
	}
	for (size_t i = 0; i < s->touched.len; i++) {
		struct slot *slot = s->touched.items[i];
		if (slot->claims.len || slot->good)
			continue;
		(void)map_del(s->slots, str_of(slot->key));
		slot_free(slot);
	}
	s->touched.len = 0;
}
