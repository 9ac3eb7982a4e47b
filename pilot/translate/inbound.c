/*
 * DOC: virtualInbound (15006): one listener for all ports of the workload, whose filter chains are chosen by original destination port,
 * by TLS or not, and by ALPN. PeerAuthentication says which chains a port has: STRICT only mutual TLS, DISABLE only plaintext,
 * PERMISSIVE both, told apart by the ALPN names that only proxies of the mesh offer. Ports that no service claims are passed
 * through under the same rules. A connection to 15006 itself would loop and is refused.
 */
#include "pilot/translate/listeners.h"

#include <stdlib.h>

#include "pilot/translate/tls.h"
#include "xds/original_dst.pb-c.h"

#define MODE(x) SEC__PEER_AUTHENTICATION__MUTUAL_TLS__MODE__##x

static const char *const alpn_mesh[] = {
	"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2", NULL};
static const char *const alpn_mesh_http[] = {"istio-http/1.0", "istio-http/1.1", "istio-h2", NULL};
static const char *const alpn_mesh_tcp[] = {"istio-peer-exchange", "istio", NULL};

/* A port of the workload. */
struct inbound_port {
	uint32_t number; /* 0: all that have no chains of their own */
	const Fl__Service *service; /* NULL: passed through */
	uint32_t service_port;
	enum protocol protocol;
	const char *cluster;
	const char *label; /* prefix of chain names */
};

struct inbound {
	struct view *v;
	struct arena *a;
	Lds__Listener *listener;
};

/* ---- filters */
static Rds__RouteConfiguration *inline_routes(const struct inbound *in, const struct inbound_port *p)
{
	Rds__RouteConfiguration *rc = PB_NEW(in->a, Rds__RouteConfiguration, rds__route_configuration);
	Rds__VirtualHost *vh = PB_NEW(in->a, Rds__VirtualHost, rds__virtual_host);
	const char *operation = p->service ? arena_printf(in->a, "%s:%u/*", p->service->hostname, p->service_port)
					   : p->cluster;
	Rds__Route *r = route_default(in->v, in->a, p->cluster, operation);

	/* The application is one host: a retry is right only when it has seen nothing of the request. */
	r->route->retry_policy = PB_NEW(in->a, Rds__RetryPolicy, rds__retry_policy);
	r->route->retry_policy->retry_on = arena_strdup(in->a, "reset-before-request");
	r->route->retry_policy->num_retries = build_u32(in->a, 2);
	rc->name = arena_strdup(in->a, p->cluster);
	rc->validate_clusters = build_bool(in->a, false);
	vh->name = arena_printf(in->a, "inbound|http|%u", p->service_port);
	pb_add(in->a, vh, domains, arena_strdup(in->a, "*"));
	pb_add(in->a, vh, routes, r);
	pb_add(in->a, rc, virtual_hosts, vh);
	return rc;
}

static void add_chain(const struct inbound *in, const struct inbound_port *p, const char *suffix, bool http,
	bool mutual, const char *transport, const char *const *alpn)
{
	struct chain c = {
		.v = in->v, .a = in->a, .direction = DIRECTION_INBOUND, .mutual = mutual, .service = p->service};
	Lds__Filter *f = http ? build_http(&c, arena_printf(in->a, "inbound_%s", p->label), inline_routes(in, p), NULL)
			      : build_tcp_to(&c, p->cluster);
	Lds__FilterChain *chain = filter_chain(in->a, arena_printf(in->a, "%s-%s", p->label, suffix), f);

	chain_match(in->a, chain, p->number, transport, alpn);
	if (mutual)
		chain->transport_socket = tls_mutual_server(in->a, http);
	pb_add(in->a, in->listener, filter_chains, chain);
}

/* ---- chains of a port by its mode */
static void http_chains(
	const struct inbound *in, const struct inbound_port *p, Sec__PeerAuthentication__MutualTLS__Mode mode)
{
	if (mode == MODE(STRICT)) {
		add_chain(in, p, "mtls", true, true, "tls", NULL);
	} else if (mode == MODE(DISABLE)) {
		add_chain(in, p, "plain", true, false, "", NULL);
	} else {
		add_chain(in, p, "mtls", true, true, "tls", alpn_mesh);
		add_chain(in, p, "plain", true, false, "raw_buffer", NULL);
	}
}

/* TLS that is not the mesh's goes to the application as it is. */
static void tcp_chains(
	const struct inbound *in, const struct inbound_port *p, Sec__PeerAuthentication__MutualTLS__Mode mode)
{
	if (mode == MODE(STRICT)) {
		add_chain(in, p, "mtls-tcp", false, true, "tls", NULL);
	} else if (mode == MODE(DISABLE)) {
		add_chain(in, p, "plain-tcp", false, false, "", NULL);
	} else {
		add_chain(in, p, "mtls-tcp", false, true, "tls", alpn_mesh);
		add_chain(in, p, "tls-tcp", false, false, "tls", NULL);
		add_chain(in, p, "plain-tcp", false, false, "raw_buffer", NULL);
	}
}

static void sniffed_chains(
	const struct inbound *in, const struct inbound_port *p, Sec__PeerAuthentication__MutualTLS__Mode mode)
{
	if (mode != MODE(DISABLE)) {
		add_chain(in, p, "mtls-http", true, true, "tls", alpn_mesh_http);
		add_chain(in, p, "mtls-tcp", false, true, "tls", mode == MODE(STRICT) ? NULL : alpn_mesh_tcp);
	}
	if (mode != MODE(STRICT)) {
		add_chain(in, p, "plain-http", true, false, "raw_buffer", alpn_plain_http);
		add_chain(in, p, "tls-tcp", false, false, "tls", NULL);
		add_chain(in, p, "plain-tcp", false, false, "raw_buffer", NULL);
	}
}

static void port_chains(const struct inbound *in, const struct inbound_port *p)
{
	struct label_set labels = proxy_labels(in->v->scratch, in->v->scope->attributes);
	Sec__PeerAuthentication__MutualTLS__Mode mode = view_mtls_mode(
		in->v, in->v->scope->attributes->ns, labels, p->number);

	switch (p->protocol) {
	case PROTOCOL_HTTP:
		http_chains(in, p, mode);
		return;
	case PROTOCOL_TCP:
	case PROTOCOL_TLS:
		tcp_chains(in, p, mode);
		return;
	case PROTOCOL_SNIFF:
		sniffed_chains(in, p, mode);
		return;
	case PROTOCOL_UDP:
		return;
	}
}

/* ---- which ports */
static int port_cmp(const void *x, const void *y)
{
	const struct inbound_port *a = x, *b = y;

	return a->number < b->number ? -1 : a->number > b->number;
}

static bool has_port(const struct inbound_port *list, size_t n, uint32_t number)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].number == number)
			return true;
	return false;
}

/* Several services may lead to one port: the first by name says what it speaks. */
static size_t service_ports(struct view *v, struct arena *a, struct inbound_port *out)
{
	const struct scope *scope = v->scope;
	size_t n = 0;

	for (size_t i = 0; i < scope->n_instances; i++) {
		const struct instance *x = &scope->instances[i];
		const Fl__Service *s = view_service_by_key(v, x->service);
		const Fl__Port *port = s ? service_port(s, x->port) : NULL;

		if (!port || protocol_of(port->protocol) == PROTOCOL_UDP || has_port(out, n, x->target_port))
			continue;
		out[n++] = (struct inbound_port){x->target_port, s, port->number, protocol_of(port->protocol),
			cluster_name_inbound(a, x->target_port), listener_name(a, STR("0.0.0.0"), x->target_port)};
	}
	return n;
}

static size_t policy_ports(
	struct view *v, struct arena *a, struct inbound_port *out, size_t n, const uint32_t *ports, size_t n_ports)
{
	for (size_t i = 0; i < n_ports; i++)
		if (ports[i] && !has_port(out, n, ports[i]))
			out[n++] = (struct inbound_port){ports[i], NULL, 0, PROTOCOL_SNIFF, "InboundPassthroughCluster",
				listener_name(a, STR("0.0.0.0"), ports[i])};
	return n;
}

static void add_original_dst(struct arena *a, Lds__Listener *l)
{
	Lds__ListenerFilter *f = PB_NEW(a, Lds__ListenerFilter, lds__listener_filter);

	f->name = arena_strdup(a, "envoy.filters.listener.original_dst");
	f->typed_config = pb_any(a, PB_NEW(a, OrigDst__OriginalDst, orig_dst__original_dst));
	f->config_type_case = LDS__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG;
	pb_add(a, l, listener_filters, f);
}

Lds__Listener *inbound_build(struct view *v, struct str name, struct arena *a)
{
	struct inbound in = {
		v, a, listener_new(a, "virtualInbound", STR("0.0.0.0"), 15006, CORE__TRAFFIC_DIRECTION__INBOUND)};
	struct chain refuse = {.v = v, .a = a, .direction = DIRECTION_INBOUND};
	struct inbound_port rest = {0, NULL, 0, PROTOCOL_SNIFF, "InboundPassthroughCluster", "virtualInbound"};
	struct label_set labels = proxy_labels(v->scratch, v->scope->attributes);
	Lds__FilterChain *loop = filter_chain(a, "virtualInbound-blackhole", build_tcp_to(&refuse, "BlackHoleCluster"));
	struct inbound_port *ports;
	uint32_t *policy;
	size_t n_policy, n;

	(void)name;
	view_mtls_ports(v, labels, &policy, &n_policy);
	ports = arena_array(v->scratch, v->scope->n_instances + n_policy + 1, sizeof(*ports));
	n = service_ports(v, a, ports);
	n = policy_ports(v, a, ports, n, policy, n_policy);
	if (n > 1)
		qsort(ports, n, sizeof(*ports), port_cmp);
	add_original_dst(a, in.listener);
	listener_inspect(v, a, in.listener, true, true);
	chain_match(a, loop, 15006, "", NULL);
	pb_add(a, in.listener, filter_chains, loop);
	for (size_t i = 0; i < n; i++)
		port_chains(&in, &ports[i]);
	port_chains(&in, &rest);
	return in.listener;
}
