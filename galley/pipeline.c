#include "galley/pipeline.h"

#include "galley/kinds/secret.h"
#include "galley/selectors.h"

#include <stdlib.h>

#include "galley/kind.h"

/*
 * DOC: The commit. The store says which objects in force changed. Objects of Istio's kinds go out as they are. Inputs of discovery
 * make their namespace dirty: its services and endpoints are made anew, and the comparison of bytes in galley_galley_emit() finds what really
 * changed, so that one pod's readiness publishes one endpoint set. Nodes make every namespace dirty, the mesh config everything that
 * takes defaults from it. Allocated addresses are a function of all services that want one, and are assigned last.
 */

struct galley *galley_new(const struct galley_options *o)
{
	struct galley *g = xzalloc(sizeof(*g));
	g->domain_suffix = xstrdup(o && o->domain_suffix ? o->domain_suffix : "cluster.local");
	g->assume_sidecars = o && o->assume_sidecars;
	g->slices_only = o && o->slices_only;
	source_store_init(&g->store);
	g->spaces = map_new();
	g->published = map_new();
	g->mesh_dirty = true; /* the default mesh config is published even when there is none */
	return g;
}

void galley_free(struct galley *g)
{
	struct str key;
	void *value;
	if (!g)
		return;
	for (size_t i = 0; map_next(g->spaces, &i, &key, &value);) {
		struct space *s = value;
		arena_free(s->arena);
		free(s->ns);
		free(s);
	}
	for (size_t i = 0; map_next(g->published, &i, &key, &value);)
		free(value);
	map_free(g->spaces);
	map_free(g->published);
	source_store_done(&g->store);
	arena_free(g->batch);
	vec_done(&g->changed);
	vec_done(&g->changes);
	free(g->domain_suffix);
	free(g);
}

void galley_put(struct galley *g, struct str file, struct str text)
{
	source_store_put(&g->store, file, text, g->domain_suffix);
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

struct space *galley_space(struct galley *g, const char *ns)
{
	struct space *s = map_get(g->spaces, str_of(ns));
	if (s)
		return s;
	s = xzalloc(sizeof(*s));
	s->ns = xstrdup(ns);
	(void)map_put(g->spaces, str_of(ns), s);
	return s;
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
static struct label_set namespace_labels(struct galley *g, const char *ns)
{
	const struct slot *slot = map_get(g->store.slots, str_of(arena_printf(g->batch, "Namespace//%s", ns)));
	return slot && slot->good ? LABELS(slot->good->meta, labels) : (struct label_set){0};
}

static bool is_selected(struct galley *g, const Mesh__MeshConfig *mesh, const char *ns)
{
	return !mesh->n_discovery_selectors || namespace_selected(mesh, namespace_labels(g, ns), ns);
}

static void on_change(void *ctx, const struct slot *slot, const struct object *before)
{
	struct galley *g = ctx;
	const struct object *any = slot->good ? slot->good : before;
	if (slot->kind->id == KIND_MESH_CONFIG)
		g->mesh_dirty = true;
	else if (slot->kind->id == KIND_NODE)
		g->nodes_dirty = true;
	else if (slot->kind->id == KIND_NAMESPACE) {
		g->namespaces_dirty = true;
		if (slot->good)
			galley_emit(g, TOPIC_NAMESPACE, any->name, pack_namespace(g->batch, any), any->origin);
		else
			galley_emit_delete(g, TOPIC_NAMESPACE, any->name);
	} else if (slot->kind->topic == TOPIC_NONE)
		galley_space(g, any->ns)->dirty = true;
	else if (slot->good)
		vec_push(&g->changed, slot);
	else
		galley_emit_delete(g, slot->kind->topic, arena_printf(g->batch, "%s/%s", any->ns, any->name));
}

/* Of a Secret only what TLS can use leaves galley. false: nothing of the object does. */
static bool pack(struct galley *g, const struct object *o, const Mesh__MeshConfig *mesh, struct str *out)
{
	Fl__Credential c = FL__CREDENTIAL__INIT;
	if (!is_selected(g, mesh, o->ns))
		return false;
	if (o->kind->id != KIND_SECRET) {
		*out = pack_object(g->batch, o, mesh);
		return true;
	}
	if (!secret_credential(g->batch, (const Kube__Secret *)o->message, o->ns, o->name, &c))
		return false;
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

/* ---- discovery */

static bool is_input(enum kind_id kind)
{
	return kind == KIND_SERVICE || kind == KIND_ENDPOINT_SLICE || kind == KIND_POD || kind == KIND_WORKLOAD_ENTRY ||
	       kind == KIND_SERVICE_ENTRY;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct object *const *)a)->name, (*(const struct object *const *)b)->name);
}

static void sort_inputs(struct inputs *in)
{
	for (size_t i = 0; i < ARRAY_LEN(in->of); i++)
		if (in->of[i].len > 1)
			qsort(in->of[i].items, in->of[i].len, sizeof(*in->of[i].items), by_name);
}

static void inputs_done(struct inputs *in)
{
	for (size_t i = 0; i < ARRAY_LEN(in->of); i++)
		vec_done(&in->of[i]);
}

/* One pass for all namespaces that are made anew; nodes are everyone's. */
static void collect(struct galley *g, struct inputs *nodes)
{
	struct str key;
	void *value;
	for (size_t i = 0; map_next(g->store.slots, &i, &key, &value);) {
		const struct slot *slot = value;
		enum kind_id kind = slot->kind->id;
		if (!slot->good)
			continue;
		if (kind == KIND_NODE)
			vec_push(&nodes->of[kind], slot->good);
		struct space *s = is_input(kind) ? map_get(g->spaces, str_of(slot->good->ns)) : NULL;
		if (s && s->dirty)
			vec_push(&s->inputs.of[kind], slot->good);
	}
	sort_inputs(nodes);
}

static struct object_list list(const struct inputs *in, enum kind_id kind)
{
	return (struct object_list){in->of[kind].items, in->of[kind].len};
}

static void forget(struct galley *g, const struct space *s, const struct discovery_output *old)
{
	for (size_t i = 0; i < old->n; i++) {
		bool still = false;
		for (size_t lo = 0, hi = s->found.n; lo < hi && !still;) {
			size_t mid = lo + (hi - lo) / 2;
			int c = strcmp(s->found.items[mid].service->hostname, old->items[i].service->hostname);
			still = c == 0;
			if (c < 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (still)
			continue;
		const char *key = arena_printf(g->batch, "%s/%s", s->ns, old->items[i].service->hostname);
		galley_emit_delete(g, TOPIC_SERVICE, key);
		galley_emit_delete(g, TOPIC_ENDPOINTS, key);
	}
}

static void rebuild(struct galley *g, struct space *s, const struct inputs *nodes, const Mesh__MeshConfig *mesh)
{
	static char everyone[] = "*";
	char *const fallback[] = {everyone};
	if (!is_selected(g, mesh, s->ns))
		inputs_done(&s->inputs);
	sort_inputs(&s->inputs);
	const struct discovery_input input = {
		.ns = s->ns,
		.domain_suffix = g->domain_suffix,
		.assume_sidecars = g->assume_sidecars,
		.slices_only = g->slices_only,
		.services = list(&s->inputs, KIND_SERVICE),
		.slices = list(&s->inputs, KIND_ENDPOINT_SLICE),
		.pods = list(&s->inputs, KIND_POD),
		.workloads = list(&s->inputs, KIND_WORKLOAD_ENTRY),
		.entries = list(&s->inputs, KIND_SERVICE_ENTRY),
		.nodes = list(nodes, KIND_NODE),
		.visibility = namespace_visibility(mesh, namespace_labels(g, s->ns), s->ns),
		.export_to = mesh->n_default_service_export_to ? mesh->default_service_export_to : fallback,
		.n_export_to = mesh->n_default_service_export_to ? mesh->n_default_service_export_to : 1,
	};
	UNUSED cleanup(arena_free_p) struct arena *before = s->arena; /* forget() still reads what lies in it */
	struct discovery_output old = s->found;
	s->arena = arena_new();
	discovery_build(s->arena, &input, &s->found);
	inputs_done(&s->inputs);
	forget(g, s, &old);
}

struct want {
	struct str key;
	struct space *space;
	size_t index;
};

static int by_key(const void *a, const void *b)
{
	return str_cmp(((const struct want *)a)->key, ((const struct want *)b)->key);
}

static void assign_addresses(struct galley *g)
{
	VEC(struct want) wants = {0};
	struct str ns;
	void *value;
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);) {
		struct space *s = value;
		for (size_t k = 0; k < s->found.n; k++) {
			struct want w = {.space = s, .index = k};
			if (!s->found.items[k].wants_address)
				continue;
			w.key = str_of(arena_printf(g->batch, "%s/%s", s->ns, s->found.items[k].service->hostname));
			vec_push(&wants, w);
		}
	}
	if (wants.len) {
		qsort(wants.items, wants.len, sizeof(*wants.items), by_key);
		struct str *keys = ARENA_ARRAY(g->batch, struct str, wants.len);
		const char **addresses = ARENA_ARRAY(g->batch, const char *, wants.len);
		for (size_t i = 0; i < wants.len; i++)
			keys[i] = wants.items[i].key;
		allocate_addresses(g->batch, keys, wants.len, addresses);
		for (size_t i = 0; i < wants.len; i++) {
			struct space *s = wants.items[i].space;
			Fl__Service *service = s->found.items[wants.items[i].index].service;
			if (streq(service->auto_address, addresses[i]))
				continue;
			service->auto_address = arena_strdup(s->arena, addresses[i]);
			s->dirty = true; /* moved by another's arrival: publish it again */
		}
	}
	vec_done(&wants);
}

static void emit_space(struct galley *g, struct space *s)
{
	for (size_t i = 0; i < s->found.n; i++) {
		const struct discovered *d = &s->found.items[i];
		const char *key = arena_printf(g->batch, "%s/%s", s->ns, d->service->hostname);
		galley_emit(g, TOPIC_SERVICE, key, pb_pack(g->batch, d->service), d->origin);
		galley_emit(g, TOPIC_ENDPOINTS, key, pb_pack(g->batch, d->endpoints), d->origin);
	}
	s->dirty = false;
}

static void discover(struct galley *g, const Mesh__MeshConfig *mesh)
{
	struct str ns;
	void *value;
	bool any = false;
	struct inputs nodes = {0};
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);) {
		struct space *s = value;
		s->dirty |= g->mesh_dirty || g->nodes_dirty;
		any |= s->dirty;
	}
	if (!any)
		return;
	collect(g, &nodes);
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);)
		if (((struct space *)value)->dirty)
			rebuild(g, value, &nodes, mesh);
	inputs_done(&nodes);
	assign_addresses(g);
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);)
		if (((struct space *)value)->dirty)
			emit_space(g, value);
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
	discover(g, mesh);
	g->mesh_dirty = g->nodes_dirty = g->namespaces_dirty = false;
	*n = g->changes.len;
	return g->changes.items;
}
