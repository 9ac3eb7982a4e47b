/*
 * DOC: The tls and tcp rules of VirtualServices, as filter chains. All VirtualServices of a host count, exact hosts before wildcards, then
 * by age. A tls rule matches by server name and, where it says so, by destination subnet; a tcp rule with destination subnets gets a
 * chain of its own, the first one without is what all other connections get. What Envoy cannot decide (gateway, port, labels and
 * namespace of the caller) is decided here.
 *
 * Envoy refuses a listener in which two chains match the same connections, so a server name that an earlier chain has is left out of
 * the later one, and a chain that has nothing left is not made: the one object loses, not the listener.
 */
#include "pilot/translate/l4_rules.h"

#include "pilot/translate/dynamic_dns.h"

/* ---- chains that do not repeat */
static bool same_texts(char *const *x, size_t nx, char *const *y, size_t ny)
{
	if (nx != ny)
		return false;
	for (size_t i = 0; i < nx; i++)
		if (!streq(x[i], y[i]))
			return false;
	return true;
}

static bool share_range(const Lds__FilterChainMatch *x, const Lds__FilterChainMatch *y)
{
	if (!x->n_prefix_ranges || !y->n_prefix_ranges)
		return x->n_prefix_ranges == y->n_prefix_ranges;
	for (size_t i = 0; i < x->n_prefix_ranges; i++)
		for (size_t j = 0; j < y->n_prefix_ranges; j++)
			if (pb_equal(x->prefix_ranges[i], y->prefix_ranges[j]))
				return true;
	return false;
}

/* Whether both could be told apart only by server name. */
static bool compete(const Lds__FilterChainMatch *x, const Lds__FilterChainMatch *y)
{
	uint32_t port_x = x->destination_port ? x->destination_port->value : 0;
	uint32_t port_y = y->destination_port ? y->destination_port->value : 0;

	return port_x == port_y && streq(x->transport_protocol, y->transport_protocol) && share_range(x, y) &&
	       same_texts(x->application_protocols, x->n_application_protocols, y->application_protocols,
		       y->n_application_protocols);
}

static bool has_name(const Lds__FilterChainMatch *m, const char *name)
{
	for (size_t i = 0; i < m->n_server_names; i++)
		if (streq(m->server_names[i], name))
			return true;
	return false;
}

static const Lds__FilterChainMatch *match_of(const Lds__FilterChain *chain)
{
	static const Lds__FilterChainMatch any = LDS__FILTER_CHAIN_MATCH__INIT;

	return chain->filter_chain_match ? chain->filter_chain_match : &any;
}

bool listener_add_chain(struct arena *a, Lds__Listener *l, Lds__FilterChain *chain)
{
	Lds__FilterChainMatch *own = chain->filter_chain_match;
	bool named = own && own->n_server_names;

	for (size_t i = 0; i < l->n_filter_chains; i++) {
		const Lds__FilterChainMatch *other = match_of(l->filter_chains[i]);
		size_t n = 0;

		if (!compete(other, match_of(chain)))
			continue;
		if (!named && !other->n_server_names)
			return false;
		for (size_t j = 0; named && j < own->n_server_names; j++)
			if (!has_name(other, own->server_names[j]))
				own->server_names[n++] = own->server_names[j];
		if (named && !n)
			return false;
		if (named)
			own->n_server_names = n;
	}
	pb_add(a, l, filter_chains, chain);
	return true;
}

/* ---- destination subnets */
void chain_add_range(struct arena *a, Lds__FilterChain *chain, struct str subnet)
{
	Core__CidrRange *range = PB_NEW(a, Core__CidrRange, core__cidr_range);
	bool v6 = memchr(subnet.ptr, ':', subnet.len) != NULL;
	uint32_t prefix = v6 ? 128 : 32;
	struct str address, bits;

	if (str_cut(subnet, '/', &address, &bits) && !str_u32(bits, prefix, &prefix))
		return;
	range->address_prefix = arena_cstr(a, address);
	range->prefix_len = build_u32(a, prefix);
	pb_add(a, chain->filter_chain_match, prefix_ranges, range);
}

static Lds__FilterChain *rule_chain(const struct l4_port *p, const struct entry *e, const char *name,
	const char *transport, Cfg__RouteDestination *const *route, size_t n)
{
	struct arena *a = p->chain->a;
	Lds__FilterChain *chain = filter_chain(a, name, route_to(p->chain, route, n, p->number));

	chain_match(a, chain, 0, transport, NULL);
	if (streq(transport, "tls"))
		route_look_up(p->chain, chain, route, n, p->number);
	metadata_put_config(a, &chain->metadata, e);
	return chain;
}

/* Labels and namespaces are of callers in the mesh; a gateway takes connections of anybody. */
static bool is_for_all(const struct l4_port *p)
{
	return !streq(p->gateway, "mesh");
}
#define APPLIES(p, m) \
	match_applies((p)->chain->v, (m)->gateways, (m)->n_gateways, (p)->gateway, (m)->port, (p)->number, \
		is_for_all(p) ? (struct label_set){0} : LABELS(m, source_labels), \
		is_for_all(p) ? NULL : (m)->source_namespace)

/* ---- tls */
static void set_server_names(struct arena *a, Lds__FilterChain *chain, char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (streq(names[i], "*"))
			return;
	for (size_t i = 0; i < n; i++)
		pb_add(a, chain->filter_chain_match, server_names, arena_strdup(a, names[i]));
}

static bool add_tls_match(
	const struct l4_port *p, const struct entry *e, const Cfg__TLSRoute *r, const Cfg__TLSMatchAttributes *m)
{
	struct arena *a = p->chain->a;
	Lds__FilterChain *chain;

	if (!APPLIES(p, m))
		return false;
	chain = rule_chain(
		p, e, arena_printf(a, "tls-%s", m->n_sni_hosts ? m->sni_hosts[0] : "any"), "tls", r->route, r->n_route);
	set_server_names(a, chain, m->sni_hosts, m->n_sni_hosts);
	for (size_t i = 0; i < m->n_destination_subnets; i++)
		chain_add_range(a, chain, str_of(m->destination_subnets[i]));
	for (size_t i = 0; !m->n_destination_subnets && i < p->n_blocks; i++)
		chain_add_range(a, chain, p->blocks[i]);
	(void)listener_add_chain(a, p->listener, chain);
	return true;
}

bool l4_tls_chains(const struct l4_port *p, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;
	bool any = false;

	for (size_t i = 0; i < vs->n_tls; i++)
		for (size_t j = 0; j < vs->tls[i]->n_match; j++)
			any |= add_tls_match(p, e, vs->tls[i], vs->tls[i]->match[j]);
	return any;
}

/* ---- tcp */
struct tcp_match {
	bool applies;
	bool anywhere; /* some match that applies has no destination subnets */
};

static struct tcp_match match_tcp(const struct l4_port *p, const Cfg__TCPRoute *r)
{
	struct tcp_match out = {.applies = r->n_match == 0, .anywhere = r->n_match == 0};

	for (size_t i = 0; i < r->n_match; i++) {
		const Cfg__L4MatchAttributes *m = r->match[i];

		if (!APPLIES(p, m))
			continue;
		out.applies = true;
		out.anywhere |= m->n_destination_subnets == 0;
	}
	return out;
}

static void add_tcp_subnets(const struct l4_port *p, const struct entry *e, const Cfg__TCPRoute *r)
{
	struct arena *a = p->chain->a;
	Lds__FilterChain *chain = NULL;

	for (size_t i = 0; i < r->n_match; i++) {
		const Cfg__L4MatchAttributes *m = r->match[i];

		if (!APPLIES(p, m))
			continue;
		for (size_t j = 0; j < m->n_destination_subnets; j++) {
			if (!chain)
				chain = rule_chain(p, e, arena_printf(a, "tcp-%s", m->destination_subnets[j]), "",
					r->route, r->n_route);
			chain_add_range(a, chain, str_of(m->destination_subnets[j]));
		}
	}
	if (chain)
		(void)listener_add_chain(a, p->listener, chain);
}

const Cfg__TCPRoute *l4_tcp_rule(const struct l4_port *p, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_tcp; i++) {
		struct tcp_match m = match_tcp(p, vs->tcp[i]);

		if (m.anywhere)
			return vs->tcp[i];
		if (m.applies && p->listener)
			add_tcp_subnets(p, e, vs->tcp[i]);
	}
	return NULL;
}

/* ---- of a service, for sidecars */
/* Addresses like 10.0.0.0/8; others have listeners of their own. */
static struct str *blocks_of(const struct chain *c, const Fl__Service *s, size_t *n)
{
	struct str *vips;
	size_t all;

	service_vips(c->v, s, &vips, &all);
	*n = 0;
	for (size_t i = 0; i < all; i++)
		if (memchr(vips[i].ptr, '/', vips[i].len))
			vips[(*n)++] = vips[i];
	return vips;
}

bool add_tls_rules(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port)
{
	struct l4_port p = {.chain = c, .listener = l, .gateway = "mesh", .number = port};
	struct entries list;
	bool any = false;

	p.blocks = blocks_of(c, s, &p.n_blocks);
	view_host_services(c->v, str_of(s->hostname), &list);
	for (size_t i = 0; i < list.n; i++)
		any |= l4_tls_chains(&p, list.items[i]);
	return any;
}

static Lds__Filter *by_rules(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port)
{
	const struct l4_port p = {.chain = c, .listener = l, .gateway = "mesh", .number = port};
	struct entries list;

	view_host_services(c->v, str_of(s->hostname), &list);
	for (size_t i = 0; i < list.n; i++) {
		const Cfg__TCPRoute *r = l4_tcp_rule(&p, list.items[i]);

		if (r)
			return route_to(c, r->route, r->n_route, port);
	}
	return NULL;
}

Lds__Filter *tcp_of(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port)
{
	Lds__Filter *f = by_rules(c, l, s, port);

	return f ? f : build_tcp_to(c, cluster_name_outbound(c->a, port, STR(""), str_of(s->hostname)));
}

void add_tls_service(const struct chain *c, Lds__Listener *l, const Fl__Service *s, uint32_t port)
{
	Lds__FilterChain *chain;
	struct str *blocks;
	size_t n;

	if (add_tls_rules(c, l, s, port))
		return;
	chain = filter_chain(c->a, arena_printf(c->a, "tls-%s", s->hostname), tcp_of(c, NULL, s, port));
	chain_match(c->a, chain, 0, "tls", NULL);
	set_server_names(c->a, chain, &(char *){s->hostname}, 1);
	if (service_discovery(c->v, s) == DISCOVERY_BY_NAME)
		dynamic_dns_by_sni(c->v, c->a, chain, port);
	blocks = blocks_of(c, s, &n);
	for (size_t i = 0; i < n; i++)
		chain_add_range(c->a, chain, blocks[i]);
	(void)listener_add_chain(c->a, l, chain);
}
