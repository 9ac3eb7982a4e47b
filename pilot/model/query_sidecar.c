/*
 * DOC: What the Sidecar of the scope lets its proxies see. Egress hosts are "namespace/host"; "~namespace/host" takes hosts out again,
 * "~/host" in all namespaces; exclusion wins over inclusion within a listener. A listener with a port serves that port alone and
 * nothing else does; the one without a port serves all other ports. Without such a listener other ports know no host.
 */
#include "common/mesh/host.h"
#include "pilot/model/ask.h"
#include "pilot/model/destinations.h"
#include "pilot/model/query.h"

const Cfg__Sidecar *view_sidecar(struct view *v)
{
	struct rows rows;

	if (!v->scope->sidecar.len)
		return NULL;
	rows = ask(v, TOPIC_SIDECAR, Q_SIDECAR, v->scope->sidecar);
	if (!rows.n)
		return NULL;
	ask_source(v, rows.items[0].entry);
	return rows.items[0].entry->value;
}

/* ---- egress hosts */
typedef bool host_fits(struct str pattern, struct str host);

static bool in_namespace(struct str pattern, struct str ns)
{
	return str_eqc(pattern, "*") || str_eq(pattern, ns);
}

/* "./" of a root namespace's Sidecar means the namespace of the proxy. */
struct egress_host egress_host_of(const struct view *v, const char *text)
{
	struct egress_host e = {0};

	if (!str_cut(str_of(text), '/', &e.ns, &e.host))
		return (struct egress_host){.ns = STR("*"), .host = str_of(text)};
	e.out = str_starts(e.ns, STR("~"));
	if (e.out)
		e.ns = e.ns.len > 1 ? str_from(e.ns, 1) : STR("*");
	if (str_eqc(e.ns, "."))
		e.ns = v->scope->attributes->ns;
	return e;
}

static bool admits(
	const struct view *v, const Cfg__IstioEgressListener *l, struct str ns, struct str host, host_fits *fits)
{
	bool included = false;

	for (size_t i = 0; i < l->n_hosts; i++) {
		struct egress_host e = egress_host_of(v, l->hosts[i]);

		if (!in_namespace(e.ns, ns))
			continue;
		if (e.out && host_matches(e.host, host))
			return false;
		included |= !e.out && fits(e.host, host);
	}
	return included;
}

bool egress_admits(const struct view *v, const Cfg__IstioEgressListener *l, struct str ns, struct str host)
{
	return admits(v, l, ns, host, host_matches);
}

bool sidecar_admits(struct view *v, struct str ns, struct str host)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	if (!s || !s->n_egress)
		return true;
	for (size_t i = 0; i < s->n_egress; i++)
		if (egress_admits(v, s->egress[i], ns, host))
			return true;
	return false;
}

static const Cfg__IstioEgressListener *egress_with(const Cfg__Sidecar *s, uint32_t port)
{
	for (size_t i = 0; s && i < s->n_egress; i++)
		if (s->egress[i]->port ? port && s->egress[i]->port->number == port : !port)
			return s->egress[i];
	return NULL;
}

const Cfg__IstioEgressListener *sidecar_egress(struct view *v, uint32_t port)
{
	return port ? egress_with(view_sidecar(v), port) : NULL;
}

bool sidecar_admits_at(struct view *v, uint32_t port, struct str ns, struct str host)
{
	const Cfg__Sidecar *s = view_sidecar(v);
	const Cfg__IstioEgressListener *l;

	if (!port)
		return sidecar_admits(v, ns, host);
	if (!s || !s->n_egress)
		return true;
	l = egress_with(s, port);
	if (!l)
		l = egress_with(s, 0);
	return l && egress_admits(v, l, ns, host);
}

/* ---- routes, and what imported ones lead to */
/* A host of the route and one of the listener need only have names in common: Istio's rule for routes. */
static bool listener_imports(const struct view *v, const Cfg__IstioEgressListener *l, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_hosts; i++)
		if (admits(v, l, e->ns, str_of(vs->hosts[i]), host_overlaps))
			return true;
	return false;
}

bool sidecar_imports(struct view *v, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;
	const Cfg__Sidecar *s = view_sidecar(v);
	bool imported = !s || !s->n_egress;

	if (!exported_to(vs->export_to, vs->n_export_to, e->ns, v->scope->attributes->ns))
		return false;
	for (size_t i = 0; s && i < s->n_egress && !imported; i++)
		imported = listener_imports(v, s->egress[i], e);
	return imported;
}

static struct rows routes_to(struct view *v, struct str host)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	/* Without egress listeners everything is visible as it is. */
	return s && s->n_egress ? ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_DESTINATION, host) : (struct rows){0};
}

bool sidecar_needs(struct view *v, struct str host)
{
	struct rows rows = routes_to(v, host);

	for (size_t i = 0; i < rows.n; i++)
		if (sidecar_imports(v, rows.items[i].entry))
			return true;
	return false;
}

struct needed {
	void (*fn)(void *ctx, struct str host);
	void *ctx;
};

static bool pass_on(void *ctx, const char *host)
{
	const struct needed *n = ctx;

	n->fn(n->ctx, str_of(host));
	return false;
}

void sidecar_needed(struct view *v, void (*fn)(void *ctx, struct str host), void *ctx)
{
	struct rows rows = routes_to(v, STR(""));
	struct needed n = {fn, ctx};

	for (size_t i = 0; i < rows.n; i++)
		if (sidecar_imports(v, rows.items[i].entry))
			(void)each_destination(rows.items[i].entry->value, pass_on, &n);
}

/* ---- unknown destinations */
static enum unknown_policy mesh_policy(struct view *v)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);

	/* REGISTRY_ONLY is 0 on the wire, but a mesh that says nothing allows any (Istio's default). */
	if (!mesh->outbound_traffic_policy)
		return UNKNOWN_PASS;
	switch (mesh->outbound_traffic_policy->mode) {
	case MESH__MESH_CONFIG__OUTBOUND_TRAFFIC_POLICY__MODE__REGISTRY_ONLY:
		return UNKNOWN_REFUSE;
	case MESH__MESH_CONFIG__OUTBOUND_TRAFFIC_POLICY__MODE__ALLOW_ANY_DYNAMIC_DNS:
		return UNKNOWN_DNS;
	case MESH__MESH_CONFIG__OUTBOUND_TRAFFIC_POLICY__MODE__ALLOW_ANY:
	default:
		return UNKNOWN_PASS;
	}
}

enum unknown_policy view_unknown(struct view *v, const Cfg__Destination **proxy)
{
	const Cfg__Sidecar *s = view_sidecar(v);
	const Cfg__OutboundTrafficPolicy *p = s ? s->outbound_traffic_policy : NULL;

	if (!p)
		return mesh_policy(v);
	if (p->mode == CFG__OUTBOUND_TRAFFIC_POLICY__MODE__REGISTRY_ONLY)
		return UNKNOWN_REFUSE;
	if (!p->egress_proxy)
		return UNKNOWN_PASS;
	if (proxy)
		*proxy = p->egress_proxy;
	return UNKNOWN_PROXY;
}
