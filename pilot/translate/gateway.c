/*
 * DOC: Gateways. The servers of all Gateway objects that select the workload, by the port they really listen on: the server's port is
 * mapped through the gateway's Service to its targetPort; a workload without a Service listens on the server's port itself. HTTP
 * servers of a port share a listener and the routes "http.<port>"; servers that terminate TLS have a chain each, by server name, and
 * routes of their own ("https.<port>.<port name>.<gateway>.<namespace>"); TLS that is passed through and TCP go by the rules of
 * VirtualServices.
 */
#include "common/base/map.h"
#include "common/mesh/host.h"
#include "pilot/translate/l4_rules.h"
#include "pilot/translate/tls.h"
#include "xds/hcm.pb-c.h"

struct server {
	const struct entry *gateway;
	const Cfg__Server *server;
	uint32_t port; /* listened on */
	struct str bind;
};

struct servers {
	struct server *items;
	size_t n;
};

/* 0: the gateway's Service does not offer the port. */
static uint32_t real_port(const struct view *v, uint32_t number)
{
	const struct scope *s = v->scope;

	for (size_t i = 0; i < s->n_instances; i++)
		if (s->instances[i].port == number)
			return s->instances[i].target_port;
	for (size_t i = 0; i < s->n_instances; i++)
		if (s->instances[i].target_port == number)
			return number;
	return s->n_instances ? 0 : number;
}

static void find_servers(struct view *v, struct servers *out)
{
	struct entries gateways;
	size_t cap = 0;

	view_gateways(v, &gateways);
	for (size_t i = 0; i < gateways.n; i++)
		cap += ((const Cfg__Gateway *)gateways.items[i]->value)->n_servers;
	out->items = arena_array(v->scratch, cap + 1, sizeof(*out->items));
	out->n = 0;
	for (size_t i = 0; i < gateways.n; i++) {
		const Cfg__Gateway *g = gateways.items[i]->value;

		for (size_t j = 0; j < g->n_servers; j++) {
			const Cfg__Server *s = g->servers[j];
			uint32_t port = s->port ? real_port(v, s->port->number) : 0;

			if (port)
				out->items[out->n++] = (struct server){gateways.items[i], s, port,
					str_empty(s->bind) ? STR("0.0.0.0") : str_of(s->bind)};
		}
	}
}

/* ---- kinds of servers */
static bool is_terminating(const Cfg__Server *s)
{
	return s->tls && s->tls->mode != CFG__SERVER_TLSSETTINGS__TLSMODE__PASSTHROUGH &&
	       s->tls->mode != CFG__SERVER_TLSSETTINGS__TLSMODE__AUTO_PASSTHROUGH;
}

/* Certificates by name come from the gateway's SDS, which pilot does not serve yet: such a server would hold up the listener. */
static bool has_certificate(const Cfg__Server *s)
{
	return s->tls->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL ||
	       !str_empty(s->tls->server_certificate) || s->tls->n_tls_certificates;
}

static bool is_http(const Cfg__Server *s)
{
	return protocol_of(s->port->protocol) == PROTOCOL_HTTP;
}

static bool is_https(const Cfg__Server *s)
{
	return streq(s->port->protocol, "HTTPS") && is_terminating(s) && has_certificate(s);
}

static char *https_routes(struct arena *a, const struct server *s)
{
	const Fl__Object *o = s->gateway->object;

	return arena_printf(a, "https.%u.%s.%s.%s", s->port, s->server->port->name, o->name, o->namespace_);
}

static char *http_routes(struct arena *a, const struct server *s)
{
	return arena_printf(a, "http.%u", s->port);
}

/* ---- hosts: "ns/host", "./host", "host" */
static bool split_host(const struct server *s, struct str pattern, struct str *ns, struct str *host)
{
	if (!str_cut(pattern, '/', ns, host)) {
		*ns = STR("*");
		*host = pattern;
	} else if (str_eqc(*ns, ".")) {
		*ns = str_of(s->gateway->object->namespace_);
	}
	return true;
}

/* The host that a VirtualService's host and the server's hosts have in common: the more specific one; empty: none. */
static struct str common_host(const struct server *s, const struct entry *vs, struct str host)
{
	struct str best = {0};

	for (size_t i = 0; i < s->server->n_hosts; i++) {
		struct str ns, pattern, both;

		split_host(s, str_of(s->server->hosts[i]), &ns, &pattern);
		if (!str_eqc(ns, "*") && !str_eq(ns, vs->ns))
			continue;
		if (host_matches(pattern, host))
			both = host;
		else if (host_matches(host, pattern))
			both = pattern;
		else
			continue;
		if (!best.ptr || host_specificity(both, best) < 0)
			best = both;
	}
	return best;
}

/* ---- routes */
static void add_redirect(struct route_table *t, const struct server *s)
{
	for (size_t i = 0; i < s->server->n_hosts; i++) {
		struct str ns, host;
		Rds__VirtualHost *vh;

		split_host(s, str_of(s->server->hosts[i]), &ns, &host);
		if (map_get(t->domains, host))
			continue;
		vh = route_table_host(t, arena_printf(t->a, STR_FMT ":%u", STR_ARG(host), s->port), false);
		vh->require_tls = RDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL;
		(void)route_table_domain(t, vh, arena_cstr(t->a, host));
		pb_add(t->a, t->rc, virtual_hosts, vh);
	}
}

/* Several VirtualServices of one host are merged, the oldest first. */
static void add_service_routes(struct route_table *t, const struct server *s, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;
	const char *gateway = arena_cstr(t->a, s->gateway->key);

	for (size_t i = 0; i < vs->n_hosts; i++) {
		struct str host = common_host(s, e, str_of(vs->hosts[i]));
		Rds__VirtualHost *vh = host.ptr ? map_get(t->domains, host) : NULL;

		if (!host.ptr || !vs->n_http)
			continue;
		if (!vh) {
			vh = route_table_host(t, arena_printf(t->a, STR_FMT ":%u", STR_ARG(host), s->port), false);
			(void)route_table_domain(t, vh, arena_cstr(t->a, host));
			pb_add(t->a, t->rc, virtual_hosts, vh);
		}
		if (!vh->require_tls)
			routes_from(t->v, t->a, e, gateway, s->server->port->number, vh);
	}
}

static void add_server_routes(struct route_table *t, const struct server *s)
{
	struct entries services;

	if (s->server->tls && s->server->tls->https_redirect) {
		add_redirect(t, s);
		return;
	}
	view_gateway_services(t->v, s->gateway->key, &services);
	for (size_t i = 0; i < services.n; i++)
		add_service_routes(t, s, services.items[i]);
}

static bool serves_routes(struct view *v, const struct server *s, struct str name)
{
	if (is_http(s->server))
		return str_eqc(name, http_routes(v->scratch, s));
	return is_https(s->server) && str_eqc(name, https_routes(v->scratch, s));
}

Rds__RouteConfiguration *routes_gateway(struct view *v, struct str name, struct arena *a)
{
	struct route_table t;
	struct servers list;
	uint32_t port = 0;

	find_servers(v, &list);
	route_table_init(&t, v, a, name);
	for (size_t i = 0; i < list.n; i++)
		if (serves_routes(v, &list.items[i], name)) {
			port = list.items[i].port;
			add_server_routes(&t, &list.items[i]);
		}
	if (!port) {
		map_free(t.domains);
		return NULL;
	}
	t.rc->ignore_port_in_host_matching = true;
	if (!t.rc->n_virtual_hosts) {
		Rds__VirtualHost *none = route_table_host(&t, arena_printf(a, "blackhole:%u", port), false);

		/* No route at all: 404. */
		(void)route_table_domain(&t, none, "*");
		pb_add(a, t.rc, virtual_hosts, none);
	}
	return route_table_finish(&t);
}

void gateway_route_names(struct view *v, struct arena *a, struct name_list *l)
{
	struct servers list;

	find_servers(v, &list);
	for (size_t i = 0; i < list.n; i++) {
		if (is_http(list.items[i].server))
			name_list_add(a, l, http_routes(a, &list.items[i]));
		else if (is_https(list.items[i].server))
			name_list_add(a, l, https_routes(a, &list.items[i]));
	}
}

/* ---- listeners */
static void set_names(struct arena *a, Lds__FilterChain *chain, const struct server *s)
{
	for (size_t i = 0; i < s->server->n_hosts; i++) {
		struct str ns, host;

		split_host(s, str_of(s->server->hosts[i]), &ns, &host);
		if (!str_eqc(host, "*"))
			pb_add(a, chain->filter_chain_match, server_names, arena_cstr(a, host));
	}
}

static void add_https(const struct chain *c, Lds__Listener *l, const struct server *s)
{
	const char *routes = https_routes(c->a, s);
	Lds__FilterChain *chain = filter_chain(
		c->a, routes, build_http(c, arena_printf(c->a, "outbound_%s", l->name), NULL, routes));

	chain_match(c->a, chain, 0, "", NULL);
	set_names(c->a, chain, s);
	chain->transport_socket = tls_gateway(c->a, s->server->tls);
	(void)listener_add_chain(c->a, l, chain);
}

/* Whether a host of the VirtualService is one of the server's. */
static bool shares_host(const struct server *s, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_hosts; i++)
		if (common_host(s, e, str_of(vs->hosts[i])).ptr)
			return true;
	return false;
}

/* By a tcp rule; false: none applies. */
static bool add_tcp(const struct l4_port *p, const struct server *s, const struct entry *e)
{
	const Cfg__TCPRoute *r = l4_tcp_rule(p, e);
	struct arena *a = p->chain->a;
	Lds__FilterChain *chain;

	if (!r)
		return false;
	chain = filter_chain(a, "tcp", route_to(p->chain, r->route, r->n_route, p->number));
	metadata_put_config(a, &chain->metadata, e);
	if (is_terminating(s->server) && has_certificate(s->server))
		chain->transport_socket = tls_gateway(a, s->server->tls);
	return listener_add_chain(a, p->listener, chain);
}

static void add_l4(const struct chain *c, Lds__Listener *l, const struct server *s)
{
	const struct l4_port p = {.chain = c,
		.listener = l,
		.gateway = arena_cstr(c->a, s->gateway->key),
		.number = s->server->port->number};
	bool passthrough = protocol_of(s->server->port->protocol) == PROTOCOL_TLS && s->server->tls &&
			   !is_terminating(s->server);
	bool tcp = protocol_of(s->server->port->protocol) == PROTOCOL_TCP ||
		   (is_terminating(s->server) && has_certificate(s->server));
	struct entries services;

	view_gateway_services(c->v, s->gateway->key, &services);
	for (size_t i = 0; i < services.n; i++) {
		if (!shares_host(s, services.items[i]))
			continue;
		if (passthrough)
			(void)l4_tls_chains(&p, services.items[i]);
		else if (tcp && add_tcp(&p, s, services.items[i]))
			return; /* One plain TCP chain is all that a port can have. */
	}
}

static bool listens_as(struct view *v, const struct server *s, struct str name)
{
	return str_eqc(name, listener_name(v->scratch, s->bind, s->port));
}

Lds__Listener *gateway_build(struct view *v, struct str name, struct arena *a)
{
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_GATEWAY};
	Lds__Listener *l = NULL;
	struct servers list;
	bool http = false, tls = false;

	find_servers(v, &list);
	for (size_t i = 0; i < list.n; i++) {
		const struct server *s = &list.items[i];

		if (!listens_as(v, s, name))
			continue;
		if (!l)
			l = listener_new(a, arena_cstr(a, name), s->bind, s->port, CORE__TRAFFIC_DIRECTION__OUTBOUND);
		if (is_http(s->server)) {
			if (!http)
				pb_add(a, l, filter_chains,
					filter_chain(a, "http",
						build_http(&c, arena_printf(a, "outbound_%s", l->name), NULL,
							http_routes(a, s))));
			http = true;
		} else if (is_https(s->server)) {
			add_https(&c, l, s);
			tls = true;
		} else {
			add_l4(&c, l, s);
			tls |= protocol_of(s->server->port->protocol) == PROTOCOL_TLS;
		}
	}
	if (!l || !l->n_filter_chains)
		return NULL;
	listener_inspect(v, a, l, tls, false);
	return l;
}

/* A server may turn out to have nothing to serve: names and build must agree. */
void gateway_names(struct view *v, struct arena *a, struct name_list *l)
{
	struct servers list;

	find_servers(v, &list);
	for (size_t i = 0; i < list.n; i++) {
		char *name = listener_name(a, list.items[i].bind, list.items[i].port);

		if (gateway_build(v, str_of(name), v->scratch))
			name_list_add(a, l, name);
	}
}
