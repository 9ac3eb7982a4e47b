/*
 * DOC: Outbound listeners of a sidecar. All captured connections arrive at virtualOutbound (15001), which hands them to the listener
 * of their original destination: "<virtual IP>_<port>" for TCP, "0.0.0.0_<port>" for all HTTP services of a port, since there the
 * Host header tells them apart. A port whose protocol is unknown is looked at: HTTP goes to the routes, the rest to the cluster.
 *
 * On a wildcard listener the chains are: TLS by server name, TCP by address block, then plain HTTP; what is none of these is passed
 * through, or refused under REGISTRY_ONLY.
 */
#include "pilot/translate/l4_rules.h"

#include "common/mesh/host.h"
#include "pilot/translate/egress.h"

static const char virtual_outbound[] = "virtualOutbound";
static bool is_block(struct str address)
{
	return memchr(address.ptr, '/', address.len) != NULL;
}

/* ---- names */
static void add_addresses(
	struct view *v, struct arena *a, const Fl__Service *s, const Fl__Port *port, struct name_list *l)
{
	struct str *addresses, wildcard;
	bool captured;
	size_t n;

	wildcard = egress_wildcard(v, &captured);
	service_vips(v, s, &addresses, &n);
	if (!n && s->headless && outbound_protocol(v, port) == PROTOCOL_TCP)
		view_addresses(v, s, &addresses, &n);
	else if (!n)
		name_list_add(a, l, listener_name(a, wildcard, port->number));
	/* Nobody can bind to them: without capture they are not reached. */
	for (size_t i = 0; captured && i < n; i++)
		name_list_add(a, l, listener_name(a, is_block(addresses[i]) ? wildcard : addresses[i], port->number));
}

void outbound_names(struct view *v, struct arena *a, struct name_list *l)
{
	struct service_list list;
	bool captured;
	struct str wildcard = egress_wildcard(v, &captured);

	if (!v->scope->attributes->no_capture)
		name_list_add(a, l, virtual_outbound);
	egress_names(v, a, l);
	view_services(v, &list);
	for (size_t i = 0; i < list.n; i++)
		for (size_t j = 0; j < list.items[i]->n_ports; j++) {
			const Fl__Service *s = list.items[i];
			const Fl__Port *port = s->ports[j];

			if (protocol_of(port->protocol) == PROTOCOL_UDP ||
				egress_is_bound(v, sidecar_egress(v, port->number)) ||
				!sidecar_admits_at(v, port->number, str_of(s->namespace_), str_of(s->hostname)))
				continue;
			if (port_is_wildcard_http(v, s, port))
				name_list_add(a, l, listener_name(a, wildcard, port->number));
			else
				add_addresses(v, a, s, port, l);
		}
}

/* ---- virtualOutbound */
static Lds__Listener *build_virtual(struct view *v, struct arena *a)
{
	int32_t configured = view_mesh(v)->proxy_listen_port;
	uint32_t port = configured > 0 ? (uint32_t)configured : 15001;
	Lds__Listener *l = listener_new(a, virtual_outbound, STR("0.0.0.0"), port, CORE__TRAFFIC_DIRECTION__OUTBOUND);
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_OUTBOUND};
	Lds__FilterChain *loop = filter_chain(a, "virtualOutbound-blackhole", build_tcp_to(&c, "BlackHoleCluster"));

	l->use_original_dst = build_bool(a, true);
	if (v->scope->attributes->transparent)
		l->transparent = build_bool(a, true);
	chain_match(a, loop, port, "", NULL);
	pb_add(a, l, filter_chains, loop);
	if (view_unknown(v, NULL) == UNKNOWN_DNS) {
		/* HTTP is looked up by its Host, on whatever port; for the rest there is only the address. */
		Lds__FilterChain *http = filter_chain(a, "virtualOutbound-catchall-http",
			build_http(&c, "outbound_virtualOutbound", routes_unknown(v, a, "virtualOutbound"), NULL));

		chain_match(a, http, 0, "", alpn_plain_http);
		pb_add(a, l, filter_chains, http);
		listener_inspect(v, a, l, false, true);
	}
	pb_add(a, l, filter_chains,
		filter_chain(a, "virtualOutbound-catchall-tcp", build_tcp_to(&c, cluster_name_unknown(v, a, false))));
	return l;
}

/* ---- chains of services */
Lds__FilterChain *http_chain(const struct chain *c, const char *listener, const char *routes)
{
	Lds__FilterChain *chain = filter_chain(
		c->a, "outbound-http", build_http(c, arena_printf(c->a, "outbound_%s", listener), NULL, routes));

	chain_match(c->a, chain, 0, "raw_buffer", alpn_plain_http);
	return chain;
}

/* ---- listeners by address */
static bool has_address(struct view *v, const Fl__Service *s, const Fl__Port *port, struct str address)
{
	struct str *list;
	size_t n;

	service_vips(v, s, &list, &n);
	if (!n && s->headless && outbound_protocol(v, port) == PROTOCOL_TCP)
		view_addresses(v, s, &list, &n);
	for (size_t i = 0; i < n; i++)
		if (str_eq(list[i], address))
			return true;
	return false;
}

static Lds__Listener *build_address_listener(
	struct view *v, struct arena *a, struct str name, struct str address, uint32_t port)
{
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_OUTBOUND};
	struct service_list list;
	const Fl__Service *s = NULL;
	Lds__Listener *l;
	Lds__FilterChain *rest;
	bool sniffed, rules = false;

	view_services_on_port(v, port, &list);
	for (size_t i = 0; i < list.n && !s; i++) {
		const Fl__Port *p = service_port(list.items[i], port);

		if (outbound_protocol(v, p) != PROTOCOL_UDP && !port_is_wildcard_http(v, list.items[i], p) &&
			has_address(v, list.items[i], p, address))
			s = list.items[i];
	}
	if (!s)
		return NULL;
	l = listener_new(a, arena_cstr(a, name), address, port, CORE__TRAFFIC_DIRECTION__OUTBOUND);
	l->bind_to_port = build_bool(a, false);
	sniffed = port_is_sniffed_vip(v, s, service_port(s, port));
	if (outbound_protocol(v, service_port(s, port)) == PROTOCOL_TLS)
		rules = add_tls_rules(&c, l, s, port);
	listener_inspect(v, a, l, sniffed || rules, sniffed);
	if (sniffed) {
		struct chain http = c;

		http.sniffed = true;
		pb_add(a, l, filter_chains, http_chain(&http, l->name, arena_printf(a, "%s:%u", s->hostname, port)));
	}
	rest = filter_chain(a, "outbound-tcp", tcp_of(&c, l, s, port));
	chain_understand(v, a, rest, outbound_protocol_name(v, service_port(s, port)));
	if (l->n_filter_chains)
		l->default_filter_chain = rest;
	else
		pb_add(a, l, filter_chains, rest);
	return l;
}

/* ---- wildcard listeners */
struct wildcard_parts {
	bool http;
	const Fl__Service *tcp; /* first TCP service without an address */
	bool tls;
};

static void add_block_chain(
	const struct chain *c, Lds__Listener *l, const Fl__Service *s, struct str block, uint32_t port)
{
	Lds__FilterChain *chain = filter_chain(
		c->a, arena_printf(c->a, "tcp-" STR_FMT, STR_ARG(block)), tcp_of(c, l, s, port));

	chain_understand(c->v, c->a, chain, outbound_protocol_name(c->v, service_port(s, port)));
	chain_match(c->a, chain, 0, "", NULL);
	chain_add_range(c->a, chain, block);
	(void)listener_add_chain(c->a, l, chain);
}

static void add_wildcard_service(const struct chain *c, Lds__Listener *l, const Fl__Service *s, const Fl__Port *port,
	struct wildcard_parts *parts)
{
	enum protocol p = outbound_protocol(c->v, port);
	struct str *vips;
	bool blocks = false;
	size_t n;

	service_vips(c->v, s, &vips, &n);
	if (port_is_wildcard_http(c->v, s, port)) {
		parts->http = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		blocks |= is_block(vips[i]);
		if (is_block(vips[i]) && p != PROTOCOL_TLS)
			add_block_chain(c, l, s, vips[i], port->number);
	}
	if (p == PROTOCOL_UDP || (n && !(p == PROTOCOL_TLS && blocks)))
		return;
	if (p == PROTOCOL_TLS) {
		parts->tls = true;
		add_tls_service(c, l, s, port->number);
	} else if (!parts->tcp && !(s->headless && p == PROTOCOL_TCP)) {
		parts->tcp = s;
	}
}

static Lds__Listener *build_wildcard(
	struct view *v, struct arena *a, struct str name, struct str wildcard, uint32_t port)
{
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_OUTBOUND};
	Lds__Listener *l = listener_new(a, arena_cstr(a, name), wildcard, port, CORE__TRAFFIC_DIRECTION__OUTBOUND);
	struct wildcard_parts parts = {0};
	Lds__FilterChain *rest;
	struct service_list list;
	bool captured;

	view_services_on_port(v, port, &list);
	for (size_t i = 0; i < list.n; i++)
		add_wildcard_service(&c, l, list.items[i], service_port(list.items[i], port), &parts);
	if (!parts.http && !parts.tcp && !l->n_filter_chains)
		return NULL;
	(void)egress_wildcard(v, &captured);
	if (captured)
		l->bind_to_port = build_bool(a, false);
	listener_inspect(v, a, l, parts.http || parts.tls, parts.http);
	if (parts.http)
		pb_add(a, l, filter_chains, http_chain(&c, l->name, arena_printf(a, "%u", port)));
	rest = parts.tcp ? filter_chain(a, "outbound-tcp", tcp_of(&c, l, parts.tcp, port)) : NULL;
	if (rest)
		chain_understand(v, a, rest, outbound_protocol_name(v, service_port(parts.tcp, port)));
	if (rest && !l->n_filter_chains)
		pb_add(a, l, filter_chains, rest);
	else if (rest)
		l->default_filter_chain = rest;
	else
		l->default_filter_chain = filter_chain(
			a, "PassthroughFilterChain", build_tcp_to(&c, cluster_name_unknown(v, a, false)));
	return l;
}

Lds__Listener *outbound_build(struct view *v, struct str name, struct arena *a)
{
	struct str address, wildcard;
	uint32_t port;
	Lds__Listener *l;
	bool captured;

	if (str_eqc(name, virtual_outbound))
		return build_virtual(v, a);
	if ((l = egress_build(v, name, a)))
		return l;
	if (!listener_name_parse(name, &address, &port))
		return NULL;
	wildcard = egress_wildcard(v, &captured);
	if (str_eq(address, wildcard))
		return build_wildcard(v, a, name, wildcard, port);
	return build_address_listener(v, a, name, address, port);
}
