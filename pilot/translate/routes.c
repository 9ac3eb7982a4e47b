/*
 * DOC: RDS for sidecars. A port that several HTTP services share has one RouteConfiguration named after the port, with a virtual host
 * for each service; a port of unknown protocol behind a virtual IP has one of its own, "host:port". Hosts that nobody knows go to
 * the "allow_any" host (passed through) or, under REGISTRY_ONLY, to "block_all" (502).
 */
#include "pilot/translate/routes.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "common/mesh/host.h"
#include "pilot/translate/egress.h"
#include "pilot/translate/translate.h"

/* ---- the table under construction */
void route_table_init(struct route_table *t, struct view *v, struct arena *a, struct str name)
{
	*t = (struct route_table){.v = v, .a = a, .rc = PB_NEW(a, Rds__RouteConfiguration, rds__route_configuration)};
	t->rc->name = arena_cstr(a, name);
	t->rc->validate_clusters = build_bool(a, false);
	t->domains = map_new();
}

Rds__VirtualHost *route_table_host(struct route_table *t, const char *name, bool outside)
{
	Rds__VirtualHost *vh = PB_NEW(t->a, Rds__VirtualHost, rds__virtual_host);

	vh->name = arena_strdup(t->a, name);
	for (size_t i = 0; i < feature_count; i++)
		if (features[i]->on_virtual_host)
			features[i]->on_virtual_host(t->v, t->a, vh, outside);
	return vh;
}

bool route_table_domain(struct route_table *t, Rds__VirtualHost *vh, const char *domain)
{
	if (map_get(t->domains, str_of(domain)))
		return false;
	map_put(t->domains, str_of(domain), vh);
	pb_add(t->a, vh, domains, arena_strdup(t->a, domain));
	return true;
}

static int host_cmp(const void *x, const void *y)
{
	return strcmp((*(Rds__VirtualHost *const *)x)->name, (*(Rds__VirtualHost *const *)y)->name);
}

Rds__RouteConfiguration *route_table_finish(struct route_table *t)
{
	if (t->rc->n_virtual_hosts > 1)
		qsort(t->rc->virtual_hosts, t->rc->n_virtual_hosts, sizeof(*t->rc->virtual_hosts), host_cmp);
	for (size_t i = 0; i < feature_count; i++)
		if (features[i]->on_route_configuration)
			features[i]->on_route_configuration(t->v, t->a, t->rc);
	map_free(t->domains);
	return t->rc;
}

/* ---- which ports */
static bool has_vip(const struct view *v, const Fl__Service *s)
{
	struct str *vips;
	size_t n;

	service_vips(v, s, &vips, &n);
	return n > 0;
}

const char *outbound_protocol_name(struct view *v, const Fl__Port *port)
{
	const Cfg__IstioEgressListener *l = sidecar_egress(v, port->number);

	return l && l->port && !str_empty(l->port->protocol) ? l->port->protocol : port->protocol;
}

enum protocol outbound_protocol(struct view *v, const Fl__Port *port)
{
	return protocol_of(outbound_protocol_name(v, port));
}

bool port_is_wildcard_http(struct view *v, const Fl__Service *s, const Fl__Port *port)
{
	enum protocol p = outbound_protocol(v, port);

	return p == PROTOCOL_HTTP || (p == PROTOCOL_SNIFF && !has_vip(v, s));
}

bool port_is_sniffed_vip(struct view *v, const Fl__Service *s, const Fl__Port *port)
{
	return outbound_protocol(v, port) == PROTOCOL_SNIFF && has_vip(v, s);
}

/* ---- domains */
static void add_domain(struct route_table *t, Rds__VirtualHost *vh, struct str host, uint32_t port)
{
	bool v6 = memchr(host.ptr, ':', host.len) != NULL;
	const char *plain = v6 ? arena_printf(t->a, "[" STR_FMT "]", STR_ARG(host)) : arena_cstr(t->a, host);

	(void)route_table_domain(t, vh, plain);
	if (host.len > 1 || host.ptr[0] != '*')
		(void)route_table_domain(t, vh, arena_printf(t->a, "%s:%u", plain, port));
}

static void add_service_domains(struct route_table *t, Rds__VirtualHost *vh, const Fl__Service *s, uint32_t port)
{
	struct str names[4], *vips;
	size_t n = host_aliases(
		       t->a, str_of(s->hostname), t->v->scope->attributes->ns, view_domain_suffix(t->v), names),
	       n_vips;

	for (size_t i = 0; i < n; i++)
		add_domain(t, vh, names[i], port);
	if (s->headless)
		(void)route_table_domain(t, vh, arena_printf(t->a, "*.%s", s->hostname));
	service_vips(t->v, s, &vips, &n_vips);
	for (size_t i = 0; i < n_vips; i++)
		if (!memchr(vips[i].ptr, '/', vips[i].len))
			add_domain(t, vh, vips[i], port);
}

/* ---- virtual hosts */
/* By the first VirtualService of the host that has a rule for this caller; `orphan`: the host is no service. */
static bool add_rules(struct route_table *t, Rds__VirtualHost *vh, struct str host, uint32_t port, bool orphan)
{
	const struct entrance at = {"mesh", port, false};
	struct entries list;

	view_host_rules(t->v, host, &list);
	for (size_t i = 0; i < list.n; i++) {
		if (orphan && !sidecar_admits(t->v, list.items[i]->ns, host))
			continue;
		routes_from(t->v, t->a, list.items[i], &at, vh);
		if (!vh->n_routes)
			continue;
		if (!orphan && ((const Cfg__VirtualService *)list.items[i]->value)->n_hosts > 1)
			pb_add(t->a, t, used, list.items[i]);
		return true;
	}
	return false;
}

void route_table_service(struct route_table *t, const Fl__Service *s, uint32_t port)
{
	const char *name = arena_printf(t->a, "%s:%u", s->hostname, port);
	Rds__VirtualHost *vh = route_table_host(t, name, s->mesh_external);

	add_service_domains(t, vh, s, port);
	if (!vh->n_domains)
		return;
	if (!add_rules(t, vh, str_of(s->hostname), port, false))
		pb_add(t->a, vh, routes,
			route_default(t->v, t->a, cluster_name_outbound(t->a, port, STR(""), str_of(s->hostname)),
				arena_printf(t->a, "%s:%u/*", s->hostname, port)));
	pb_add(t->a, t->rc, virtual_hosts, vh);
}

bool route_table_orphan(struct route_table *t, const char *name, uint32_t port)
{
	struct str host = str_of(name);
	Rds__VirtualHost *vh;

	if (map_get(t->domains, host) || view_service(t->v, host) || str_eqc(host, "*"))
		return false;
	vh = route_table_host(t, arena_printf(t->a, "%s:%u", name, port), false);
	if (!add_rules(t, vh, host, port, true))
		return false;
	add_domain(t, vh, host, port);
	pb_add(t->a, t->rc, virtual_hosts, vh);
	return true;
}

static void add_hosts(struct route_table *t, const struct entry *e, uint32_t port)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_hosts; i++)
		(void)route_table_orphan(t, vs->hosts[i], port);
}

/* Hosts of VirtualServices that are no services: they exist on port 80, and on the ports of services that they share rules with. */
static void add_orphans(struct route_table *t, uint32_t port)
{
	struct entries all;

	for (size_t i = 0; port != 80 && i < t->n_used; i++)
		add_hosts(t, t->used[i], port);
	if (port != 80)
		return;
	view_virtual_services(t->v, &all);
	for (size_t i = 0; i < all.n; i++)
		add_hosts(t, all.items[i], port);
}

static void add_rest(struct route_table *t)
{
	bool block = view_unknown(t->v, NULL) == UNKNOWN_REFUSE;
	const char *name = block ? "block_all" : "allow_any";
	Rds__VirtualHost *vh = route_table_host(t, name, true);
	const char *cluster = cluster_name_unknown(t->v, t->a, true);
	Rds__Route *r = route_default(t->v, t->a, cluster, cluster);

	if (block) {
		r->direct_response = PB_NEW(t->a, Rds__DirectResponseAction, rds__direct_response_action);
		r->direct_response->status = 502;
		r->action_case = RDS__ROUTE__ACTION_DIRECT_RESPONSE;
	} else {
		r->route->retry_policy = NULL;
	}
	r->name = arena_strdup(t->a, name);
	r->decorator = NULL;
	pb_add(t->a, vh, routes, r);
	(void)route_table_domain(t, vh, "*");
	if (vh->n_domains)
		pb_add(t->a, t->rc, virtual_hosts, vh);
}

Rds__RouteConfiguration *routes_unknown(struct view *v, struct arena *a, const char *name)
{
	struct route_table t;

	route_table_init(&t, v, a, str_of(name));
	add_rest(&t);
	return route_table_finish(&t);
}

/* The hosts come as resources of their own (vhds.c); what is inline is for those that nobody knows. */
static Rds__Vhds *hosts_apart(struct arena *a)
{
	Rds__Vhds *vhds = PB_NEW(a, Rds__Vhds, rds__vhds);

	vhds->config_source = build_ads_source(a);
	return vhds;
}

static Rds__RouteConfiguration *build_port(struct view *v, struct str name, uint32_t port, struct arena *a)
{
	struct service_list list;
	struct route_table t;
	size_t found = 0;

	view_services_on_port(v, port, &list);
	for (size_t i = 0; i < list.n; i++)
		found += port_is_wildcard_http(v, list.items[i], service_port(list.items[i], port));
	if (!found && !egress_serves_http(v, port))
		return NULL;
	route_table_init(&t, v, a, name);
	if (v->scope->attributes->vhds)
		t.rc->vhds = hosts_apart(a);
	for (size_t i = 0; !t.rc->vhds && i < list.n; i++)
		if (port_is_wildcard_http(v, list.items[i], service_port(list.items[i], port)))
			route_table_service(&t, list.items[i], port);
	if (!t.rc->vhds)
		add_orphans(&t, port);
	add_rest(&t);
	return route_table_finish(&t);
}

/* A Unix socket and the HTTP proxy port have no port of a service: every port of every service, by the Host header. */
static Rds__RouteConfiguration *build_all(struct view *v, struct str name, struct arena *a)
{
	struct service_list list;
	struct route_table t;

	egress_services(v, name, &list);
	route_table_init(&t, v, a, name);
	for (size_t i = 0; i < list.n; i++)
		for (size_t j = 0; j < list.items[i]->n_ports; j++) {
			enum protocol p = protocol_of(list.items[i]->ports[j]->protocol);

			if (p == PROTOCOL_HTTP || p == PROTOCOL_SNIFF)
				route_table_service(&t, list.items[i], list.items[i]->ports[j]->number);
		}
	add_rest(&t);
	return route_table_finish(&t);
}

static Rds__RouteConfiguration *build_sniffed(struct view *v, struct str name, struct arena *a)
{
	struct str host, number;
	const Fl__Service *s;
	const Fl__Port *port;
	struct route_table t;
	uint32_t p;
	size_t at;

	if (!str_rfind(name, ':', &at))
		return NULL;
	host = str_sub(name, 0, at);
	number = str_from(name, at + 1);
	if (!str_u32(number, 65535, &p) || !(s = view_service(v, host)) || !(port = service_port(s, p)) ||
		!port_is_sniffed_vip(v, s, port))
		return NULL;
	route_table_init(&t, v, a, name);
	route_table_service(&t, s, p);
	/* The address was the service's, whatever the Host header says. */
	if (t.rc->n_virtual_hosts) {
		t.rc->virtual_hosts[0]->n_domains = 0;
		map_clear(t.domains);
		(void)route_table_domain(&t, t.rc->virtual_hosts[0], "*");
	}
	return route_table_finish(&t);
}

/* ---- translator */
static void rds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	bool gateway = v->scope->attributes->type == PROXY_ROUTER;
	struct service_list services = {0};
	struct name_list list = {0};

	if (v->scope->kind == SCOPE_SHARED && gateway)
		gateway_route_names(v, a, &list);
	else if (v->scope->kind == SCOPE_SHARED)
		view_services(v, &services), egress_route_names(v, a, &list);
	for (size_t i = 0; i < services.n; i++)
		for (size_t j = 0; j < services.items[i]->n_ports; j++) {
			const Fl__Service *s = services.items[i];

			if (!sidecar_admits_at(v, s->ports[j]->number, str_of(s->namespace_), str_of(s->hostname)))
				continue;
			if (port_is_wildcard_http(v, s, s->ports[j]))
				name_list_add(a, &list, arena_printf(a, "%u", s->ports[j]->number));
			else if (port_is_sniffed_vip(v, s, s->ports[j]))
				name_list_add(a, &list, arena_printf(a, "%s:%u", s->hostname, s->ports[j]->number));
		}
	name_list_finish(&list, out, n);
}

static const ProtobufCMessage *rds_build(struct view *v, struct str name, struct arena *a)
{
	Rds__RouteConfiguration *rc;
	uint32_t port;

	if (v->scope->attributes->type == PROXY_ROUTER)
		rc = routes_gateway(v, name, a);
	else if (egress_routes_all(v, name))
		rc = build_all(v, name, a);
	else if (str_u32(name, 65535, &port))
		rc = build_port(v, name, port, a);
	else
		rc = build_sniffed(v, name, a);
	return rc ? &rc->base : NULL;
}

static enum scope_kind rds_scope(struct str name)
{
	(void)name;
	return SCOPE_SHARED;
}

const struct translator rds_translator = {.names = rds_names, .build = rds_build, .scope = rds_scope};
