/*
 * DOC: One record per object: what the server has of ours (as a hash, and the conditions for their times), what it should have, when it may be
 * written next. A record that differs is queued once; the timer takes from the queue, STATUS_WRITES_PER_S at most. Our own write comes back
 * through the watch like everybody's, and says that nothing differs any more; if it still does (a server that drops fields, a rival), the record
 * waits twice as long each time. So nothing that others do can make this write in a loop.
 */
#include "galley/status/writer.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/vec.h"

#define TICK_MS (1000u / STATUS_WRITES_PER_S)
#define BACKOFF_FIRST_MS 1000u
#define BACKOFF_MAX_MS 300000u

METRIC(writes, COUNTER, "galley_status_writes_total", "writes of objects' statuses to the API server", "result");
METRIC(queued_gauge, GAUGE, "galley_status_queued", "objects whose status is to be written");

LOG_SCOPE(status_log, "status", "statuses of objects in the cluster");

struct record {
	struct status_writer *owner;
	char *key;
	int64_t generation;
	uint64_t content; /* hash of all but status and bookkeeping */
	json_t *own, *foreign; /* what the server has: ours, conditions of others; NULL: nothing */
	json_t *wanted; /* NULL: not known yet */
	struct status_hash own_hash, wanted_hash; /* of these, where they are there */
	const struct kind *kind;
	bool queued, writing, gone;
	unsigned attempts; /* of the same want */
	uint64_t next_ms, written_ms;
};

struct status_writer {
	struct kube *api;
	uint64_t counts_ms;
	bool (*may)(void *ctx);
	void *ctx;
	struct map *records;
	VEC(struct record *) queue;
	VEC(struct record *) leaving; /* gone while they were written */
	struct timer *timer;
	size_t in_flight;
	uint64_t written, failed, pause_until_ms;
	unsigned failures; /* of the server, in a row */
	char error[200];
};

/* ---- records */

static void record_free(struct record *r)
{
	json_decref(r->own);
	json_decref(r->foreign);
	json_decref(r->wanted);
	free(r->key);
	free(r);
}

static struct record *record_of(struct status_writer *w, const char *key)
{
	struct record *r = map_get(w->records, str_of(key));
	if (!r) {
		r = xzalloc(sizeof(*r));
		r->owner = w;
		r->key = xstrdup(key);
		(void)map_put(w->records, str_of(key), r);
	}
	return r;
}

static uint64_t content_hash(json_t *object)
{
	json_t *meta = json_object_get(object, "metadata");
	(void)json_object_del(object, "status");
	(void)json_object_del(meta, "resourceVersion");
	(void)json_object_del(meta, "managedFields");
	(void)json_object_del(meta, "generation");
	char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	uint64_t h = hash64(str_of(text ? text : ""));
	free(text);
	return h;
}

/* ---- the queue */

static bool differs(const struct record *r)
{
	return r->wanted && (!r->own || r->own_hash.all != r->wanted_hash.all);
}

static void set_queued(struct status_writer *w)
{
	metric_set(&queued_gauge, (double)w->queue.len);
	if (w->queue.len && !timer_active(w->timer))
		timer_start(w->timer, TICK_MS, 0);
}

static void consider(struct status_writer *w, struct record *r)
{
	if (r->queued || r->writing || r->gone || !differs(r))
		return;
	r->queued = true;
	vec_push(&w->queue, r);
	set_queued(w);
}

/* When only a count differs it has time. */
static uint64_t due_ms(const struct status_writer *w, const struct record *r)
{
	uint64_t lazy = r->own && r->written_ms && r->own_hash.urgent == r->wanted_hash.urgent
				? r->written_ms + w->counts_ms
				: 0;
	return lazy > r->next_ms ? lazy : r->next_ms;
}

static void put_off(struct record *r, uint64_t now)
{
	r->attempts++;
	r->next_ms = now + random_backoff(r->attempts, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 0.2);
}

static void leave(struct status_writer *w, struct record *r)
{
	for (size_t i = 0; i < w->leaving.len; i++)
		if (w->leaving.items[i] == r)
			w->leaving.items[i] = w->leaving.items[--w->leaving.len];
	record_free(r);
}

static void on_done(void *ctx, int status, struct str text)
{
	struct record *r = ctx;
	struct status_writer *w = r->owner;
	uint64_t now = clock_mono_ms();
	bool ok = status >= 200 && status < 300;
	w->in_flight--;
	r->writing = false;
	metric_add(&writes, 1, ok ? "ok" : "failed");
	put_off(r, now); /* until something else is wanted: should this not stay, it is not written again at once */
	if (ok) {
		w->written++;
		w->failures = 0;
		r->written_ms = now;
	} else {
		w->failed++;
		(void)snprintf(
			w->error, sizeof(w->error), "%.60s: %d %.100s", r->key, status, text.ptr ? text.ptr : "");
		log_warn(&status_log, "a status is not written", KV("object", (const char *)r->key),
			KV("status", status), KV("error", text));
		if (status == 0 || status == 429 || status >= 500)
			w->pause_until_ms = now +
					    random_backoff(++w->failures, BACKOFF_FIRST_MS, BACKOFF_MAX_MS / 10, 0.2);
	}
	if (r->gone)
		leave(w, r);
	else
		consider(w, r);
}

static void send(struct status_writer *w, struct record *r)
{
	struct str kind, rest, ns, name, version, versions = str_of(r->kind->versions);
	char now[32];
	clock_format(clock_wall_ms(), now);
	(void)str_cut(str_of(r->key), '/', &kind, &rest);
	(void)str_cut(rest, '/', &ns, &name);
	(void)str_split(&versions, ',', &version);
	json_t *body = json_pack("{s:o, s:s, s:{s:s%, s:s%}, s:o}", "apiVersion",
		json_sprintf("%s/" STR_FMT, r->kind->group, STR_ARG(version)), "kind", r->kind->name, "metadata",
		"name", name.ptr, name.len, "namespace", ns.ptr, ns.len, "status",
		status_complete(r->wanted, r->own, r->foreign, now));
	char *text = json_dumps(body, JSON_COMPACT);
	char *path cleanup(free_p) = xasprintf("/apis/%s/" STR_FMT "/namespaces/" STR_FMT "/%s/" STR_FMT
					       "/status?fieldManager=fairlead-status&force=true",
		r->kind->group, STR_ARG(version), STR_ARG(ns), r->kind->plural, STR_ARG(name));
	const struct kube_request q = {
		.method = "PATCH", .path = path, .content_type = "application/apply-patch+yaml", .body = str_of(text)};
	r->writing = true;
	w->in_flight++;
	kube_send(w->api, &q, on_done, r);
	free(text);
	json_decref(body);
}

/* One write a tick, the first that is due; what needs none any more leaves. */
static void tick(void *ctx)
{
	struct status_writer *w = ctx;
	uint64_t now = clock_mono_ms();
	size_t out = 0;
	bool sent = now < w->pause_until_ms || w->in_flight >= STATUS_IN_FLIGHT || !w->may(w->ctx);
	for (size_t i = 0; i < w->queue.len; i++) {
		struct record *r = w->queue.items[i];
		bool keep = differs(r);
		if (keep && !sent && due_ms(w, r) <= now) {
			keep = false;
			sent = true;
			r->queued = false;
			send(w, r);
		}
		r->queued = keep;
		if (keep)
			w->queue.items[out++] = r;
	}
	w->queue.len = out;
	set_queued(w);
}

/* ---- what comes */

bool status_writer_seen(struct status_writer *w, const char *key, struct str json)
{
	struct record *r = record_of(w, key);
	json_t *object = json_loadb(json.ptr, json.len, 0, NULL);
	const json_t *status = json_object_get(object, "status");
	uint64_t before = r->content;
	json_decref(r->own);
	json_decref(r->foreign);
	r->own = status_own(status, &r->foreign);
	if (r->own)
		r->own_hash = status_hash(r->own);
	r->generation = (int64_t)json_integer_value(json_object_get(json_object_get(object, "metadata"), "generation"));
	r->content = content_hash(object);
	json_decref(object);
	consider(w, r);
	return r->content != before;
}

void status_writer_gone(struct status_writer *w, const char *key)
{
	struct record *r = map_del(w->records, str_of(key));
	size_t out = 0;
	if (!r)
		return;
	for (size_t i = 0; r->queued && i < w->queue.len; i++)
		if (w->queue.items[i] != r)
			w->queue.items[out++] = w->queue.items[i];
	if (r->queued)
		w->queue.len = out;
	r->gone = true;
	if (r->writing)
		vec_push(&w->leaving, r);
	else
		record_free(r);
}

int64_t status_writer_generation(const struct status_writer *w, const char *key)
{
	const struct record *r = map_get(w->records, str_of(key));
	return r ? r->generation : 0;
}

void status_writer_want(struct status_writer *w, const struct status_object *o, json_t *status)
{
	struct record *r = map_get(w->records, str_of(o->key));
	if (!r) { /* not of the cluster */
		json_decref(status);
		return;
	}
	struct status_hash hash = status_hash(status);
	if (r->wanted && r->wanted_hash.all != hash.all)
		r->attempts = 0, r->next_ms = 0;
	json_decref(r->wanted);
	r->wanted = status;
	r->wanted_hash = hash;
	r->kind = o->kind;
	consider(w, r);
}

/* ---- life */

struct status_writer *status_writer_new(
	struct kube *api, struct loop *l, uint64_t counts_ms, bool (*may)(void *ctx), void *ctx)
{
	struct status_writer *w = xzalloc(sizeof(*w));
	w->api = api;
	w->counts_ms = counts_ms;
	w->may = may;
	w->ctx = ctx;
	w->records = map_new();
	w->timer = timer_new(l, tick, w);
	return w;
}

void status_writer_free(struct status_writer *w)
{
	struct str key;
	void *r;
	if (!w)
		return;
	timer_free(w->timer);
	for (size_t i = 0; map_next(w->records, &i, &key, &r);)
		record_free(r);
	for (size_t i = 0; i < w->leaving.len; i++)
		record_free(w->leaving.items[i]);
	map_free(w->records);
	vec_done(&w->leaving);
	vec_done(&w->queue);
	free(w);
}

void status_writer_debug(const struct status_writer *w, struct strbuf *json)
{
	strbuf_addf(json,
		"{\"objects\":%zu,\"queued\":%zu,\"in_flight\":%zu,\"written\":%llu,\"failed\":%llu,\"error\":",
		map_len(w->records), w->queue.len, w->in_flight, (unsigned long long)w->written,
		(unsigned long long)w->failed);
	strbuf_add_json(json, str_of(w->error));
	strbuf_addc(json, '}');
}
