#include "galley/pipeline.h"

#include <stdlib.h>

#include "cfg/networking/workload_entry.pb-c.h"
#include "galley/selectors.h"

/*
 * DOC: Discovery, kept up. An input makes services dirty: a Service, a ServiceEntry and an EndpointSlice those that they name, a
 * WorkloadEntry those whose selector fits it now or fitted it before. These services are made anew, out of all that they depend on, and
 * take the places of what they were; the others stay. Pods, nodes, namespaces and the mesh config make all services of a namespace
 * dirty. The comparison of bytes in galley_emit() finds what really changed, so that one pod's readiness publishes one endpoint set.
 *
 * What is replaced stays in its arena until all services of the namespace are made anew, which happens after LATER_MAX changes at the latest.
 * Allocated addresses are a function of all services that want one, and are assigned last.
 */

#define LATER_MAX 32

/* ---- what an input concerns */

static bool is_input(enum kind_id kind)
{
	return kind == KIND_SERVICE || kind == KIND_ENDPOINT_SLICE || kind == KIND_POD || kind == KIND_WORKLOAD_ENTRY ||
	       kind == KIND_SERVICE_ENTRY;
}

/* An object that comes goes to the end, the last one takes the place of one that goes. */
static void keep_listed(struct slot_list *l, struct slot *slot, const struct object *before)
{
	if (slot->good && !before) {
		slot->place = l->slots.len;
		vec_push(&l->slots, slot);
	} else if (!slot->good && before) {
		struct slot *last = l->slots.items[--l->slots.len];
		l->slots.items[slot->place] = last;
		last->place = slot->place;
	}
}

static struct space *space_of(struct galley *g, const char *ns)
{
	struct space *s = map_get(g->spaces, str_of(ns));
	if (s)
		return s;
	s = xzalloc(sizeof(*s));
	s->ns = xstrdup(ns);
	(void)map_put(g->spaces, str_of(ns), s);
	return s;
}

static void free_later(struct space *s)
{
	for (size_t i = 0; i < s->later.len; i++)
		arena_free(s->later.items[i]);
	vec_done(&s->later);
}

void space_free(struct space *s)
{
	arena_free(s->arena);
	free_later(s);
	free(s->items);
	map_free(s->hosts);
	vec_done(&s->members.slots);
	free(s->ns);
	free(s);
}

static void add_host(struct space *s, const char *host)
{
	if (!s->hosts)
		s->hosts = map_new();
	(void)map_put(s->hosts, str_of(host), s);
}

static bool has_host(const struct space *s, const char *host)
{
	return s->hosts && map_get(s->hosts, str_of(host));
}

static char *kubernetes_host(struct galley *g, const struct space *s, const char *service)
{
	return arena_printf(g->batch, "%s.%s.svc.%s", service, s->ns, g->domain_suffix);
}

/* fn for each host that a Service, a ServiceEntry or an EndpointSlice has a part in; until it returns true, which is the result. */
static bool each_host(
	struct galley *g, struct space *s, const struct object *o, bool (*fn)(struct space *s, const char *host))
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	const char *service = o->kind->id == KIND_SERVICE ? o->name : NULL;
	bool found = false;
	if (o->kind->id == KIND_ENDPOINT_SLICE)
		service = object_label(o, "kubernetes.io/service-name");
	if (service)
		return fn(s, kubernetes_host(g, s, service));
	for (size_t i = 0; o->kind->id == KIND_SERVICE_ENTRY && i < se->n_hosts && !found; i++)
		found = fn(s, se->hosts[i]);
	return found;
}

static bool note_host(struct space *s, const char *host)
{
	add_host(s, host);
	return false;
}

static bool is_noted(struct space *s, const char *host)
{
	return has_host(s, host);
}

static bool selects(const struct object *o, struct label_set labels)
{
	if (o->kind->id == KIND_SERVICE) {
		const Kube__ServiceSpec *spec = ((const Kube__Service *)o->message)->spec;
		return spec && spec->n_selector && labels_match(LABELS(spec, selector), labels);
	}
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	return o->kind->id == KIND_SERVICE_ENTRY && se->workload_selector &&
	       labels_match(LABELS(se->workload_selector, labels), labels);
}

static struct label_set workload_labels(const struct object *o)
{
	const Cfg__WorkloadEntry *w = (const Cfg__WorkloadEntry *)o->message;
	return LABELS(w, labels);
}

static void note_workload(struct galley *g, struct space *s, const struct object *o)
{
	for (size_t i = 0; i < s->members.slots.len; i++) {
		const struct object *other = s->members.slots.items[i]->good;
		if (selects(other, workload_labels(o)))
			(void)each_host(g, s, other, note_host);
	}
}

static void note_object(struct galley *g, struct space *s, const struct object *o)
{
	if (!o || s->dirty)
		return;
	if (o->kind->id == KIND_WORKLOAD_ENTRY)
		note_workload(g, s, o);
	else if (o->kind->id == KIND_POD)
		s->dirty = true;
	else
		(void)each_host(g, s, o, note_host);
}

void space_note(struct galley *g, struct slot *slot, const struct object *before)
{
	if (!is_input(slot->kind->id))
		return;
	struct space *s = space_of(g, slot->good ? slot->good->ns : before->ns);
	keep_listed(&s->members, slot, before);
	s->dirty |= !s->arena || s->later.len >= LATER_MAX;
	note_object(g, s, before);
	note_object(g, s, slot->good);
}

void space_note_node(struct galley *g, struct slot *slot, const struct object *before)
{
	g->nodes_dirty = true;
	keep_listed(&g->nodes, slot, before);
}

/* ---- inputs */

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

static void collect(const struct slot_list *l, struct inputs *out)
{
	for (size_t i = 0; i < l->slots.len; i++)
		vec_push(&out->of[l->slots.items[i]->kind->id], l->slots.items[i]->good);
	sort_inputs(out);
}

static bool is_selected(const struct inputs *in, const struct object *workload)
{
	static const enum kind_id kinds[] = {KIND_SERVICE, KIND_SERVICE_ENTRY};
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (size_t i = 0; i < in->of[kinds[k]].len; i++)
			if (selects(in->of[kinds[k]].items[i], workload_labels(workload)))
				return true;
	return false;
}

/* All that the noted hosts depend on. Pods are found by name and address as well, so they are given whole. */
static void collect_noted(struct galley *g, struct space *s)
{
	struct inputs *in = &s->inputs;
	for (size_t i = 0; i < s->members.slots.len; i++) {
		const struct object *o = s->members.slots.items[i]->good;
		if (o->kind->id == KIND_POD || each_host(g, s, o, is_noted))
			vec_push(&in->of[o->kind->id], o);
	}
	for (size_t i = 0; i < s->members.slots.len; i++) {
		const struct object *o = s->members.slots.items[i]->good;
		if (o->kind->id == KIND_WORKLOAD_ENTRY && is_selected(in, o))
			vec_push(&in->of[o->kind->id], o);
	}
	sort_inputs(in);
}

static struct object_list list(const struct inputs *in, enum kind_id kind)
{
	return (struct object_list){in->of[kind].items, in->of[kind].len};
}

/* ---- making */

static void build(struct galley *g, struct space *s, const struct inputs *nodes, const Mesh__MeshConfig *mesh,
	struct arena *a, struct discovery_output *out)
{
	static char everyone[] = "*";
	char *const fallback[] = {everyone};
	if (!galley_selects(g, mesh, s->ns))
		inputs_done(&s->inputs);
	const struct discovery_input input = {
		.ns = s->ns,
		.domain_suffix = g->domain_suffix,
		.assume_sidecars = g->assume_sidecars,
		.slices_only = g->slices_only,
		.cluster = g->cluster,
		.networks = &g->networks.list,
		.services = list(&s->inputs, KIND_SERVICE),
		.slices = list(&s->inputs, KIND_ENDPOINT_SLICE),
		.pods = list(&s->inputs, KIND_POD),
		.workloads = list(&s->inputs, KIND_WORKLOAD_ENTRY),
		.entries = list(&s->inputs, KIND_SERVICE_ENTRY),
		.nodes = list(nodes, KIND_NODE),
		.visibility = namespace_visibility(mesh, galley_namespace_labels(g, s->ns), s->ns),
		.export_to = mesh->n_default_service_export_to ? mesh->default_service_export_to : fallback,
		.n_export_to = mesh->n_default_service_export_to ? mesh->n_default_service_export_to : 1,
	};
	discovery_build(a, &input, out);
	inputs_done(&s->inputs);
}

static void forget(struct galley *g, const struct space *s, const struct discovery_output *old)
{
	for (size_t i = 0, k = 0; i < old->n; i++) {
		const char *host = old->items[i].service->hostname;
		while (k < s->found.n && strcmp(s->found.items[k].service->hostname, host) < 0)
			k++;
		if (k < s->found.n && streq(s->found.items[k].service->hostname, host))
			continue;
		const char *key = arena_printf(g->batch, "%s/%s", s->ns, host);
		galley_emit_delete(g, TOPIC_SERVICE, key);
		galley_emit_delete(g, TOPIC_ENDPOINTS, key);
	}
}

static void count_endpoints(struct space *s)
{
	s->endpoints = 0;
	for (size_t i = 0; i < s->found.n; i++)
		s->endpoints += s->found.items[i].endpoints->n_endpoints;
}

static void make_all(struct galley *g, struct space *s, const struct inputs *nodes, const Mesh__MeshConfig *mesh)
{
	UNUSED cleanup(arena_free_p) struct arena *before = s->arena; /* forget() still reads what lies in it */
	struct discovery_output old = s->found;
	s->arena = arena_new();
	collect(&s->members, &s->inputs);
	build(g, s, nodes, mesh, s->arena, &s->found);
	forget(g, s, &old);
	count_endpoints(s);
	free_later(s);
	free(take(s->items));
	map_free(take(s->hosts));
}

/* Both are in order of host; of the noted ones `fresh` counts, and it counts for no others: those may lack inputs. */
static void merge(struct space *s, const struct discovery_output *fresh)
{
	const struct discovery_output old = s->found;
	struct discovered *items = xmalloc((old.n + fresh->n + 1) * sizeof(*items));
	size_t n = 0, k = 0;
	for (size_t i = 0; i < old.n || k < fresh->n;) {
		int c = i == old.n      ? 1
			: k == fresh->n ? -1
					: strcmp(old.items[i].service->hostname, fresh->items[k].service->hostname);
		const struct discovered *d = c < 0 ? &old.items[i] : &fresh->items[k];
		bool noted = has_host(s, d->service->hostname);
		if (c < 0 ? !noted : noted)
			items[n++] = *d;
		else if (c == 0) /* not noted: the old one stays */
			items[n++] = old.items[i];
		i += c <= 0;
		k += c >= 0;
	}
	s->found = (struct discovery_output){items, n};
}

static bool wants_address(const struct space *s, const struct discovery_output *found)
{
	for (size_t i = 0; i < found->n; i++)
		if (found->items[i].wants_address && has_host(s, found->items[i].service->hostname))
			return true;
	return false;
}

/* True: addresses may have to move. */
static bool make_noted(struct galley *g, struct space *s, const struct inputs *nodes, const Mesh__MeshConfig *mesh)
{
	struct arena *a = arena_new();
	const struct discovery_output old = s->found;
	UNUSED cleanup(free_p) struct discovered *before = s->items;
	struct discovery_output fresh;
	collect_noted(g, s);
	build(g, s, nodes, mesh, a, &fresh);
	merge(s, &fresh);
	s->items = s->found.items;
	vec_push(&s->later, a);
	forget(g, s, &old);
	count_endpoints(s);
	return wants_address(s, &old) || wants_address(s, &s->found);
}

/* ---- addresses */

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
		struct allocated *addresses = ARENA_ARRAY(g->batch, struct allocated, wants.len);
		for (size_t i = 0; i < wants.len; i++)
			keys[i] = wants.items[i].key;
		allocate_addresses(g->batch, keys, wants.len, addresses);
		for (size_t i = 0; i < wants.len; i++) {
			struct space *s = wants.items[i].space;
			Fl__Service *service = s->found.items[wants.items[i].index].service;
			if (streq(service->auto_address, addresses[i].v4))
				continue;
			service->auto_address = arena_strdup(s->arena, addresses[i].v4);
			service->auto_address_v6 = arena_strdup(s->arena, addresses[i].v6);
			s->dirty = true; /* moved by another's arrival: publish it again */
		}
	}
	vec_done(&wants);
}

/* ---- all of it */

static void emit_space(struct galley *g, struct space *s)
{
	for (size_t i = 0; i < s->found.n; i++) {
		const struct discovered *d = &s->found.items[i];
		if (!s->dirty && !has_host(s, d->service->hostname))
			continue;
		const char *key = arena_printf(g->batch, "%s/%s", s->ns, d->service->hostname);
		galley_emit(g, TOPIC_SERVICE, key, pb_pack(g->batch, d->service), d->origin);
		galley_emit(g, TOPIC_ENDPOINTS, key, pb_pack(g->batch, d->endpoints), d->origin);
	}
	s->dirty = false;
	map_free(take(s->hosts));
}

void spaces_discover(struct galley *g, const Mesh__MeshConfig *mesh)
{
	struct str ns;
	void *value;
	bool any = false, assign = false;
	struct inputs nodes = {0};
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);) {
		struct space *s = value;
		s->dirty |= g->mesh_dirty || g->nodes_dirty;
		any |= s->dirty || s->hosts;
	}
	if (!any)
		return;
	collect(&g->nodes, &nodes);
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);) {
		struct space *s = value;
		if (s->dirty)
			make_all(g, s, &nodes, mesh);
		assign |= s->dirty || (s->hosts && make_noted(g, s, &nodes, mesh));
	}
	inputs_done(&nodes);
	if (assign)
		assign_addresses(g);
	for (size_t i = 0; map_next(g->spaces, &i, &ns, &value);)
		if (((struct space *)value)->dirty || ((struct space *)value)->hosts)
			emit_space(g, value);
}
