/*
 * DOC: Merging by key keeps the queue as small as the number of things that can be reported on, however long the
 * publisher is away.
 */
#include "common/bus/reports.h"

#include <stdlib.h>

#include "common/pb/pb.h"

struct report {
	struct bus_value *value;
	bool unsent;
};

void reports_init(struct reports *r)
{
	*r = (struct reports){.map = map_new()};
}

static void report_free(struct report *one)
{
	bus_value_unref(one->value);
	free(one);
}

void reports_done(struct reports *r)
{
	size_t cursor = 0;
	struct str id;
	void *one = NULL;
	while (r->map && map_next(r->map, &cursor, &id, &one))
		report_free(one);
	map_free(r->map);
	r->map = NULL;
}

static void drop_oldest(struct reports *r)
{
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	if (!map_next(r->map, &cursor, &id, &value))
		return;
	struct report *one = value;
	r->unsent -= one->unsent;
	r->dropped++;
	(void)map_del(r->map, id);
	report_free(one);
}

void reports_add(struct reports *r, const struct bus_change *c)
{
	struct bus_id id;
	const struct str name = bus_id(&id, c->topic, c->key);
	struct bus_change change = *c;
	if (change.value.ptr && change.hash == 0)
		change.hash = bus_hash(change.value);
	struct report *one = map_get(r->map, name);
	if (!one) {
		if (map_len(r->map) >= LIMIT_BUS_REPORT_KEYS)
			drop_oldest(r);
		one = xzalloc(sizeof(*one));
		(void)map_put(r->map, name, one);
	} else if (one->value->change.hash == change.hash && change.value.ptr) {
		return;
	}
	r->unsent += !one->unsent;
	one->unsent = true;
	bus_value_unref(one->value);
	one->value = bus_value_new(&change);
}

static void unsend_all(struct reports *r)
{
	size_t cursor = 0;
	struct str id;
	void *one = NULL;
	while (map_next(r->map, &cursor, &id, &one))
		((struct report *)one)->unsent = true;
	r->unsent = map_len(r->map);
}

/* The next changes to send, as many as fit one frame. */
static size_t collect(struct reports *r, struct bus_change *out, size_t max)
{
	size_t n = 0;
	size_t bytes = 0;
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (n < max && bytes < LIMIT_BUS_CHUNK_BYTES && map_next(r->map, &cursor, &id, &value)) {
		const struct report *one = value;
		if (!one->unsent)
			continue;
		out[n++] = one->value->change;
		bytes += wire_change_bytes(&one->value->change);
	}
	return n;
}

static void mark_sent(struct reports *r, const struct bus_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct bus_id id;
		const struct str name = bus_id(&id, changes[i].topic, changes[i].key);
		struct report *one = map_get(r->map, name);
		one->unsent = false;
		r->unsent--;
		if (one->value->change.value.ptr)
			continue;
		(void)map_del(r->map, name); /* told that it is gone: nothing to tell a later publisher */
		report_free(one);
	}
}

Bus__Frame *reports_frame(
	struct arena *a, const char *role, const char *instance, const struct bus_change *changes, size_t n)
{
	Bus__Frame *f = PB_NEW(a, Bus__Frame, bus__frame);
	f->report = PB_NEW(a, Bus__Report, bus__report);
	f->report->changes = wire_changes(a, changes, n);
	f->report->n_changes = n;
	f->report->instance = arena_strdup(a, instance);
	f->publisher = arena_strdup(a, role);
	f->body_case = BUS__FRAME__BODY_REPORT;
	return f;
}

void reports_flush(struct reports *r, uint64_t epoch, const char *role, const char *instance,
	bool (*send)(void *ctx, const Bus__Frame *f), void *ctx)
{
	if (epoch != r->epoch)
		unsend_all(r);
	r->epoch = epoch;
	while (r->unsent) {
		cleanup(arena_free_p) struct arena *a = arena_new();
		struct bus_change *changes = ARENA_ARRAY(a, struct bus_change, r->unsent);
		size_t n = collect(r, changes, r->unsent);
		if (!send(ctx, reports_frame(a, role, instance, changes, n)))
			return;
		mark_sent(r, changes, n);
	}
}
