/* DOC: See the header. Each kind's watch calls back with its own row, which gives the document its name. */
#include "galley/source/kubernetes.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/mesh/kinds.h"

/* The keys of the ConfigMap that are read, each as an object of its own. */
static const struct {
	const char *key, *kind, *file;
	bool expected;
} config_keys[] = {{"mesh", "MeshConfig", "kubernetes/ConfigMap", true},
	{"meshNetworks", "MeshNetworks", "kubernetes/ConfigMap/meshNetworks", false}};

LOG_SCOPE(kubernetes_log, "kubernetes", "the Kubernetes API as a source");

struct row {
	struct kubernetes *owner;
	const struct kind *kind; /* NULL: the mesh's ConfigMap */
	struct kube_watch *watch;
};

struct kubernetes {
	struct kubernetes_options o;
	struct kube *api;
	struct row rows[KIND_COUNT + 1];
	size_t n;
};

static bool all_synced(const struct kubernetes *k)
{
	for (size_t i = 0; i < k->n; i++)
		if (!k->rows[i].watch || !kube_watch_synced(k->rows[i].watch))
			return false;
	return true;
}

static void on_settled(void *ctx)
{
	const struct row *r = ctx;
	if (all_synced(r->owner))
		r->owner->o.ops->settled(r->owner->o.ctx);
}

static char *file_name(const struct row *r, struct str key)
{
	return xasprintf("kubernetes/%s/" STR_FMT, r->kind->name, STR_ARG(key));
}

/* Most ConfigMaps are of no concern and can be large: only those that have an entry for a CA go on. */
static bool wanted(const struct row *r, struct str json)
{
	return r->kind->id != KIND_CONFIG_MAP || memmem(json.ptr, json.len, "\"ca.crt\"", 8) ||
	       memmem(json.ptr, json.len, "\"cacert\"", 8);
}

static void on_put(void *ctx, struct str key, struct str json)
{
	const struct row *r = ctx;
	char *file cleanup(free_p) = file_name(r, key);
	if (!wanted(r, json))
		r->owner->o.ops->remove(r->owner->o.ctx, str_of(file));
	else
		r->owner->o.ops->put(r->owner->o.ctx, str_of(file), json);
}

static void on_remove(void *ctx, struct str key)
{
	const struct row *r = ctx;
	char *file cleanup(free_p) = file_name(r, key);
	r->owner->o.ops->remove(r->owner->o.ctx, str_of(file));
}

/* ---- mesh config */

/* The key's YAML becomes the spec of an object, indented below it, so that a message's line is that of the key plus four. */
static char *config_document(const char *kind, const char *yaml)
{
	struct strbuf out = {0};
	struct str rest = str_of(yaml), line;
	strbuf_addf(&out, "apiVersion: fairlead.dev/v1\nkind: %s\nmetadata: {name: default}\nspec:\n", kind);
	while (str_split(&rest, '\n', &line))
		strbuf_addf(&out, "  " STR_FMT "\n", STR_ARG(line));
	return strbuf_take(&out);
}

static bool is_mesh_config(const struct row *r, struct str key)
{
	char *own cleanup(free_p) = xasprintf("%s/istio", r->owner->o.root_namespace);
	return str_eqc(key, own);
}

static void on_config_map(void *ctx, struct str key, struct str json)
{
	const struct row *r = ctx;
	if (!is_mesh_config(r, key))
		return;
	json_t *object = json_loadb(json.ptr, json.len, 0, NULL), *data = json_object_get(object, "data");
	for (size_t i = 0; i < ARRAY_LEN(config_keys); i++) {
		const char *yaml = json_string_value(json_object_get(data, config_keys[i].key));
		if (yaml) {
			char *text cleanup(free_p) = config_document(config_keys[i].kind, yaml);
			r->owner->o.ops->put(r->owner->o.ctx, str_of(config_keys[i].file), str_of(text));
			continue;
		}
		if (config_keys[i].expected)
			log_warn(&kubernetes_log, "the ConfigMap istio lacks a key: the mesh has Istio's defaults",
				KV("key", config_keys[i].key));
		r->owner->o.ops->remove(r->owner->o.ctx, str_of(config_keys[i].file));
	}
	json_decref(object);
}

static void on_config_map_gone(void *ctx, struct str key)
{
	const struct row *r = ctx;
	for (size_t i = 0; i < ARRAY_LEN(config_keys) && is_mesh_config(r, key); i++)
		r->owner->o.ops->remove(r->owner->o.ctx, str_of(config_keys[i].file));
}

/* ---- life */

/* Releases of Helm and tokens are most of a cluster's Secrets, and hold no certificate. */
static const char not_certificates[] =
	"fieldSelector=type!%3Dhelm.sh/release.v1,type!%3Dkubernetes.io/service-account-token";

static void start_row(struct kubernetes *k, const struct kind *kind)
{
	static const struct kube_watch_ops objects = {on_put, on_remove, on_settled},
					   config_map = {on_config_map, on_config_map_gone, on_settled};
	struct row *r = &k->rows[k->n - 1];
	struct kube_watch_options w = {.ctx = r};
	char version[32] = "v1";
	if (kind) {
		struct str first, rest = str_of(kind->versions);
		(void)str_split(&rest, ',', &first);
		(void)memcpy(version, first.ptr, min_size(first.len, sizeof(version) - 1));
		version[min_size(first.len, sizeof(version) - 1)] = '\0';
		w.group = kind->group;
		w.plural = kind->plural;
		w.kind = kind->name;
		w.selector = kind->id == KIND_SECRET ? not_certificates : NULL;
		w.ops = &objects;
	} else {
		w.group = "";
		w.plural = "configmaps";
		w.kind = "ConfigMap";
		w.namespace = k->o.root_namespace;
		w.selector = "fieldSelector=metadata.name%3Distio";
		w.ops = &config_map;
	}
	w.version = version;
	r->watch = kube_watch_new(k->api, &w);
}

struct kubernetes *kubernetes_new(struct loop *l, const struct kubernetes_options *o, struct err *e)
{
	struct kube *api = kube_new(l, &o->api, e);
	if (!api)
		return NULL;
	struct kubernetes *k = xzalloc(sizeof(*k));
	k->o = *o;
	k->api = api;
	for (unsigned i = 0; i <= KIND_COUNT; i++) {
		const struct kind *kind = i < KIND_COUNT ? kind_get((enum kind_id)i) : NULL;
		if (kind && (kind->id == KIND_MESH_CONFIG || kind->id == KIND_MESH_NETWORKS))
			continue;
		k->rows[k->n++] = (struct row){.owner = k, .kind = kind};
		start_row(k, kind);
	}
	return k;
}

void kubernetes_free(struct kubernetes *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->n; i++)
		kube_watch_free(k->rows[i].watch);
	kube_free(k->api);
	free(k);
}

struct kube *kubernetes_api(struct kubernetes *k)
{
	return k->api;
}

void kubernetes_missing(const struct kubernetes *k, struct strbuf *out)
{
	for (size_t i = 0; i < k->n; i++)
		if (!kube_watch_synced(k->rows[i].watch))
			strbuf_addf(out, "%s%s", out->len ? ", " : "",
				k->rows[i].kind ? k->rows[i].kind->plural : "configmaps");
}

uint64_t kubernetes_age_ms(const struct kubernetes *k)
{
	uint64_t age = 0;
	for (size_t i = 0; i < k->n; i++) {
		uint64_t own = kube_watch_age_ms(k->rows[i].watch);
		age = own > age ? own : age;
	}
	return age;
}

void kubernetes_debug(const struct kubernetes *k, struct strbuf *json)
{
	strbuf_adds(json, "{\"server\":");
	strbuf_add_json(json, str_of(kube_server(k->api)));
	strbuf_adds(json, ",\"watches\":[");
	for (size_t i = 0; i < k->n; i++) {
		strbuf_adds(json, i ? "," : "");
		kube_watch_debug(k->rows[i].watch, json);
	}
	strbuf_adds(json, "]}");
}
