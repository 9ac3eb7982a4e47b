/*
 * DOC: Gateways. The servers of all Gateway objects that select the workload, by the port they really listen on: the server's port is
 * mapped through the gateway's Services to its targetPorts; a port that they do not have is listened on itself. HTTP
 * servers of a port share a listener and the routes "http.<port>"; servers that terminate TLS have a chain each, by server name, and
 * routes of their own ("https.<port>.<port name>.<gateway>.<namespace>"); TLS that is passed through and TCP go by the rules of
 * VirtualServices.
 */
#include "common/base/map.h"
#include "common/mesh/host.h"
#include "pilot/translate/l4_rules.h"
#include "pilot/translate/tls.h"
#include "xds/hcm.pb-c.h"
#include "xds/sni_cluster.pb-c.h"

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

#define LABEL_NO_TRANSLATION "experimental.istio.io/disable-gateway-port-translation"

/* The instance leads the port to one of the workload's that is not among the first `n` found. */
static bool leads(struct view *v, const struct instance *x, uint32_t number, const struct server *found, size_t n)
{
	const Fl__Service *s = x->port == number ? view_service_by_key(v, x->service) : NULL;

	if (!s || label_get(LABELS(s, labels), LABEL_NO_TRANSLATION))
		return false;
	for (size_t i = 0; i < n; i++)
		if (found[i].port == x->target_port)
			return false;
	return true;
}

static bool is_terminating(const Cfg__Server *s)
{
	return s->tls && s->tls->mode != CFG__SERVER_TLSSETTINGS__TLSMODE__PASSTHROUGH &&
	       s->tls->mode != CFG__SERVER_TLSSETTINGS__TLSMODE__AUTO_PASSTHROUGH;
}

static bool on_socket(const Cfg__Server *s)
{
	return str_starts(str_of(s->bind), STR("unix://"));
}

/* A server whose certificate is not there yet is left out: the others of its port go on. */
static bool is_ready(struct view *v, const Cfg__Server *s)
{
	return s->port && (!is_terminating(s) || tls_gateway_ready(v, s->tls));
}

/* Where a server listens: at each port to which a Service leads its own; the workload itself at one that none of them has. */
static size_t add_server(struct view *v, const struct entry *gateway, const Cfg__Server *s, struct server *out)
{
	const struct scope *scope = v->scope;
	const struct server one = {
		gateway, s, on_socket(s) ? 0 : s->port->number, str_empty(s->bind) ? STR("0.0.0.0") : str_of(s->bind)};
	size_t n = 0;

	for (size_t i = 0; !on_socket(s) && i < scope->n_instances; i++)
		if (leads(v, &scope->instances[i], s->port->number, out, n)) {
			out[n] = one;
			out[n++].port = scope->instances[i].target_port;
		}
	if (!n)
		out[n++] = one;
	return n;
}

static void find_servers(struct view *v, struct servers *out)
{
	struct entries gateways;
	size_t cap = 0;

	view_gateways(v, &gateways);
	for (size_t i = 0; i < gateways.n; i++)
		cap += ((const Cfg__Gateway *)gateways.items[i]->value)->n_servers * (v->scope->n_instances + 1);
	out->items = arena_array(v->scratch, cap + 1, sizeof(*out->items));
	out->n = 0;
	for (size_t i = 0; i < gateways.n; i++) {
		const Cfg__Gateway *g = gateways.items[i]->value;

		for (size_t j = 0; j < g->n_servers; j++)
			if (is_ready(v, g->servers[j]))
				out->n += add_server(v, gateways.items[i], g->servers[j], &out->items[out->n]);
	}
}

/* ---- kinds of servers */
static bool is_auto_passthrough(const Cfg__Server *s)
{
	return s->tls && s->tls->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__AUTO_PASSTHROUGH;
}

bool gateway_has_auto_passthrough(struct view *v)
{
	struct servers list;

	find_servers(v, &list);
	for (size_t i = 0; i < list.n; i++)
		if (is_auto_passthrough(list.items[i].server))
			return true;
	return false;
}

static bool is_http(const Cfg__Server *s)
{
	return protocol_of(s->port->protocol) == PROTOCOL_HTTP;
}

static bool is_https(const Cfg__Server *s)
{
	return streq(s->port->protocol, "HTTPS") && is_terminating(s);
}

static char *https_routes(struct arena *a, const struct server *s)
{
	const Fl__Object *o = s->gateway->object;

	return arena_printf(a, "https.%u.%s.%s.%s", s->port, s->server->port->name, o->name, o->namespace_);
}

static char *http_routes(struct arena *a, const struct server *s)
{
	const char *bind = s->server->bind;

	return arena_printf(a, "http.%u%s%s", s->port, str_empty(bind) ? "" : ".", str_empty(bind) ? "" : bind);
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

/* What a VirtualService's host and one host of the server have in common: the more specific of both; empty: nothing. */
static struct str common_host(const struct server *s, size_t index, const struct entry *vs, struct str host)
{
	struct str ns, pattern;

	split_host(s, str_of(s->server->hosts[index]), &ns, &pattern);
	if (!str_eqc(ns, "*") && !str_eq(ns, vs->ns))
		return (struct str){0};
	if (host_matches(pattern, host))
		return host;
	return host_matches(host, pattern) ? pattern : (struct str){0};
}

static bool serves(const struct server *s, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_hosts; i++)
		for (size_t j = 0; j < s->server->n_hosts; j++)
			if (common_host(s, j, e, str_of(vs->hosts[i])).ptr)
				return true;
	return false;
}

/* ---- routes */
/* Who did not come by TLS is sent there; who did, to the proxy in front of this one, has the routes. */
static void require_tls(struct route_table *t, const struct server *s)
{
	for (size_t i = 0; i < s->server->n_hosts; i++) {
		struct str ns, host;
		Rds__VirtualHost *vh;

		split_host(s, str_of(s->server->hosts[i]), &ns, &host);
		vh = map_get(t->domains, host);
		if (!vh) {
			vh = route_table_host(t, arena_printf(t->a, STR_FMT ":%u", STR_ARG(host), s->port), false);
			(void)route_table_domain(t, vh, arena_cstr(t->a, host));
			pb_add(t->a, t->rc, virtual_hosts, vh);
		}
		vh->require_tls = RDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL;
	}
}

static bool redirects(const struct server *s)
{
	return s->server->tls && s->server->tls->https_redirect;
}

/* Several VirtualServices of one host are merged, the oldest first. One that has no rule for this server leaves its host to wider ones. */
static void add_host_routes(struct route_table *t, const struct server *s, const struct entry *e, struct str host)
{
	const struct entrance at = {
		arena_cstr(t->a, s->gateway->key), s->server->port->number, is_terminating(s->server)};
	Rds__VirtualHost *have = map_get(t->domains, host), *vh = have;

	if (!vh)
		vh = route_table_host(t, arena_printf(t->a, STR_FMT ":%u", STR_ARG(host), s->port), false);
	routes_from(t->v, t->a, e, &at, vh);
	if (redirects(s))
		vh->require_tls = RDS__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL;
	if (have || !vh->n_routes)
		return;
	(void)route_table_domain(t, vh, arena_cstr(t->a, host));
	pb_add(t->a, t->rc, virtual_hosts, vh);
}

/* A wide host of a VirtualService is several hosts of the server; each pair counts once. */
static void add_service_routes(struct route_table *t, const struct server *s, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;
	cleanup(map_free_p) struct map *done = map_new();

	for (size_t i = 0; vs->n_http && i < vs->n_hosts; i++)
		for (size_t j = 0; j < s->server->n_hosts; j++) {
			struct str host = common_host(s, j, e, str_of(vs->hosts[i]));

			if (host.ptr && !map_put(done, host, t))
				add_host_routes(t, s, e, host);
		}
}

static void add_server_routes(struct route_table *t, const struct server *s)
{
	struct entries services;

	view_gateway_services(t->v, s->gateway->key, &services);
	for (size_t i = 0; i < services.n; i++)
		add_service_routes(t, s, services.items[i]);
	if (redirects(s))
		require_tls(t, s);
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
	const struct server *found = NULL;

	find_servers(v, &list);
	route_table_init(&t, v, a, name);
	for (size_t i = 0; i < list.n; i++)
		if (serves_routes(v, &list.items[i], name)) {
			found = &list.items[i];
			add_server_routes(&t, &list.items[i]);
		}
	if (!found) {
		map_free(t.domains);
		return NULL;
	}
	t.rc->ignore_port_in_host_matching = true;
	if (!t.rc->n_virtual_hosts) {
		Rds__VirtualHost *none = route_table_host(&t, arena_printf(a, "blackhole:%u", found->port), false);

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
static struct str host_at(const struct server *s, size_t i)
{
	struct str ns, host;

	split_host(s, str_of(s->server->hosts[i]), &ns, &host);
	return host;
}

static bool has_any_host(const struct server *s)
{
	for (size_t i = 0; i < s->server->n_hosts; i++)
		if (str_eqc(host_at(s, i), "*"))
			return true;
	return false;
}

static void set_names(struct arena *a, Lds__FilterChain *chain, const struct server *s)
{
	for (size_t i = 0; !has_any_host(s) && i < s->server->n_hosts; i++)
		pb_add(a, chain->filter_chain_match, server_names, arena_cstr(a, host_at(s, i)));
}

static void add_https(const struct chain *c, Lds__Listener *l, const struct server *s)
{
	const char *routes = https_routes(c->a, s);
	Lds__FilterChain *chain = filter_chain(
		c->a, routes, build_http(c, arena_printf(c->a, "outbound_%s", l->name), NULL, routes));

	chain_match(c->a, chain, 0, "", NULL);
	set_names(c->a, chain, s);
	chain->transport_socket = tls_gateway(c->v, c->a, s->server->tls);
	(void)listener_add_chain(c->a, l, chain);
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
	chain_understand(p->chain->v, a, chain, s->server->port->protocol);
	metadata_put_config(a, &chain->metadata, e);
	if (is_terminating(s->server)) {
		chain_match(a, chain, 0, "", NULL);
		set_names(a, chain, s);
		chain->transport_socket = tls_gateway(p->chain->v, a, s->server->tls);
	}
	return listener_add_chain(a, p->listener, chain);
}

/* An exact host has a server name for each port and subset; false: none of the hosts is there. */
static bool set_mesh_names(const struct chain *c, Lds__FilterChainMatch *m, const struct server *s)
{
	if (has_any_host(s))
		return true;
	for (size_t i = 0; i < s->server->n_hosts; i++) {
		struct str host = host_at(s, i);
		const Fl__Service *of = host_is_wildcard(host) ? NULL : view_service(c->v, host);
		struct rule rule = of ? view_rule(c->v, Q_DR_SUBSETS, host, str_of(of->namespace_)) : (struct rule){0};

		/* A wildcard of hosts is one of server names, too. */
		if (host_is_wildcard(host))
			pb_add(c->a, m, server_names, arena_cstr(c->a, host));
		for (size_t j = 0; of && j < of->n_ports; j++) {
			uint32_t port = of->ports[j]->number;

			pb_add(c->a, m, server_names, tls_sni(c->a, port, "", of->hostname));
			for (size_t k = 0; k < rule.n_subsets; k++)
				pb_add(c->a, m, server_names, tls_sni(c->a, port, rule.subsets[k]->name, of->hostname));
		}
	}
	return m->n_server_names > 0;
}

/* The server name says the cluster: connections of another network's clients, whose mutual TLS ends at the workload. */
static void add_auto_passthrough(const struct chain *c, Lds__Listener *l, const struct server *s)
{
	Lds__FilterChain *chain = filter_chain(
		c->a, arena_printf(c->a, "auto-passthrough-%u", s->port), build_tcp_to(c, "BlackHoleCluster"));

	chain_prepend(c->a, chain, "envoy.filters.network.sni_cluster",
		PB_NEW(c->a, SniCluster__SniCluster, sni_cluster__sni_cluster));
	chain_match(c->a, chain, 0, "tls", alpn_of_mesh);
	if (set_mesh_names(c, chain->filter_chain_match, s))
		(void)listener_add_chain(c->a, l, chain);
}

static void add_l4(const struct chain *c, Lds__Listener *l, const struct server *s)
{
	const struct l4_port p = {.chain = c,
		.listener = l,
		.gateway = arena_cstr(c->a, s->gateway->key),
		.number = s->server->port->number};
	bool passthrough = protocol_of(s->server->port->protocol) == PROTOCOL_TLS && s->server->tls &&
			   !is_terminating(s->server);
	bool tcp = protocol_of(s->server->port->protocol) == PROTOCOL_TCP || is_terminating(s->server);
	struct entries services;

	if (is_auto_passthrough(s->server)) {
		add_auto_passthrough(c, l, s);
		return;
	}
	view_gateway_services(c->v, s->gateway->key, &services);
	for (size_t i = 0; i < services.n; i++) {
		if (!serves(s, services.items[i]))
			continue;
		if (passthrough)
			(void)l4_tls_chains(&p, services.items[i]);
		else if (tcp && add_tcp(&p, s, services.items[i]))
			return; /* One plain TCP chain is all that a port can have. */
	}
}

static char *name_of(struct arena *a, const struct server *s)
{
	return on_socket(s->server) ? arena_cstr(a, s->bind) : listener_name(a, s->bind, s->port);
}

static bool listens_as(struct view *v, const struct server *s, struct str name)
{
	return str_eqc(name, name_of(v->scratch, s));
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
				(void)listener_add_chain(a, l,
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
		char *name = name_of(a, &list.items[i]);

		if (gateway_build(v, str_of(name), v->scratch))
			name_list_add(a, l, name);
	}
}
