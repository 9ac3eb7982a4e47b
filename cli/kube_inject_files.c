/*
 * DOC: What `fairlead kube-inject` reads of an installation: the three texts that Istio's documentation takes out of ConfigMaps. The mesh config is
 * galley's to judge, in this process. Of Helm values the table below says which become options of injection; an option that was given another
 * value than its default counts before them.
 */
#include "cli/kube_inject_files.h"

#include <stddef.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/pb/node.h"
#include "galley/galley.h"

/* One YAML or JSON map. The caller owns it. */
static bool read_map(struct arena *a, const char *path, json_t **out, struct err *e)
{
	struct strbuf json cleanup(strbuf_done) = {0};
	struct documents documents = {0};
	char *text cleanup(free_p) = NULL;
	struct diags diags;
	size_t len = 0;
	diags_init(&diags, a);
	if (!file_read(path, LIMIT_DOCUMENT_BYTES, &text, &len, e))
		return false;
	(void)yaml_parse(a, str_n(text, len), "", &documents, &diags);
	if (diags.errors)
		return err_set(e, ERR_PEER, "%s:%u: %.300s", path, diags.items[0].line, diags.items[0].text);
	if (documents.len != 1 || documents.items[0]->type != NODE_MAP)
		return err_set(e, ERR_PEER, "%s: one YAML map is expected", path);
	node_write_json(documents.items[0], &json);
	*out = json_loads(json.ptr, 0, NULL);
	return *out || err_set(e, ERR_PEER, "%s: one YAML map is expected", path);
}

/* ---- mesh config */

static bool judge(struct arena *a, struct galley *g, const char *path, const json_t *mesh, struct err *e)
{
	json_t *document = json_pack("{s:s, s:s, s:{s:s}, s:O}", "apiVersion", "fairlead.dev/v1", "kind", "MeshConfig",
		"metadata", "name", "default", "spec", mesh);
	char *text = json_dumps(document, JSON_COMPACT);
	struct diags diags;
	size_t n;
	diags_init(&diags, a);
	galley_put(g, str_of(path), str_of(text));
	(void)galley_commit(g, &n);
	galley_diags(g, &diags);
	free(text);
	json_decref(document);
	for (size_t i = 0; i < diags.len; i++)
		if (diags.items[i].severity == DIAG_ERROR)
			return err_set(e, ERR_PEER, "%s: %s: %.300s", path, diags.items[i].path, diags.items[i].text);
	return true;
}

static const char *text_in(struct arena *a, const json_t *o, const char *key, const char *fallback)
{
	const char *text = json_string_value(json_object_get(o, key));
	return text ? arena_strdup(a, text) : fallback;
}

bool inject_read_mesh(struct arena *a, const char *path, struct inject_options *o, struct err *e)
{
	struct strbuf config cleanup(strbuf_done) = {0};
	json_t *mesh = NULL;
	if (!read_map(a, path, &mesh, e))
		return false;
	struct galley *g = galley_new(NULL);
	bool ok = judge(a, g, path, mesh, e);
	if (ok) {
		galley_proxy_config(g, &config);
		if (config.len && str_empty(o->proxy_config))
			o->proxy_config = arena_strdup(a, config.ptr);
		o->no_metrics_merge |= !galley_merges_metrics(g);
		galley_capture_ports(g, &o->outbound_port, &o->inbound_port);
		o->trust_domain = text_in(a, mesh, "trustDomain", o->trust_domain);
		o->root_namespace = text_in(a, mesh, "rootNamespace", o->root_namespace);
	}
	galley_free(g);
	json_decref(mesh);
	return ok;
}

/* ---- Helm values */

enum value_type { VALUE_TEXT, VALUE_YES, VALUE_NO, VALUE_NAMES, VALUE_OBJECT };

static const struct row {
	const char *path;
	enum value_type type; /* YES: true sets the option, NO: false does */
	size_t at;
	const char *fallback; /* of the option */
} rows[] = {
#define AT(field) offsetof(struct inject_options, field)
	{"global.imagePullPolicy", VALUE_TEXT, AT(pull_policy), ""},
	{"global.imagePullSecrets", VALUE_NAMES, AT(pull_secrets), NULL},
	{"global.proxy.nativeSidecar", VALUE_YES, AT(native_sidecars), NULL},
	{"global.proxy.holdApplicationUntilProxyStarts", VALUE_YES, AT(hold_application), NULL},
	{"global.proxy.resources", VALUE_OBJECT, AT(resources), INJECT_RESOURCES},
	{"global.proxy.clusterDomain", VALUE_TEXT, AT(domain_suffix), "cluster.local"},
	{"global.multiCluster.clusterName", VALUE_TEXT, AT(cluster_id), "Kubernetes"},
	{"global.network", VALUE_TEXT, AT(network), ""},
	{"global.platform", VALUE_TEXT, AT(platform), ""},
	{"global.caAddress", VALUE_TEXT, AT(ca_address), ""},
	{"global.istioNamespace", VALUE_TEXT, AT(root_namespace), NULL},
	{"revision", VALUE_TEXT, AT(revision), ""},
	{"pilot.cni.enabled", VALUE_YES, AT(cni), NULL},
	{"sidecarInjectorWebhook.rewriteAppHTTPProbe", VALUE_NO, AT(no_probe_rewrite), NULL},
};

static json_t *value_at(const json_t *values, const char *path)
{
	struct str rest = str_of(path), part;
	while (str_split(&rest, '.', &part)) {
		char *key cleanup(free_p) = xstrndup(part.ptr, part.len);
		values = json_object_get(values, key);
	}
	return (json_t *)(uintptr_t)values;
}

/* Names, or objects with a name, as Kubernetes has them. */
static bool take_names(struct arena *a, const json_t *list, const char ***out)
{
	const char **names = ARENA_ARRAY(a, const char *, json_array_size(list) + 1);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		const char *name = json_string_value(json_is_object(item) ? json_object_get(item, "name") : item);
		if (!name)
			return false;
		names[i] = arena_strdup(a, name);
	}
	if (names[0] && !(*out && **out))
		*out = names;
	return json_is_array(list);
}

static bool take_value(struct arena *a, const struct row *row, const json_t *value, struct inject_options *o)
{
	void *field = (char *)o + row->at;
	if (row->type == VALUE_NAMES)
		return take_names(a, value, field);
	if (row->type == VALUE_YES || row->type == VALUE_NO) {
		*(bool *)field |= json_is_true(value) == (row->type == VALUE_YES);
		return json_is_boolean(value);
	}
	if (row->type == VALUE_OBJECT ? !json_is_object(value) : !json_is_string(value))
		return false;
	char *text = row->type == VALUE_OBJECT ? json_dumps(value, JSON_COMPACT) : xstrdup(json_string_value(value));
	if (*text && streq(*(const char **)field, row->fallback))
		*(const char **)field = arena_strdup(a, text);
	free(text);
	return true;
}

/* hub/name:tag, or the name as it is if it is an image. */
static void take_image(struct arena *a, const json_t *values, struct inject_options *o)
{
	const char *hub = json_string_value(value_at(values, "global.hub"));
	const char *tag = json_string_value(value_at(values, "global.tag"));
	const char *name = json_string_value(value_at(values, "global.proxy.image"));
	if (!str_empty(o->image) || str_empty(name))
		return;
	if (strchr(name, '/'))
		o->image = arena_strdup(a, name);
	else if (!str_empty(hub) && !str_empty(tag))
		o->image = arena_printf(a, "%s/%s:%s", hub, name, tag);
}

bool inject_read_values(struct arena *a, const char *path, struct inject_options *o, struct err *e)
{
	json_t *values = NULL;
	bool ok = read_map(a, path, &values, e);
	for (size_t i = 0; ok && i < ARRAY_LEN(rows); i++) {
		const json_t *value = value_at(values, rows[i].path);
		if (value && !json_is_null(value) && !take_value(a, &rows[i], value, o))
			ok = err_set(e, ERR_PEER, "%s: %s: another type is expected", path, rows[i].path);
	}
	if (ok)
		take_image(a, values, o);
	if (ok && !str_empty(o->root_namespace) && streq(o->discovery_address, INJECT_DISCOVERY_ADDRESS))
		o->discovery_address = arena_printf(a, "istiod.%s.svc:15012", o->root_namespace);
	json_decref(values);
	return ok;
}
