/*
 * DOC: The ConfigMap istio-ca-root-cert (or --roots-config-map), key root-cert.pem, in every namespace that may hold workloads (Istio leaves out kube-system, kube-public,
 * kube-node-lease and local-path-storage). Namespaces and these ConfigMaps are watched, so a new namespace has its bundle, and a changed or
 * deleted one is repaired, as soon as the API server tells. Written by server-side apply: replicas that write the same do not fight.
 */
#include <jansson.h>
#include <stdlib.h>

#include "citadel/kube/cluster.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"

#define KEY "root-cert.pem"
#define RETRY_MS 1000u
#define IN_FLIGHT_MAX 8u /* writes under way; a cluster has thousands of namespaces */

METRIC(written, COUNTER, "citadel_root_cert_configmaps_written_total", "ConfigMaps with the trust bundle written",
	"result");

LOG_SCOPE(bundles_log, "bundles", "the trust bundle in every namespace");

struct space {
	struct bundles *owner;
	char *name;
	uint64_t held; /* hash of what its ConfigMap has, 0: nothing or not known */
	bool exists; /* the namespace, and it is not being deleted */
	bool writing, denied;
	uint64_t retry_at_ms;
};

struct bundles {
	struct kube *api;
	struct kube_watch *namespaces, *maps;
	struct timer *timer;
	struct map *spaces;
	char *config_map; /* its name */
	char *roots;
	uint64_t want;
	size_t in_flight;
};

static struct space *space_of(struct bundles *b, struct str name)
{
	struct space *s = map_get(b->spaces, name);
	if (s)
		return s;
	s = xzalloc(sizeof(*s));
	s->owner = b;
	s->name = xstrndup(name.ptr, name.len);
	(void)map_put(b->spaces, name, s);
	return s;
}

static bool left_out(struct str name)
{
	static const char *const names[] = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eqc(name, names[i]))
			return true;
	return false;
}

static void reconcile(void *ctx);

/* ---- write */

static void on_written(void *ctx, int status, struct str text)
{
	struct space *s = ctx;
	struct bundles *b = s->owner;
	bool ok = status >= 200 && status < 300;
	s->writing = false;
	b->in_flight--;
	metric_add(&written, 1, ok ? "ok" : "failed");
	if (ok) {
		s->denied = false;
	} else {
		/* The namespace may be going away; what the watches say next decides. */
		s->held = 0;
		s->retry_at_ms = clock_mono_ms() + RETRY_MS;
		if (!s->denied)
			log_warn(&bundles_log, "bundle not written", KV("namespace", s->name), KV("status", status),
				KV("error", text));
		s->denied = true;
	}
	timer_start(b->timer, ok ? 0 : RETRY_MS, 0);
}

static void write_bundle(struct bundles *b, struct space *s)
{
	json_t *j = json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
		"metadata", "name", b->config_map, "namespace", s->name, "labels", "istio.io/config", "true", "data",
		KEY, b->roots);
	char *body = json_dumps(j, JSON_COMPACT);
	char *path cleanup(free_p) = xasprintf(
		"/api/v1/namespaces/%s/configmaps/%s?fieldManager=fairlead-citadel&force=true", s->name, b->config_map);
	const struct kube_request r = {
		.method = "PATCH", .path = path, .content_type = "application/apply-patch+yaml", .body = str_of(body)};
	s->writing = true;
	s->held = b->want;
	b->in_flight++;
	kube_send(b->api, &r, on_written, s);
	free(body);
	json_decref(j);
}

static void reconcile(void *ctx)
{
	struct bundles *b = ctx;
	struct str key;
	void *value;
	uint64_t now = clock_mono_ms(), next = 0;
	if (!b->roots || !kube_watch_synced(b->namespaces) || !kube_watch_synced(b->maps))
		return;
	for (size_t i = 0; map_next(b->spaces, &i, &key, &value) && b->in_flight < IN_FLIGHT_MAX;) {
		struct space *s = value;
		if (!s->exists || s->writing || s->held == b->want)
			continue;
		if (s->retry_at_ms > now)
			next = !next || s->retry_at_ms < next ? s->retry_at_ms : next;
		else
			write_bundle(b, s);
	}
	if (next)
		timer_start(b->timer, next - now, 0);
}

/* ---- what the watches say */

static bool being_deleted(struct str json)
{
	json_t *j = json_loadb(json.ptr, json.len, 0, NULL);
	bool going = json_object_get(json_object_get(j, "metadata"), "deletionTimestamp") != NULL;
	json_decref(j);
	return going;
}

static void put_namespace(void *ctx, struct str key, struct str json)
{
	struct bundles *b = ctx;
	if (!left_out(key))
		space_of(b, key)->exists = !being_deleted(json);
}

static void remove_namespace(void *ctx, struct str key)
{
	struct space *s = map_get(((struct bundles *)ctx)->spaces, key);
	if (s) {
		s->exists = false;
		s->held = 0;
	}
}

static void put_map(void *ctx, struct str key, struct str json)
{
	struct str ns, name;
	json_t *j = json_loadb(json.ptr, json.len, 0, NULL);
	const char *held = json_string_value(json_object_get(json_object_get(j, "data"), KEY));
	if (str_cut(key, '/', &ns, &name))
		space_of(ctx, ns)->held = held ? hash64(str_of(held)) : 0;
	json_decref(j);
}

static void remove_map(void *ctx, struct str key)
{
	struct str ns, name;
	if (str_cut(key, '/', &ns, &name))
		space_of(ctx, ns)->held = 0;
}

/* ---- life */

struct bundles *bundles_new(struct loop *l, struct kube *api, const char *config_map)
{
	static const struct kube_watch_ops namespaces = {put_namespace, remove_namespace, reconcile},
					   maps = {put_map, remove_map, reconcile};
	struct bundles *b = xzalloc(sizeof(*b));
	b->api = api;
	b->config_map = xstrdup(config_map);
	b->spaces = map_new();
	b->timer = timer_new(l, reconcile, b);
	char *selector cleanup(free_p) = xasprintf("fieldSelector=metadata.name%%3D%s", config_map);
	const struct kube_watch_options n = {.group = "",
		.version = "v1",
		.plural = "namespaces",
		.kind = "Namespace",
		.ops = &namespaces,
		.ctx = b};
	const struct kube_watch_options m = {.group = "",
		.version = "v1",
		.plural = "configmaps",
		.kind = "ConfigMap",
		.selector = selector,
		.ops = &maps,
		.ctx = b};
	b->namespaces = kube_watch_new(api, &n);
	b->maps = kube_watch_new(api, &m);
	return b;
}

void bundles_free(struct bundles *b)
{
	struct str key;
	void *value;
	if (!b)
		return;
	kube_watch_free(b->namespaces);
	kube_watch_free(b->maps);
	timer_free(b->timer);
	for (size_t i = 0; map_next(b->spaces, &i, &key, &value);) {
		struct space *s = value;
		free(s->name);
		free(s);
	}
	map_free(b->spaces);
	free(b->roots);
	free(b->config_map);
	free(b);
}

void bundles_set(struct bundles *b, struct str roots_pem)
{
	free(b->roots);
	b->roots = xstrndup(roots_pem.ptr, roots_pem.len);
	b->want = hash64(roots_pem);
	reconcile(b);
}

void bundles_debug(const struct bundles *b, struct strbuf *json)
{
	struct str key;
	void *value;
	size_t wanted = 0, good = 0;
	for (size_t i = 0; map_next(b->spaces, &i, &key, &value);) {
		const struct space *s = value;
		wanted += s->exists;
		good += s->exists && s->held == b->want && !s->writing;
	}
	strbuf_addf(json, "{\"namespaces\":%zu,\"current\":%zu,\"watches\":[", wanted, good);
	kube_watch_debug(b->namespaces, json);
	strbuf_addc(json, ',');
	kube_watch_debug(b->maps, json);
	strbuf_adds(json, "]}");
}
