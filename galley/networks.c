#include "galley/pipeline.h"

#include <stdlib.h>

#include "cfg/mesh_network.pb-c.h"
#include "common/base/ip.h"
#include "common/mesh/labels.h"
#include "common/pb/node.h"

/*
 * DOC: The networks of the mesh. Three things say what they are: the object MeshNetworks (address blocks, clusters, gateways), the label of the
 * root namespace (the network of everything that no other rule puts elsewhere), and labels of Services that stand before a network's gateways.
 * A change of who is where makes all endpoints again, a change of gateways none: they are values of their own on the bus.
 *
 * Gateways may be named instead of numbered. Who looks names up (gateway_names.c) asks for them and tells what came of it; until then the
 * network has a gateway without an address, which pilot knows not to go around.
 */

struct looked_up {
	char **addresses; /* sorted */
	size_t n;
};

struct build {
	struct galley *g;
	struct arena *arena;
	struct map *by_name; /* -> Fl__Network * */
	struct map *wanted; /* host names of gateways */
};

static void looked_up_free(struct looked_up *l)
{
	for (size_t i = 0; l && i < l->n; i++)
		free(l->addresses[i]);
	if (l)
		free(l->addresses);
	free(l);
}

void networks_done(struct networks *n)
{
	struct str key;
	void *value;
	for (size_t i = 0; n->hosts && map_next(n->hosts, &i, &key, &value);)
		looked_up_free(value);
	map_free(n->hosts);
	arena_free(n->arena);
}

/* ---- what concerns them */

static const char *network_label(const struct object *o)
{
	const char *label = o ? object_label(o, LABEL_NETWORK) : NULL;
	return label ? label : "";
}

void networks_note(struct galley *g, const struct slot *slot, const struct object *before)
{
	enum kind_id kind = slot->kind->id;
	if (kind == KIND_MESH_NETWORKS)
		g->networks.dirty = true;
	else if (kind == KIND_NAMESPACE)
		g->networks.dirty |= !streq(network_label(before), network_label(slot->good));
	else if (kind == KIND_SERVICE)
		g->networks.dirty |= g->networks.by_service || *network_label(before) || *network_label(slot->good);
	else if (kind == KIND_NODE)
		g->networks.dirty |= g->networks.by_node;
}

/* ---- making */

static Fl__Network *network_named(struct build *b, const char *name)
{
	Fl__Network *n = map_get(b->by_name, str_of(name));
	if (n)
		return n;
	n = PB_NEW(b->arena, Fl__Network, fl__network);
	n->name = arena_strdup(b->arena, name);
	(void)map_put(b->by_name, str_of(name), n);
	return n;
}

static void add_address(
	struct build *b, Fl__Network *n, const char *address, const char *host, uint32_t port, const char *cluster)
{
	Fl__Network__Gateway *gw = PB_NEW(b->arena, Fl__Network__Gateway, fl__network__gateway);
	gw->address = arena_strdup(b->arena, address);
	gw->host = arena_strdup(b->arena, host);
	gw->port = port;
	gw->cluster = arena_strdup(b->arena, cluster);
	pb_add(b->arena, n, gateways, gw);
}

static void add_gateway(struct build *b, Fl__Network *n, const char *address, uint32_t port, const char *cluster)
{
	uint8_t bytes[16];
	unsigned bits;
	if (ip_parse(str_of(address), bytes, &bits)) {
		add_address(b, n, address, "", port, cluster);
		return;
	}
	const struct looked_up *found = b->g->networks.hosts ? map_get(b->g->networks.hosts, str_of(address)) : NULL;
	(void)map_put(b->wanted, str_of(address), b);
	for (size_t i = 0; found && i < found->n; i++)
		add_address(b, n, found->addresses[i], address, port, cluster);
	if (!found || !found->n)
		add_address(b, n, "", address, port, cluster);
}

/* ---- a Service on ports of nodes */

/* "label=value,..." as Istio documents it, or the JSON object that it reads. */
static bool node_has(struct build *b, const struct object *node, struct str selector)
{
	struct diags diags;
	struct node *json;
	struct str part, key, value;
	diags_init(&diags, b->arena);
	if (str_starts(selector, STR("{"))) {
		bool has = json_parse(b->arena, selector, &json, &diags) && json->type == NODE_MAP;
		for (size_t i = 0; has && i < json->len; i++) {
			const char *name = arena_cstr(b->arena, json->pairs[i].key), *label = object_label(node, name);
			has = label && str_eqc(node_text(json, name), label);
		}
		return has;
	}
	while (str_split(&selector, ',', &part)) {
		if (!str_cut(str_trim(part), '=', &key, &value))
			return false;
		const char *label = object_label(node, arena_cstr(b->arena, key));
		if (!label || !str_eqc(value, label))
			return false;
	}
	return true;
}

static void add_node(struct build *b, Fl__Network *n, const struct object *node, uint32_t port)
{
	const Kube__NodeStatus *s = ((const Kube__Node *)node->message)->status;
	for (size_t i = 0; s && i < s->n_addresses; i++)
		if (streq(s->addresses[i]->type, "ExternalIP"))
			add_gateway(b, n, s->addresses[i]->address, port, b->g->cluster);
}

static void add_nodes(struct build *b, Fl__Network *n, const struct object *o, uint32_t port)
{
	const Kube__ServiceSpec *spec = ((const Kube__Service *)o->message)->spec;
	const char *selector = object_annotation(o, ANNOTATION_NODES);
	uint32_t node_port = 0;
	if (!selector || !spec || !streq(spec->type, "NodePort"))
		return;
	b->g->networks.by_node = true;
	for (size_t i = 0; i < spec->n_ports; i++)
		if ((uint32_t)spec->ports[i]->port == port)
			node_port = (uint32_t)spec->ports[i]->node_port;
	for (size_t i = 0; node_port && i < b->g->nodes.slots.len; i++)
		if (node_has(b, b->g->nodes.slots.items[i]->good, str_of(selector)))
			add_node(b, n, b->g->nodes.slots.items[i]->good, node_port);
}

/* Where clients outside of the cluster reach a Service; a name only where there is no number. */
static void add_service_gateways(struct build *b, Fl__Network *n, const struct object *o, uint32_t port)
{
	const Kube__Service *s = (const Kube__Service *)o->message;
	const Kube__LoadBalancerStatus *lb = s->status ? s->status->load_balancer : NULL;
	bool balanced = s->spec && streq(s->spec->type, "LoadBalancer");
	for (size_t i = 0; balanced && lb && i < lb->n_ingress; i++) {
		const char *ip = lb->ingress[i]->ip;
		const char *address = str_empty(ip) ? lb->ingress[i]->hostname : ip;
		if (!str_empty(address))
			add_gateway(b, n, address, port, b->g->cluster);
	}
	for (size_t i = 0; s->spec && i < s->spec->n_externalips; i++)
		add_gateway(b, n, s->spec->externalips[i], port, b->g->cluster);
	add_nodes(b, n, o, port);
}

static bool has_port(const Kube__Service *s, uint32_t port)
{
	for (size_t i = 0; s->spec && i < s->spec->n_ports; i++)
		if ((uint32_t)s->spec->ports[i]->port == port)
			return true;
	return false;
}

static void add_labelled(struct build *b, const Mesh__MeshConfig *mesh)
{
	struct str key;
	void *value;
	for (size_t i = 0; map_next(b->g->store.slots, &i, &key, &value);) {
		const struct object *o = ((const struct slot *)value)->good;
		if (!o || o->kind->id != KIND_SERVICE || !*network_label(o) || !galley_selects(b->g, mesh, o->ns))
			continue;
		uint32_t port;
		(void)network_gateway_port(object_label(o, LABEL_GATEWAY_PORT), &port); /* validation has warned */
		if (has_port((const Kube__Service *)o->message, port))
			add_service_gateways(b, network_named(b, network_label(o)), o, port);
	}
}

/* "name.namespace.svc.suffix" */
static const struct object *service_by_host(struct build *b, const char *host)
{
	struct str name, ns, rest;
	(void)str_cut(str_of(host), '.', &name, &rest);
	(void)str_cut(rest, '.', &ns, &rest);
	char *suffix = arena_printf(b->arena, "svc.%s", b->g->domain_suffix);
	const struct slot *slot = map_get(b->g->store.slots,
		str_of(arena_printf(b->arena, "Service/" STR_FMT "/" STR_FMT, STR_ARG(ns), STR_ARG(name))));
	return slot && str_eqc(rest, suffix) ? slot->good : NULL;
}

/* A Service of a registry that is in the network; a label on it says more. */
static void add_by_service(struct build *b, Fl__Network *n, const Mesh__Network__IstioNetworkGateway *gw)
{
	const struct object *o = service_by_host(b, gw->registry_service_name);
	bool ours = false;
	b->g->networks.by_service = true;
	for (size_t i = 0; i < n->n_registries; i++)
		ours |= streq(n->registries[i], b->g->cluster);
	if (ours && o && !*network_label(o))
		add_service_gateways(b, n, o, gw->port);
}

static void add_configured_network(struct build *b, const char *name, const Mesh__Network *m)
{
	Fl__Network *n = network_named(b, name);
	for (size_t i = 0; i < m->n_endpoints; i++) {
		const Mesh__Network__NetworkEndpoints *e = m->endpoints[i];
		if (e->ne_case == MESH__NETWORK__NETWORK_ENDPOINTS__NE_FROM_CIDR)
			pb_add(b->arena, n, cidrs, arena_strdup(b->arena, e->from_cidr));
		else if (e->ne_case == MESH__NETWORK__NETWORK_ENDPOINTS__NE_FROM_REGISTRY)
			pb_add(b->arena, n, registries, arena_strdup(b->arena, e->from_registry));
	}
	for (size_t i = 0; i < m->n_gateways; i++) {
		if (m->gateways[i]->gw_case == MESH__NETWORK__ISTIO_NETWORK_GATEWAY__GW_ADDRESS)
			add_gateway(b, n, m->gateways[i]->address, m->gateways[i]->port, "");
		else
			add_by_service(b, n, m->gateways[i]);
	}
}

static void add_configured(struct build *b)
{
	const struct slot *slot = map_get(b->g->store.slots, STR("MeshNetworks//default"));
	const Mesh__MeshNetworks *m = slot && slot->good ? (const Mesh__MeshNetworks *)slot->good->message : NULL;
	b->g->networks.by_service = b->g->networks.by_node = false;
	for (size_t i = 0; m && i < m->n_networks; i++)
		add_configured_network(b, m->networks[i]->key, m->networks[i]->value);
}

static void add_default(struct build *b, const Mesh__MeshConfig *mesh)
{
	struct label_set labels = galley_namespace_labels(b->g, mesh->root_namespace);
	const char *name = label_get(labels, LABEL_NETWORK);
	if (!str_empty(name))
		network_named(b, name)->is_default = true;
}

static int by_place(const void *a, const void *b)
{
	const Fl__Network__Gateway *x = *(Fl__Network__Gateway *const *)a, *y = *(Fl__Network__Gateway *const *)b;
	int c = strcmp(x->address, y->address);
	if (!c && x->port != y->port)
		return x->port < y->port ? -1 : 1;
	c = c ? c : strcmp(x->cluster, y->cluster);
	return c ? c : strcmp(x->host, y->host);
}

static void sort_gateways(Fl__Network *n)
{
	size_t out = 0;
	if (n->n_gateways > 1)
		qsort(n->gateways, n->n_gateways, sizeof(*n->gateways), by_place);
	for (size_t i = 0; i < n->n_gateways; i++)
		if (!out || by_place(&n->gateways[out - 1], &n->gateways[i]))
			n->gateways[out++] = n->gateways[i];
	n->n_gateways = out;
}

/* ---- what became of them */

static uint64_t members_hash(struct arena *a, const struct network_list *list)
{
	Fl__NetworkList all = FL__NETWORK_LIST__INIT;
	for (size_t i = 0; i < list->n; i++) {
		Fl__Network *n = arena_dup(a, list->items[i], sizeof(*n));
		n->n_gateways = 0;
		pb_add(a, &all, networks, n);
	}
	return pb_hash(&all);
}

static void emit_all(struct galley *g, const struct network_list *old)
{
	const struct network_list *now = &g->networks.list;
	for (size_t i = 0, k = 0; i < old->n; i++) {
		while (k < now->n && strcmp(now->items[k]->name, old->items[i]->name) < 0)
			k++;
		if (k == now->n || !streq(now->items[k]->name, old->items[i]->name))
			galley_emit_delete(g, TOPIC_NETWORK, old->items[i]->name);
	}
	for (size_t i = 0; i < now->n; i++)
		galley_emit(g, TOPIC_NETWORK, now->items[i]->name, pb_pack(g->batch, now->items[i]), "");
}

/* Answers that nobody needs any more are forgotten; a name without an answer is a question. */
static void keep_wanted(struct networks *n, const struct map *wanted)
{
	struct map *old = n->hosts;
	struct str key;
	void *value;
	n->hosts = map_new();
	for (size_t i = 0; map_next(wanted, &i, &key, &value);) {
		struct looked_up *known = old ? map_del(old, key) : NULL;
		(void)map_put(n->hosts, key, known ? known : xzalloc(sizeof(*known)));
	}
	for (size_t i = 0; old && map_next(old, &i, &key, &value);)
		looked_up_free(value);
	map_free(old);
}

static void sorted_list(struct build *b, struct network_list *out)
{
	struct str *names = map_keys_sorted(b->by_name);
	Fl__Network **items = ARENA_ARRAY(b->arena, Fl__Network *, map_len(b->by_name) + 1);
	for (size_t i = 0; i < map_len(b->by_name); i++) {
		items[i] = map_get(b->by_name, names[i]);
		sort_gateways(items[i]);
	}
	*out = (struct network_list){items, map_len(b->by_name)};
	free(names);
}

bool networks_make(struct galley *g, const Mesh__MeshConfig *mesh)
{
	struct networks *n = &g->networks;
	if (!n->dirty && !g->mesh_dirty)
		return false;
	cleanup(map_free_p) struct map *by_name = map_new(), *wanted = map_new();
	UNUSED cleanup(arena_free_p) struct arena *before = n->arena;
	const struct network_list old = n->list;
	struct build b = {.g = g, .arena = arena_new(), .by_name = by_name, .wanted = wanted};
	add_configured(&b);
	add_default(&b, mesh);
	add_labelled(&b, mesh);
	n->arena = b.arena;
	sorted_list(&b, &n->list);
	keep_wanted(n, wanted);
	emit_all(g, &old);
	uint64_t members = members_hash(b.arena, &n->list);
	bool moved = members != n->members;
	n->members = members;
	n->dirty = false;
	return moved;
}

/* ---- names of gateways */

void galley_gateway_hosts(const struct galley *g, void (*fn)(void *ctx, const char *host), void *ctx)
{
	struct str host;
	void *value;
	for (size_t i = 0; g->networks.hosts && map_next(g->networks.hosts, &i, &host, &value);) {
		char *text cleanup(free_p) = xstrndup(host.ptr, host.len);
		fn(ctx, text);
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool galley_gateway_found(struct galley *g, const char *host, char *const *addresses, size_t n)
{
	struct looked_up *l = g->networks.hosts ? map_get(g->networks.hosts, str_of(host)) : NULL;
	if (!l)
		return false;
	struct looked_up *fresh = xzalloc(sizeof(*fresh));
	fresh->addresses = xmalloc((n + 1) * sizeof(*fresh->addresses));
	for (size_t i = 0; i < n; i++)
		fresh->addresses[fresh->n++] = xstrdup(addresses[i]);
	qsort(fresh->addresses, n, sizeof(*fresh->addresses), by_text);
	bool same = l->n == n;
	for (size_t i = 0; same && i < n; i++)
		same = streq(l->addresses[i], fresh->addresses[i]);
	looked_up_free(map_put(g->networks.hosts, str_of(host), fresh));
	g->networks.dirty |= !same;
	return !same;
}
