/*
 * DOC: One record for each workload, by the name of its WorkloadEntry. An agent may have several streams (a new one before the old one's end is
 * noticed): the workload has left when the last is gone, and is gone when it does not come back within the grace period. What is said upwards
 * is the whole record, so that the last word counts whatever was lost; it is said again every REPEAT_MS, by which galley sees that
 * this pilot still vouches for it.
 */
#include "pilot/registry.h"

#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

#define REPEAT_MS 30000u

METRIC(registered, GAUGE, "pilot_registered_workloads",
	"workloads outside Kubernetes that are registered by this pilot");
METRIC(registrations, COUNTER, "auto_registration_success_total", "workloads that registered themselves");
METRIC(unregistrations, COUNTER, "auto_registration_unregister_total", "registered workloads that left");

LOG_SCOPE(registry_log, "registry", "workloads that register themselves");

struct record {
	struct arena *arena; /* of the note that brought what follows */
	struct workload_note note; /* event and why are the last */
	unsigned streams;
	int64_t connected_ms, left_ms, health_ms; /* wall clock; health_ms 0: its agent has said nothing */
	uint64_t left_mono_ms, said_mono_ms;
	bool healthy;
	char *why;
};

struct registry {
	struct registry_options o;
	char *instance;
	struct map *records; /* by "namespace/name" */
};

struct registry *registry_new(const struct registry_options *o)
{
	struct registry *r = xzalloc(sizeof(*r));

	r->o = *o;
	r->instance = xstrdup(o->instance);
	r->records = map_new();
	return r;
}

static void record_free(struct record *x)
{
	if (!x)
		return;
	arena_free(x->arena);
	free(x->why);
	free(x);
}

void registry_free(struct registry *r)
{
	struct str key;
	void *x;

	if (!r)
		return;
	for (size_t i = 0; map_next(r->records, &i, &key, &x);)
		record_free(x);
	map_free(r->records);
	free(r->instance);
	free(r);
}

/* ---- upwards */
static void put(struct arena *a, Fl__Object *o, const char *key, const char *value)
{
	Fl__Object__AnnotationsEntry *e = PB_NEW(a, Fl__Object__AnnotationsEntry, fl__object__annotations_entry);

	e->key = arena_strdup(a, key);
	e->value = arena_strdup(a, value);
	pb_add(a, o, annotations, e);
}

static void put_time(struct arena *a, Fl__Object *o, const char *key, int64_t wall_ms)
{
	char text[32];

	if (!wall_ms)
		return;
	clock_format(wall_ms, text);
	put(a, o, key, text);
}

static struct str pack(struct arena *a, const struct record *x)
{
	const struct workload_note *n = &x->note;
	Fl__Object *o = PB_NEW(a, Fl__Object, fl__object);
	const struct {
		const char *key;
		struct str value;
	} texts[] = {{"group", n->group}, {"address", n->address}, {"network", n->network}, {"locality", n->locality},
		{"serviceAccount", n->service_account}, {"labels", n->labels}};
	struct str ns, name;

	(void)str_cut(n->key, '/', &ns, &name);
	o->kind = arena_strdup(a, "ConnectedWorkload");
	o->namespace_ = arena_cstr(a, ns);
	o->name = arena_cstr(a, name);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		put(a, o, texts[i].key, arena_cstr(a, texts[i].value));
	put(a, o, "connected", x->streams ? "true" : "false");
	put_time(a, o, "connectedAt", x->connected_ms);
	put_time(a, o, "disconnectedAt", x->left_ms);
	put(a, o, "probed", n->probed ? "true" : "false");
	if (x->health_ms) {
		put(a, o, "healthy", x->healthy ? "true" : "false");
		put_time(a, o, "healthAt", x->health_ms);
		put(a, o, "healthMessage", x->why ? x->why : "");
	}
	return pb_pack(a, o);
}

static void say(struct registry *r, struct record *x, bool gone, uint64_t mono_ms)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const struct bus_change c = {.topic = TOPIC_STATUS,
		.key = str_of(arena_printf(a, "workload/" STR_FMT "/%s", STR_ARG(x->note.key), r->instance)),
		.value = gone ? (struct str){0} : pack(a, x)};

	x->said_mono_ms = mono_ms;
	r->o.send(r->o.ctx, &c);
}

/* ---- what streams say */
static struct record *record_of(struct registry *r, const struct workload_note *n)
{
	struct record *x = map_get(r->records, n->key);

	if (!x && n->event == WORKLOAD_CONNECTED) {
		x = xzalloc(sizeof(*x));
		(void)map_put(r->records, n->key, x);
		metric_set(&registered, (double)map_len(r->records));
	}
	return x;
}

/* The newest stream's word counts; the note's strings are copied. */
static void take_note(struct record *x, const struct workload_note *n)
{
	struct arena *a = arena_new();
	struct str *texts[] = {&x->note.key, &x->note.group, &x->note.address, &x->note.network, &x->note.locality,
		&x->note.service_account, &x->note.labels};

	x->note = *n;
	x->note.why = (struct str){0};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = arena_str(a, *texts[i]);
	arena_free(x->arena);
	x->arena = a;
}

static void connected(struct record *x, const struct workload_note *n, int64_t wall_ms)
{
	take_note(x, n);
	x->left_ms = 0;
	x->left_mono_ms = 0;
	if (x->streams++)
		return;
	x->connected_ms = wall_ms;
	metric_add(&registrations, 1);
	log_info(&registry_log, "workload registered", KV("entry", n->key), KV("group", n->group));
}

static void left(struct record *x, const struct workload_note *n, uint64_t mono_ms, int64_t wall_ms)
{
	if (x->streams && --x->streams)
		return;
	x->left_ms = wall_ms;
	x->left_mono_ms = mono_ms ? mono_ms : 1;
	metric_add(&unregistrations, 1);
	log_info(&registry_log, "workload left", KV("entry", n->key));
}

void registry_note(struct registry *r, const struct workload_note *n, uint64_t mono_ms, int64_t wall_ms)
{
	struct record *x = record_of(r, n);

	if (!x)
		return;
	switch (n->event) {
	case WORKLOAD_CONNECTED:
		connected(x, n, wall_ms);
		break;
	case WORKLOAD_LEFT:
		left(x, n, mono_ms, wall_ms);
		break;
	case WORKLOAD_HEALTH:
		x->healthy = n->healthy;
		x->health_ms = wall_ms;
		free(x->why);
		x->why = xstrndup(n->why.ptr ? n->why.ptr : "", n->why.len);
		break;
	}
	say(r, x, false, mono_ms);
}

void registry_tick(struct registry *r, uint64_t mono_ms)
{
	struct str key;
	void *value;

	for (size_t i = 0; map_next(r->records, &i, &key, &value);) {
		struct record *x = value;

		if (!x->streams && mono_ms - x->left_mono_ms >= r->o.grace_ms) {
			say(r, x, true, mono_ms);
			log_info(&registry_log, "workload is gone", KV("entry", key));
			(void)map_del(r->records, x->note.key);
			record_free(x);
			metric_set(&registered, (double)map_len(r->records));
		} else if (mono_ms - x->said_mono_ms >= REPEAT_MS) {
			say(r, x, false, mono_ms);
		}
	}
}

void registry_debug(const struct registry *r, struct strbuf *json)
{
	struct str key;
	void *value;
	size_t n = 0;

	strbuf_addc(json, '[');
	for (size_t i = 0; map_next(r->records, &i, &key, &value);) {
		const struct record *x = value;

		strbuf_adds(json, n++ ? ",{\"entry\":" : "{\"entry\":");
		strbuf_add_json(json, key);
		strbuf_adds(json, ",\"group\":");
		strbuf_add_json(json, x->note.group);
		strbuf_addf(json, ",\"streams\":%u,\"probed\":%s,\"health\":\"%s\"}", x->streams,
			x->note.probed ? "true" : "false",
			!x->health_ms ? "unknown"
			: x->healthy  ? "healthy"
				      : "unhealthy");
	}
	strbuf_addc(json, ']');
}
