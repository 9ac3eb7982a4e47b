/*
 * DOC: A pass looks at all objects; it is made when something may have changed, at most once in PASS_MS, and takes at most a twentieth of the
 * time, whatever the number of objects. Who does not hold the lease makes none. The analysis is the dear part, and is made again only
 * after a commit.
 */
#include "galley/status/cluster.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/kube/lease.h"

#define PASS_MS 500u
#define PASS_SHARE 20u
#define PREFIX "kubernetes/"

METRIC(passes, COUNTER, "galley_status_passes_total", "times that all objects' statuses were looked at");

typedef VEC(const struct diag *) diag_list;

struct cluster_status {
	struct cluster_status_options o;
	struct kube *api;
	struct kube_lease *lease; /* NULL: nothing is written */
	struct status_writer *writer;
	struct timer *timer;
	struct arena *arena; /* of the messages */
	struct map *messages; /* "VirtualService default/reviews" -> diag_list */
	uint64_t first_ms; /* of the first commit; 0: none yet */
	bool committed; /* since the messages were made */
	bool ahead; /* objects were seen, or the lease came, since the last pass */
	uint64_t version; /* of the distribution at the last pass */
	uint64_t next_ms;
};

static bool may_write(void *ctx)
{
	const struct cluster_status *c = ctx;
	return c->lease && kube_lease_held(c->lease);
}

static void forget_messages(struct cluster_status *c)
{
	struct str key;
	void *list;
	for (size_t i = 0; c->messages && map_next(c->messages, &i, &key, &list);) {
		vec_done((diag_list *)list);
		free(list);
	}
	map_free(c->messages);
	arena_free(c->arena);
	c->messages = NULL;
	c->arena = NULL;
}

static void analyse(struct cluster_status *c)
{
	struct diags found;
	forget_messages(c);
	c->arena = arena_new();
	c->messages = map_new();
	diags_init(&found, c->arena);
	galley_analyze(c->o.galley, &found);
	for (size_t i = 0; i < found.len; i++) {
		struct str object = str_of(found.items[i].object);
		diag_list *list = map_get(c->messages, object);
		if (!list) {
			list = xzalloc(sizeof(*list));
			(void)map_put(c->messages, object, list);
		}
		vec_push(list, (const struct diag *)&found.items[i]);
	}
}

static void want(void *ctx, const struct status_object *o)
{
	struct cluster_status *c = ctx;
	char *title cleanup(free_p) = xasprintf("%s %s/%s", o->kind->name, o->ns, o->name);
	const diag_list *list = map_get(c->messages, str_of(title));
	const struct status_input in = {.object = o,
		.generation = status_writer_generation(c->writer, o->key),
		.messages = list ? list->items : NULL,
		.n_messages = list ? list->len : 0};
	if (in.generation)
		status_writer_want(c->writer, o, status_build(&in));
}

/*
 * Right after a start pilots have not reported yet, and every object would get a status of no proxies first. A fifth of the lease's time is enough
 * for all of them to be heard; two thirds, when none is.
 */
static bool is_early(const struct cluster_status *c, uint64_t now)
{
	uint64_t since = now - c->first_ms;
	bool heard = distribution_of(c->o.distribution, TOPIC_NONE, STR("")).pilots > 0;
	return !c->first_ms || since < c->o.lease_ms / 5 || (!heard && since < c->o.lease_ms / 3 * 2);
}

static void pass(void *ctx)
{
	struct cluster_status *c = ctx;
	uint64_t began = clock_mono_ms();
	(void)distribution_expire(c->o.distribution, began);
	uint64_t version = distribution_version(c->o.distribution);
	if (is_early(c, began) || !may_write(c) || began < c->next_ms ||
		(!c->committed && !c->ahead && version == c->version))
		return;
	if (c->committed || !c->messages)
		analyse(c);
	c->committed = c->ahead = false;
	c->version = version;
	status_each(c->o.galley, c->o.distribution, NULL, want, c);
	metric_add(&passes, 1);
	c->next_ms = clock_mono_ms() + (clock_mono_ms() - began) * PASS_SHARE;
}

static void on_lease(void *ctx, bool held)
{
	((struct cluster_status *)ctx)->ahead |= held;
}

/* ---- from the source */

/* "kubernetes/VirtualService/default/reviews" -> "VirtualService/default/reviews"; NULL: not of a kind that has a status. */
static char *key_of(struct str file)
{
	struct str kind, rest;
	if (!str_starts(file, STR(PREFIX)) || !str_cut(str_from(file, sizeof(PREFIX) - 1), '/', &kind, &rest))
		return NULL;
	for (unsigned i = 0; i < KIND_COUNT; i++) {
		const struct kind *k = kind_get((enum kind_id)i);
		/* The status of a WorkloadEntry is how its workload is: who registers it writes that, and galley reads it. */
		if (k->id != KIND_WORKLOAD_ENTRY && str_eqc(kind, k->name) &&
			str_ends(str_of(k->group), STR(".istio.io")))
			return xasprintf(STR_FMT "/" STR_FMT, STR_ARG(kind), STR_ARG(rest));
	}
	return NULL;
}

bool cluster_status_seen(struct cluster_status *c, struct str file, struct str json)
{
	char *key cleanup(free_p) = key_of(file);
	if (!key)
		return true;
	c->ahead = true;
	return status_writer_seen(c->writer, key, json);
}

void cluster_status_gone(struct cluster_status *c, struct str file)
{
	char *key cleanup(free_p) = key_of(file);
	if (key)
		status_writer_gone(c->writer, key);
}

void cluster_status_changed(struct cluster_status *c)
{
	c->committed = true;
	if (!c->first_ms)
		c->first_ms = clock_mono_ms();
}

int64_t cluster_status_generation(void *ctx, const char *key)
{
	return status_writer_generation(((const struct cluster_status *)ctx)->writer, key);
}

/* ---- life */

struct cluster_status *cluster_status_new(struct loop *l, const struct cluster_status_options *o, struct err *e)
{
	struct kube *api = kube_new(l, o->api, e);
	if (!api)
		return NULL;
	struct cluster_status *c = xzalloc(sizeof(*c));
	const struct kube_lease_options lease = {.namespace = o->namespace,
		.name = "fairlead-galley-status",
		.identity = o->identity,
		.duration_ms = o->lease_ms,
		.changed = on_lease,
		.ctx = c};
	c->o = *o;
	c->api = api;
	c->writer = status_writer_new(api, l, o->lease_ms * 2, may_write, c);
	c->lease = o->write ? kube_lease_new(api, &lease) : NULL;
	c->timer = timer_new(l, pass, c);
	timer_start(c->timer, PASS_MS, PASS_MS);
	return c;
}

void cluster_status_free(struct cluster_status *c)
{
	if (!c)
		return;
	timer_free(c->timer);
	kube_free(c->api);
	kube_lease_free(c->lease);
	status_writer_free(c->writer);
	forget_messages(c);
	free(c);
}

void cluster_status_debug(const struct cluster_status *c, struct strbuf *json)
{
	strbuf_adds(json, "{\"lease\":");
	if (c->lease)
		kube_lease_debug(c->lease, json);
	else
		strbuf_adds(json, "null");
	strbuf_adds(json, ",\"writer\":");
	status_writer_debug(c->writer, json);
	strbuf_addc(json, '}');
}
