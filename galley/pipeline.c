#include "galley/pipeline.h"

#include "galley/kinds/secret.h"
#include "galley/selectors.h"

#include <stdlib.h>

#include "common/pb/json.h"
#include "galley/kind.h"

/*
 * DOC: The commit. The store says which objects in force changed. Objects of Istio's kinds go out as they are; what discovery reads goes to
 * its namespace (spaces.c). The mesh config changes everything that takes defaults from it.
 */

struct galley *galley_new(const struct galley_options *o)
{
	struct galley *g = xzalloc(sizeof(*g));
	g->revision = xstrdup(o && o->revision ? o->revision : "");
	g->domain_suffix = xstrdup(o && o->domain_suffix ? o->domain_suffix : "cluster.local");
	g->cluster = xstrdup(o && o->cluster ? o->cluster : "Kubernetes");
	g->assume_sidecars = o && o->assume_sidecars;
	g->slices_only = o && o->slices_only;
	g->guard_secrets = o && o->guard_secrets;
	source_store_init(&g->store);
	g->spaces = map_new();
	g->published = map_new();
	g->mesh_dirty = true; /* the default mesh config is published even when there is none */
	g->changed_kinds[KIND_MESH_CONFIG] = g->changed_kinds[KIND_WORKLOAD_GROUP] = true;
	return g;
}

void galley_free(struct galley *g)
{
	struct str key;
	void *value;
	if (!g)
		return;
	for (size_t i = 0; map_next(g->spaces, &i, &key, &value);)
		space_free(value);
	for (size_t i = 0; map_next(g->published, &i, &key, &value);)
		free(value);
	map_free(g->spaces);
	map_free(g->published);
	source_store_done(&g->store);
	arena_free(g->batch);
	vec_done(&g->nodes.slots);
	vec_done(&g->changed);
	vec_done(&g->changes);
	networks_done(&g->networks);
	free(g->cluster);
	free(g->domain_suffix);
	free(g->revision);
	free(g);
}

void galley_put(struct galley *g, struct str file, struct str text)
{
	source_store_put(&g->store, file, text, &(struct document_options){NULL, g->domain_suffix, g->revision});
}

void galley_ahead(struct galley *g, const struct source_text *files, size_t n)
{
	source_store_ahead(&g->store, files, n, &(struct document_options){NULL, g->domain_suffix, g->revision});
}

void galley_remove(struct galley *g, struct str file)
{
	source_store_remove(&g->store, file);
}

bool galley_looks_whole(const struct galley *g, struct str file, struct str text)
{
	const struct unit *before = source_store_unit(&g->store, file);
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct documents documents = {0};
	struct diags diags;
	diags_init(&diags, a);
	if (!yaml_parse(a, text, "", &documents, &diags) || diags.errors)
		return false;
	size_t maps = 0;
	for (size_t i = 0; i < documents.len; i++)
		maps += documents.items[i]->type == NODE_MAP;
	return maps > 0 || !before || before->documents.len == 0;
}

const Mesh__MeshConfig *galley_mesh(const struct galley *g, struct arena *scratch)
{
	const struct slot *slot = map_get(g->store.slots, STR("MeshConfig//default"));
	if (slot && slot->good)
		return (const Mesh__MeshConfig *)slot->good->message;
	struct normal n = {scratch, STR(""), str_of(g->domain_suffix)};
	Mesh__MeshConfig *m = PB_NEW(scratch, Mesh__MeshConfig, mesh__mesh_config);
	kind_ops(KIND_MESH_CONFIG)->normalise(&n, m);
	return m;
}

/* ---- what changed */

/* The labels of a namespace; none when no object defines it. */
struct label_set galley_namespace_labels(struct galley *g, const char *ns)
{
	const struct slot *slot = map_get(g->store.slots, str_of(arena_printf(g->batch, "Namespace//%s", ns)));
	return slot && slot->good ? LABELS(slot->good->meta, labels) : (struct label_set){0};
}

const char *galley_namespace_annotation(const struct galley *g, const char *ns, const char *annotation)
{
	char *key cleanup(free_p) = xasprintf("Namespace//%s", ns);
	const struct slot *slot = map_get(g->store.slots, str_of(key));
	return slot && slot->good ? object_annotation(slot->good, annotation) : NULL;
}

void galley_proxy_config(const struct galley *g, struct strbuf *json)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct strbuf text cleanup(strbuf_done) = {0};
	pb_to_json(galley_mesh(g, a)->default_config, &(struct pb_encode_options){0}, &text);
	if (!str_eqc(strbuf_str(&text), "{}"))
		strbuf_add(json, strbuf_str(&text));
}

void galley_capture_ports(const struct galley *g, uint32_t *outbound, uint32_t *inbound)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const Mesh__MeshConfig *m = galley_mesh(g, a);
	*outbound = m->proxy_listen_port > 0 ? (uint32_t)m->proxy_listen_port : 15001;
	*inbound = m->proxy_inbound_listen_port > 0 ? (uint32_t)m->proxy_inbound_listen_port : 15006;
}

bool galley_merges_metrics(const struct galley *g)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const Wkt__BoolValue *merge = galley_mesh(g, a)->enable_prometheus_merge;
	return !merge || merge->value;
}

static int by_age(const void *a, const void *b)
{
	const struct object *x = *(struct object *const *)a, *y = *(struct object *const *)b;
	int order = (x->created_ms > y->created_ms) - (x->created_ms < y->created_ms);
	order = order ? order : strcmp(x->ns, y->ns);
	return order ? order : strcmp(x->name, y->name);
}

void galley_proxy_configs(const struct galley *g, struct strbuf *json)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const struct object **list = ARENA_ARRAY(a, const struct object *, map_len(g->store.slots) + 1);
	struct str key;
	void *value;
	size_t n = 0;
	for (size_t i = 0; map_next(g->store.slots, &i, &key, &value);) {
		const struct slot *slot = value;
		if (slot->kind->id == KIND_PROXY_CONFIG && slot->good)
			list[n++] = slot->good;
	}
	qsort(list, n, sizeof(*list), by_age);
	strbuf_addc(json, '[');
	for (size_t i = 0; i < n; i++) {
		strbuf_addf(json, "%s{\"metadata\":{\"namespace\":", i ? "," : "");
		strbuf_add_json(json, str_of(list[i]->ns));
		strbuf_adds(json, ",\"name\":");
		strbuf_add_json(json, str_of(list[i]->name));
		strbuf_adds(json, "},\"spec\":");
		pb_to_json(list[i]->message, &(struct pb_encode_options){0}, json);
		strbuf_addc(json, '}');
	}
	strbuf_addc(json, ']');
}

static bool credential_of(struct arena *a, const struct object *o, Fl__Credential *out)
{
	return o->kind->id == KIND_SECRET
		       ? secret_credential(a, (const Kube__Secret *)o->message, o->ns, o->name, out)
		       : config_map_credential(a, (const Kube__ConfigMap *)o->message, o->ns, o->name, out);
}

static bool is_guarded(struct arena *a, const struct slot *slot)
{
	Fl__Credential c;
	return slot->kind->id == KIND_SECRET && slot->good && credential_of(a, slot->good, &c) && c.certificate.len;
}

void galley_guarded_accounts(const struct galley *g, void (*fn)(void *ctx, struct str key), void *ctx)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(map_free_p) struct map *namespaces = map_new();
	struct str key;
	void *value;
	for (size_t i = 0; g->guard_secrets && map_next(g->store.slots, &i, &key, &value);)
		if (is_guarded(a, value))
			(void)map_put(namespaces, str_of(((const struct slot *)value)->good->ns), value);
	for (size_t i = 0; map_len(namespaces) && map_next(g->store.slots, &i, &key, &value);) {
		const struct slot *slot = value;
		const struct object *o = slot->good;
		if (slot->kind->id == KIND_SERVICE_ACCOUNT && o && map_get(namespaces, str_of(o->ns)))
			fn(ctx, str_of(arena_printf(a, "%s/%s", o->ns, o->name)));
	}
}

bool galley_kind_changed(struct galley *g, enum kind_id kind)
{
	bool changed = g->changed_kinds[kind];
	g->changed_kinds[kind] = false;
	return changed;
}

bool galley_accounts_changed(struct galley *g)
{
	bool secrets = galley_kind_changed(g, KIND_SECRET), accounts = galley_kind_changed(g, KIND_SERVICE_ACCOUNT);
	return secrets || accounts;
}

bool galley_selects(struct galley *g, const Mesh__MeshConfig *mesh, const char *ns)
{
	return !mesh->n_discovery_selectors || namespace_selected(mesh, galley_namespace_labels(g, ns), ns);
}

static void on_change(void *ctx, struct slot *slot, const struct object *before)
{
	struct galley *g = ctx;
	const struct object *any = slot->good ? slot->good : before;
	g->changed_kinds[slot->kind->id] = true;
	networks_note(g, slot, before);
	if (slot->kind->id == KIND_MESH_CONFIG)
		g->mesh_dirty = true;
	else if (slot->kind->id == KIND_NODE)
		space_note_node(g, slot, before);
	else if (slot->kind->id == KIND_NAMESPACE) {
		g->namespaces_dirty = true;
		if (slot->good)
			galley_emit(g, TOPIC_NAMESPACE, any->name, pack_namespace(g->batch, any), any->origin);
		else
			galley_emit_delete(g, TOPIC_NAMESPACE, any->name);
	} else if (slot->kind->topic == TOPIC_NONE)
		space_note(g, slot, before);
	else if (slot->good)
		vec_push(&g->changed, slot);
	else
		galley_emit_delete(g, slot->kind->topic, arena_printf(g->batch, "%s/%s", any->ns, any->name));
}

/* Of a Secret or a ConfigMap only what TLS can use leaves galley. false: nothing of the object does. */
static bool pack(struct galley *g, const struct object *o, const Mesh__MeshConfig *mesh, struct str *out)
{
	Fl__Credential c = FL__CREDENTIAL__INIT;
	if (!galley_selects(g, mesh, o->ns))
		return false;
	if (o->kind->id != KIND_SECRET && o->kind->id != KIND_CONFIG_MAP) {
		*out = pack_object(g->batch, o, mesh);
		return true;
	}
	if (!credential_of(g->batch, o, &c))
		return false;
	c.guarded = g->guard_secrets && c.certificate.len;
	*out = pb_pack(g->batch, &c);
	return true;
}

static void emit_object(struct galley *g, const struct object *o, const Mesh__MeshConfig *mesh)
{
	const char *key = arena_printf(g->batch, "%s/%s", o->ns, o->name);
	struct str value;
	if (pack(g, o, mesh, &value))
		galley_emit(g, o->kind->topic, key, value, o->origin);
	else
		galley_emit_delete(g, o->kind->topic, key);
}

static void emit_mesh(struct galley *g, const Mesh__MeshConfig *mesh)
{
	const struct slot *slot = map_get(g->store.slots, STR("MeshConfig//default"));
	Kube__ObjectMeta meta = KUBE__OBJECT_META__INIT;
	struct object fallback = {
		.kind = kind_get(KIND_MESH_CONFIG), .ns = "", .name = "default", .meta = &meta, .message = &mesh->base};
	const struct object *o = slot && slot->good ? slot->good : &fallback;
	galley_emit(g, TOPIC_MESH, "default", pack_object(g->batch, o, mesh), o->origin ? o->origin : "default");
}

static bool has_topic(enum kind_id kind)
{
	return kind != KIND_MESH_CONFIG && kind != KIND_NAMESPACE && kind_get(kind)->topic != TOPIC_NONE;
}

/* Everything may take defaults from the mesh config or be left out by it; what packs to the same bytes is dropped. */
static void everything_again(struct galley *g, const Mesh__MeshConfig *mesh)
{
	struct str key;
	void *value;
	for (size_t i = 0; map_next(g->store.slots, &i, &key, &value);) {
		const struct slot *slot = value;
		if (slot->good && has_topic(slot->kind->id))
			emit_object(g, slot->good, mesh);
	}
}

void galley_release(struct galley *g)
{
	arena_free(take(g->batch));
	vec_done(&g->changes);
	vec_done(&g->changed);
}

const struct bus_change *galley_commit(struct galley *g, size_t *n)
{
	galley_release(g);
	g->batch = arena_new();
	source_store_settle(&g->store, on_change, g);
	const Mesh__MeshConfig *mesh = galley_mesh(g, g->batch);
	/* Labels of namespaces count only where something selects by them. */
	if (g->namespaces_dirty && (mesh->n_discovery_selectors || mesh->service_entry_visibility))
		g->mesh_dirty = true;
	if (g->mesh_dirty) {
		emit_mesh(g, mesh);
		everything_again(g, mesh);
	}
	for (size_t i = 0; i < g->changed.len; i++)
		emit_object(g, g->changed.items[i]->good, mesh);
	/* All endpoints say their network. */
	g->nodes_dirty |= networks_make(g, mesh);
	spaces_discover(g, mesh);
	g->mesh_dirty = g->nodes_dirty = g->namespaces_dirty = false;
	*n = g->changes.len;
	return g->changes.items;
}
