/*
 * DOC: Debug pages under the names that istiod has. What belongs to a worker is written by the worker, on its thread; a worker that is
 * too busy to answer in two seconds is left out and named in "busy".
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/mesh/kinds.h"
#include "pilot/pilot.h"

/* One parameter of a query string, percent-decoded; the caller frees it. */
static char *query_get(struct str query, const char *name)
{
	struct str part, key, value;
	struct strbuf out = {0};

	while (str_split(&query, '&', &part)) {
		if (!str_cut(part, '=', &key, &value) || !str_eqc(key, name))
			continue;
		for (size_t i = 0; i < value.len; i++) {
			char hex[3] = {0};
			if (value.ptr[i] == '%' && i + 2 < value.len) {
				memcpy(hex, value.ptr + i + 1, 2);
				strbuf_addc(&out, (char)strtoul(hex, NULL, 16));
				i += 2;
			} else {
				strbuf_addc(&out, value.ptr[i]);
			}
		}
		break;
	}
	return strbuf_take(&out);
}

typedef void (*worker_page)(const struct worker_view *v, struct str argument, struct strbuf *json);

/* Each worker writes items, each followed by a comma; together they are a list. */
static void gather(struct pilot *p, worker_page fn, struct str argument, struct strbuf *out)
{
	struct strbuf items = {0};
	for (size_t i = 0; i < p->n_workers; i++) {
		if (!worker_call(p->workers[i], fn, argument, &items))
			strbuf_addf(&items, "{\"busy\":\"worker %zu\"},", i);
	}
	struct str s = strbuf_str(&items);
	strbuf_addc(out, '[');
	strbuf_add(out, str_sub(s, 0, s.len ? s.len - 1 : 0));
	strbuf_addc(out, ']');
	strbuf_done(&items);
}

static void gather_proxy(struct pilot *p, worker_page fn, struct str query, struct strbuf *out)
{
	cleanup(free_p) char *proxy = query_get(query, "proxyID");
	gather(p, fn, str_of(proxy), out);
}

static void sync_items(const struct worker_view *v, struct str proxy, struct strbuf *json)
{
	for (size_t i = 0; i < engine_sessions(v->engine); i++) {
		struct xds_session *s = engine_session(v->engine, i);
		if (!session_is(s, proxy))
			continue;
		session_debug_sync(s, json);
		strbuf_addc(json, ',');
	}
}

static void dump_items(const struct worker_view *v, struct str proxy, bool bodies, struct strbuf *json)
{
	for (size_t i = 0; i < engine_sessions(v->engine); i++) {
		struct xds_session *s = engine_session(v->engine, i);
		if (!session_is(s, proxy))
			continue;
		session_debug_dump(s, bodies, json);
		strbuf_addc(json, ',');
	}
}

static void config_items(const struct worker_view *v, struct str proxy, struct strbuf *json)
{
	dump_items(v, proxy, true, json);
}

static void name_items(const struct worker_view *v, struct str proxy, struct strbuf *json)
{
	dump_items(v, proxy, false, json);
}

static void cache_items(const struct worker_view *v, struct str none, struct strbuf *json)
{
	engine_debug(v->engine, json);
	strbuf_addc(json, ',');
}

static void connection_items(const struct worker_view *v, struct str none, struct strbuf *json)
{
	struct strbuf rows = {0};
	grpc_server_debug(v->server, &rows);
	if (rows.len) {
		strbuf_add(json, strbuf_str(&rows));
		strbuf_addc(json, ',');
	}
	strbuf_done(&rows);
}

static void page_syncz(void *self, struct str query, struct strbuf *out)
{
	gather_proxy(self, sync_items, query, out);
}

static void page_config_dump(void *self, struct str query, struct strbuf *out)
{
	gather_proxy(self, config_items, query, out);
}

static void page_names(void *self, struct str query, struct strbuf *out)
{
	gather_proxy(self, name_items, query, out);
}

static void page_cachez(void *self, struct str query, struct strbuf *out)
{
	gather(self, cache_items, query, out);
}

static void page_connections(void *self, struct str query, struct strbuf *out)
{
	gather(self, connection_items, query, out);
}

static void list_objects(const struct pilot *p, uint32_t only, struct strbuf *out)
{
	struct str *keys = map_keys_sorted(p->objects);
	bool first = true;

	strbuf_addc(out, '[');
	for (size_t i = 0; i < map_len(p->objects); i++) {
		const struct pilot_object *o = map_get(p->objects, keys[i]);
		const struct topic *t = topic_get(o->topic);
		struct str number, key;
		if (only && o->topic != only)
			continue;
		(void)str_cut(keys[i], '/', &number, &key);
		strbuf_addf(out, "%s{\"topic\":\"%s\",\"key\":", first ? "" : ",", t ? t->name : "unknown");
		strbuf_add_json(out, key);
		strbuf_adds(out, ",\"origin\":");
		strbuf_add_json(out, str_of(o->origin));
		strbuf_addf(out, ",\"hash\":\"%016llx\"}", (unsigned long long)o->hash);
		first = false;
	}
	strbuf_addc(out, ']');
	free(keys);
}

static void page_configz(void *self, struct str query, struct strbuf *out)
{
	list_objects(self, 0, out);
}

static void page_registryz(void *self, struct str query, struct strbuf *out)
{
	list_objects(self, TOPIC_SERVICE, out);
}

static void page_endpointz(void *self, struct str query, struct strbuf *out)
{
	list_objects(self, TOPIC_ENDPOINTS, out);
}

static void page_push_status(void *self, struct str query, struct strbuf *out)
{
	const struct pilot *p = self;

	strbuf_addf(out,
		"{\"model_version\":%llu,\"model_hash\":\"%016llx\",\"model_bytes\":%zu,\"snapshots\":%llu,\"pending\":"
		"%s,\"model\":",
		(unsigned long long)model_version(p->push.model), (unsigned long long)model_hash(p->push.model),
		model_bytes(p->push.model), (unsigned long long)p->push.published, p->push.pending ? "true" : "false");
	model_debug(p->push.model, out);
	strbuf_addc(out, '}');
}

static void page_distribution(void *self, struct str query, struct strbuf *out)
{
	distribution_debug(((const struct pilot *)self)->distribution, out);
}

static void page_bus(void *self, struct str query, struct strbuf *out)
{
	const struct pilot *p = self;

	strbuf_adds(out, "{\"galley\":");
	if (p->galley)
		bus_replica_debug(p->galley, out);
	else
		strbuf_adds(out, "null");
	strbuf_adds(out, ",\"citadel\":");
	if (p->citadel)
		bus_replica_debug(p->citadel, out);
	else
		strbuf_adds(out, "null");
	strbuf_addc(out, '}');
}

static void page_workloads(void *self, struct str query, struct strbuf *out)
{
	registry_debug(((const struct pilot *)self)->registry, out);
}

static void page_bundles(void *self, struct str query, struct strbuf *out)
{
	bundle_urls_debug(((const struct pilot *)self)->bundles, out);
}

const struct debug_page pilot_pages[] = {
	{"syncz", "how far each proxy is with each type (?proxyID=)", page_syncz},
	{"adsz", "the streams of proxies with their watches (?proxyID=)", page_syncz},
	{"config_dump", "what was sent to a proxy, decoded (?proxyID=)", page_config_dump},
	{"resourcesz", "names and versions of what was sent (?proxyID=)", page_names},
	{"edsz", "endpoint resources by proxy: names and versions (?proxyID=)", page_names},
	{"cachez", "scopes that proxies share, with their resources and bytes", page_cachez},
	{"connections", "connections and streams", page_connections},
	{"configz", "objects taken from the bus, with their origin", page_configz},
	{"registryz", "services", page_registryz},
	{"endpointz", "endpoint sets", page_endpointz},
	{"workloads", "workloads outside Kubernetes that are registered here", page_workloads},
	{"push_status", "the model and its publications", page_push_status},
	{"distribution", "how many proxies have which objects, as galley is told", page_distribution},
	{"bundles", "SPIFFE bundle endpoints of the mesh config", page_bundles},
	{"bus", "the replicas of galley's and citadel's topics", page_bus},
};
const size_t pilot_n_pages = ARRAY_LEN(pilot_pages);
