/*
 * DOC: Pilot's side of the bus: one replica of galley's topics, one of citadel's. Nothing is served before there is content from
 * galley; citadel's is awaited for a moment, so that a restart with both at hand makes one model, and then done without. When a
 * publisher is away pilot goes on with what it has and says how old it is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cfg/mesh.pb-c.h"
#include "cfg/model.pb-c.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "pilot/pilot.h"

#define TRUST_WAIT_MS 2000u
#define TOPICS_MAX 64

METRIC(batches, COUNTER, "pilot_bus_batches", "batches taken from the bus", "publisher");
METRIC(services, GAUGE, "pilot_services", "services known");
METRIC(virtual_services, GAUGE, "pilot_virt_services", "virtual services known");

LOG_SCOPE(ingest_log, "ingest", "what comes from the bus");

static void object_free(struct pilot_object *o)
{
	if (o)
		free(o->origin);
	free(o);
}

static void note(struct pilot *p, const struct bus_change *c)
{
	cleanup(free_p) char *id = xasprintf("%u/" STR_FMT, c->topic, STR_ARG(c->key));
	struct pilot_object *o = NULL;
	struct metric *count = c->topic == TOPIC_SERVICE           ? &services
			       : c->topic == TOPIC_VIRTUAL_SERVICE ? &virtual_services
								   : NULL;
	double delta = 0;

	if (c->value.ptr) {
		o = xzalloc(sizeof(*o));
		*o = (struct pilot_object){.topic = c->topic,
			.origin = xstrndup(c->origin.ptr ? c->origin.ptr : "", c->origin.len),
			.hash = c->hash};
	}
	struct pilot_object *old = o ? map_put(p->objects, str_of(id), o) : map_del(p->objects, str_of(id));
	if (o)
		o->since = old && old->hash == o->hash ? old->since : model_version(p->push.model) + 1;
	distribution_note(p->distribution, c->topic, c->key, old, o);
	delta = (o ? 1 : 0) - (old ? 1 : 0);
	if (count)
		metric_set(count, metric_get(count) + delta);
	object_free(old);
}

/* The SPIFFE bundle endpoints of a mesh config, before it is in force: what was kept of them comes with it. */
static void note_mesh(struct pilot *p, struct str packed)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct err e = {0};
	const Fl__Object *o = packed.ptr ? PB_UNPACK(a, Fl__Object, fl__object, packed.ptr, packed.len, &e) : NULL;
	const Mesh__MeshConfig *m = o ? PB_UNPACK(a, Mesh__MeshConfig, mesh__mesh_config, o->spec.data, o->spec.len, &e)
				      : NULL;
	struct str *urls = arena_array(a, (m ? m->n_ca_certificates : 0) + 1, sizeof(*urls));
	size_t n = 0;

	if (packed.ptr && !m)
		return; /* the model says why */
	for (size_t i = 0; m && i < m->n_ca_certificates; i++)
		if (m->ca_certificates[i]->certificate_data_case ==
			MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_SPIFFE_BUNDLE_URL)
			urls[n++] = str_of(m->ca_certificates[i]->spiffe_bundle_url);
	bundle_urls_set(p->bundles, urls, n);
}

static void on_batch(
	struct pilot *p, const char *publisher, const struct bus_change *changes, size_t n, const char *cause)
{
	metric_add(&batches, 1, publisher);
	log_debug(&ingest_log, "batch", KV("publisher", publisher), KV("changes", n), KV("cause", cause ? cause : ""));
	for (size_t i = 0; i < n; i++)
		note(p, &changes[i]);
	for (size_t i = 0; i < n; i++)
		if (changes[i].topic == TOPIC_MESH)
			note_mesh(p, changes[i].value);
	push_changes(p, changes, n);
}

void ingest_bundle(void *pilot, const struct bus_change *c)
{
	on_batch(pilot, "bundle endpoint", c, 1, "");
}

static void galley_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	on_batch(ctx, "galley", changes, n, cause);
	ingest_tick(ctx);
}

static void citadel_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	on_batch(ctx, "citadel", changes, n, cause);
	ingest_tick(ctx);
}

static void on_state(void *ctx, enum bus_state state)
{
	log_info(&ingest_log, "bus", KV("state", bus_state_name(state)));
	ingest_tick(ctx);
}

static void note_age(struct pilot *p, const struct bus_replica *r, const char *key)
{
	char text[160];

	if (!r || bus_replica_state(r) == BUS_LIVE) {
		daemon_note(p->daemon, key, NULL);
		return;
	}
	if (bus_replica_has_content(r))
		(void)snprintf(text, sizeof(text), "%s is away; serving its content as of %llu s ago", key,
			(unsigned long long)(bus_replica_age_ms(r) / 1000));
	else
		(void)snprintf(text, sizeof(text), "nothing from %s yet", key);
	daemon_note(p->daemon, key, text);
}

void ingest_tick(struct pilot *p)
{
	uint64_t now = clock_mono_ms();

	if (!p->galley)
		return;
	note_age(p, p->galley, "galley");
	note_age(p, p->citadel, "citadel");
	if (p->push.open || !bus_replica_has_content(p->galley))
		return;
	if (!p->galley_content_ms)
		p->galley_content_ms = now ? now : 1;
	if ((p->citadel && bus_replica_has_content(p->citadel)) || now - p->galley_content_ms >= TRUST_WAIT_MS)
		push_open(p);
}

static void replayed(void *ctx)
{
	struct pilot *p = ctx;
	p->replay = NULL;
	log_info(&ingest_log, "recording replayed", KV("objects", map_len(p->objects)));
	push_open(p);
}

static void topics_of(const char *publisher, uint32_t out[TOPICS_MAX])
{
	size_t n, len = 0;
	const struct topic *all = topics_all(&n);

	for (size_t i = 0; i < n && len + 1 < TOPICS_MAX; i++) {
		if (streq(all[i].publisher, publisher))
			out[len++] = all[i].id;
	}
	out[len] = 0;
}

static struct bus_replica *follow(
	struct pilot *p, const char *publisher, const struct bus_replica_ops *ops, struct err *e)
{
	uint32_t topics[TOPICS_MAX];
	const char *dir = daemon_state_dir(p->daemon);
	cleanup(free_p) char *persist = dir ? xasprintf("%s/%s.snapshot", dir, publisher) : NULL;

	topics_of(publisher, topics);
	const struct bus_replica_options o = {
		.address = daemon_bus(p->daemon),
		.publisher = publisher,
		.role = "pilot",
		.instance = daemon_instance(p->daemon),
		.topics = topics,
		.keys = p->keys,
		.tells_all = streq(publisher, "galley"), /* whoever of the galleys writes statuses counts all proxies */
		.persist = persist,
		.ops = ops,
		.ctx = p,
	};
	return bus_replica_new(p->loop, &o, e);
}

bool ingest_start(struct pilot *p, struct err *e)
{
	static const struct bus_replica_ops galley = {galley_batch, on_state}, citadel = {citadel_batch, on_state};

	daemon_not_ready(p->daemon, "snapshot", "no configuration yet");
	if (!str_empty(p->config->replay))
		return bus_replay_start(p->loop, p->config->replay, false, &galley, p, replayed, &p->replay, e);
	if (daemon_bus_keys_dir(p->daemon) && !bus_keys_load(daemon_bus_keys_dir(p->daemon), "pilot", &p->keys, e))
		return err_in(e, "--bus-keys");
	p->galley = follow(p, "galley", &galley, e);
	p->citadel = p->galley ? follow(p, "citadel", &citadel, e) : NULL;
	if (!p->citadel)
		return false;
	ingest_tick(p);
	return true;
}

void ingest_stop(struct pilot *p)
{
	struct str key;
	void *o;

	if (p->replay)
		bus_replay_stop(p->replay);
	if (p->galley)
		bus_replica_free(p->galley);
	if (p->citadel)
		bus_replica_free(p->citadel);
	bus_keys_free(p->keys);
	for (size_t i = 0; map_next(p->objects, &i, &key, &o);)
		object_free(o);
	map_free(p->objects);
}

void ingest_report(struct pilot *p, const struct worker_nack *n)
{
	struct arena *a = n->arena;
	Fl__Object *o = PB_NEW(a, Fl__Object, fl__object);
	const struct {
		const char *key;
		struct str value;
	} rows[] = {{"type", n->type}, {"error", n->text}, {"resources", n->resources}, {"objects", n->objects},
		{"isolated", n->isolated ? STR("true") : STR("false")}};

	if (!p->galley)
		return;
	o->kind = (char *)(uintptr_t) "ProxyRejection";
	o->name = arena_cstr(a, n->proxy);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		Fl__Object__AnnotationsEntry *entry = PB_NEW(
			a, Fl__Object__AnnotationsEntry, fl__object__annotations_entry);
		entry->key = arena_strdup(a, rows[i].key);
		entry->value = arena_cstr(a, rows[i].value);
		pb_add(a, o, annotations, entry);
	}
	const struct bus_change c = {
		.topic = TOPIC_STATUS,
		.key = str_of(arena_printf(a, "rejected/" STR_FMT "/" STR_FMT, STR_ARG(n->type), STR_ARG(n->proxy))),
		.value = n->text.len ? pb_pack(a, o) : (struct str){0},
	};
	ingest_say(p, &c);
}

void ingest_say(void *pilot, const struct bus_change *c)
{
	struct pilot *p = pilot;
	if (p->galley)
		bus_report(p->galley, c, 1);
}
