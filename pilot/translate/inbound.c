/*
 * DOC: virtualInbound (15006): one listener for all ports of the workload, whose filter chains are chosen by original destination port,
 * by TLS or not, and by ALPN. PeerAuthentication says which chains a port has: STRICT only mutual TLS, DISABLE only plaintext,
 * PERMISSIVE both, told apart by the ALPN names that only proxies of the mesh offer. Ports that no service claims are passed
 * through under the same rules. A connection to 15006 itself would loop and is refused.
 */
#include "pilot/translate/listeners.h"

#include <stdlib.h>

#include "pilot/translate/inbound.h"
#include "pilot/translate/tls.h"
#include "xds/original_dst.pb-c.h"
#include "xds/original_src.pb-c.h"

#define MODE(x) SEC__PEER_AUTHENTICATION__MUTUAL_TLS__MODE__##x

static const char *const alpn_mesh_http[] = {"istio-http/1.0", "istio-http/1.1", "istio-h2", NULL};
static const char *const alpn_mesh_tcp[] = {"istio-peer-exchange", "istio", NULL};

struct inbound {
	struct view *v;
	struct arena *a;
	Lds__Listener *listener;
	bool bound; /* the listener has one port */
};

/* ---- filters */
static Rds__RouteConfiguration *inline_routes(const struct inbound *in, const struct inbound_port *p)
{
	Rds__RouteConfiguration *rc = PB_NEW(in->a, Rds__RouteConfiguration, rds__route_configuration);
	Rds__VirtualHost *vh = PB_NEW(in->a, Rds__VirtualHost, rds__virtual_host);
	const char *operation = p->service ? arena_printf(in->a, "%s:%u/*", p->service->hostname, p->port->number)
					   : p->cluster;
	Rds__Route *r = route_default(in->v, in->a, p->cluster, operation);

	/* The application is one host: a retry is right only when it has seen nothing of the request. */
	r->route->retry_policy = PB_NEW(in->a, Rds__RetryPolicy, rds__retry_policy);
	r->route->retry_policy->retry_on = arena_strdup(in->a, "reset-before-request");
	r->route->retry_policy->num_retries = build_u32(in->a, 2);
	rc->name = arena_strdup(in->a, p->cluster);
	rc->validate_clusters = build_bool(in->a, false);
	vh->name = arena_printf(in->a, "inbound|http|%u", p->port ? p->port->number : p->ingress ? p->number : 0);
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

	if (!http && p->cluster && (p->ingress || p->port))
		chain_understand(in->v, in->a, chain, p->ingress ? p->ingress->port->protocol : p->port->protocol);
	chain_match(in->a, chain, in->bound ? 0 : p->number, transport, alpn);
	if (mutual)
		chain->transport_socket = tls_mutual_server(in->v, in->a, http);
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
		add_chain(in, p, "mtls", true, true, "tls", alpn_of_mesh);
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
		add_chain(in, p, "mtls-tcp", false, true, "tls", alpn_of_mesh);
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

/* The ingress listener ends TLS of callers outside the mesh, which needs mutual TLS of the mesh to be off at this port. */
static void terminated_chain(const struct inbound *in, const struct inbound_port *p)
{
	add_chain(in, p, "tls", streq(p->ingress->port->protocol, "HTTPS"), false, "tls", NULL);
	in->listener->filter_chains[in->listener->n_filter_chains - 1]->transport_socket = tls_gateway(
		in->v, in->a, p->ingress->tls);
}

static void port_chains(const struct inbound *in, const struct inbound_port *p)
{
	struct label_set labels = proxy_labels(in->v->scratch, in->v->scope->attributes);
	Sec__PeerAuthentication__MutualTLS__Mode mode = view_mtls_mode(
		in->v, in->v->scope->attributes->ns, labels, p->number);

	if (p->ingress && p->ingress->tls && mode == MODE(DISABLE)) {
		if (tls_gateway_ready(in->v, p->ingress->tls))
			terminated_chain(in, p);
		return;
	}
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
static size_t policy_ports(
	struct view *v, struct arena *a, struct inbound_port *out, size_t n, const uint32_t *ports, size_t n_ports)
{
	for (size_t i = 0; i < n_ports; i++)
		if (ports[i] && !inbound_has_port(out, n, ports[i]))
			out[n++] = (struct inbound_port){ports[i], NULL, NULL, PROTOCOL_SNIFF,
				"InboundPassthroughCluster", listener_name(a, STR("0.0.0.0"), ports[i]), NULL};
	return n;
}

/* Where captured connections were going; and, where they kept their addresses, in whose name the application is called. */
static void add_originals(struct view *v, struct arena *a, Lds__Listener *l)
{
	OrigSrc__OriginalSrc *source;

	listener_filter(
		a, l, "envoy.filters.listener.original_dst", PB_NEW(a, OrigDst__OriginalDst, orig_dst__original_dst));
	if (!v->scope->attributes->transparent)
		return;
	source = PB_NEW(a, OrigSrc__OriginalSrc, orig_src__original_src);
	source->mark = TPROXY_MARK;
	listener_filter(a, l, "envoy.filters.listener.original_src", source);
	l->transparent = build_bool(a, true);
}

static uint32_t listen_port(struct view *v)
{
	int32_t port = view_mesh(v)->proxy_inbound_listen_port;

	return port > 0 ? (uint32_t)port : 15006;
}

/* A listener of its own for an ingress listener whose traffic is not captured. */
static Lds__Listener *build_bound(struct view *v, struct str name, struct arena *a)
{
	struct inbound_port *ports;
	size_t n;

	inbound_ports(v, a, &ports, &n);
	for (size_t i = 0; i < n; i++) {
		const struct inbound_port *p = &ports[i];
		struct inbound in = {.v = v, .a = a, .bound = true};
		const char *bind;

		if (!inbound_is_bound(v, p) || !str_eqc(name, inbound_bound_name(v->scratch, p)))
			continue;
		bind = str_empty(p->ingress->bind) ? "0.0.0.0" : p->ingress->bind;
		in.listener = listener_new(
			a, arena_cstr(a, name), str_of(bind), p->number, CORE__TRAFFIC_DIRECTION__INBOUND);
		listener_inspect(v, a, in.listener, true, true);
		port_chains(&in, p);
		return in.listener->n_filter_chains ? in.listener : NULL;
	}
	return NULL;
}

void inbound_names(struct view *v, struct arena *a, struct name_list *l)
{
	struct inbound_port *ports;
	size_t n;

	if (!v->scope->attributes->no_capture)
		name_list_add(a, l, "virtualInbound");
	inbound_ports(v, v->scratch, &ports, &n);
	for (size_t i = 0; i < n; i++)
		if (inbound_is_bound(v, &ports[i]))
			name_list_add(a, l, inbound_bound_name(a, &ports[i]));
}

static size_t captured_ports(struct view *v, struct inbound_port *ports, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!inbound_is_bound(v, &ports[i]))
			ports[kept++] = ports[i];
	return kept;
}

static Lds__Listener *build_virtual(struct view *v, struct arena *a)
{
	uint32_t own = listen_port(v);
	struct inbound in = {
		v, a, listener_new(a, "virtualInbound", STR("0.0.0.0"), own, CORE__TRAFFIC_DIRECTION__INBOUND), false};
	struct chain refuse = {.v = v, .a = a, .direction = DIRECTION_INBOUND};
	struct inbound_port rest = {0, NULL, NULL, PROTOCOL_SNIFF, "InboundPassthroughCluster", "virtualInbound", NULL};
	struct label_set labels = proxy_labels(v->scratch, v->scope->attributes);
	Lds__FilterChain *loop = filter_chain(a, "virtualInbound-blackhole", build_tcp_to(&refuse, "BlackHoleCluster"));
	struct inbound_port *known, *ports;
	uint32_t *policy;
	size_t n_policy, n;

	view_mtls_ports(v, labels, &policy, &n_policy);
	inbound_ports(v, a, &known, &n);
	ports = arena_array(v->scratch, n + n_policy + 1, sizeof(*ports));
	memcpy(ports, known, n * sizeof(*ports));
	n = captured_ports(v, ports, n);
	n = policy_ports(v, a, ports, n, policy, n_policy);
	if (n > 1)
		qsort(ports, n, sizeof(*ports), inbound_port_cmp);
	add_originals(v, a, in.listener);
	listener_inspect(v, a, in.listener, true, true);
	chain_match(a, loop, own, "", NULL);
	pb_add(a, in.listener, filter_chains, loop);
	for (size_t i = 0; i < n; i++)
		port_chains(&in, &ports[i]);
	port_chains(&in, &rest);
	return in.listener;
}

Lds__Listener *inbound_build(struct view *v, struct str name, struct arena *a)
{
	return str_eqc(name, "virtualInbound") ? build_virtual(v, a) : build_bound(v, name, a);
}

bool inbound_is_listener(struct str name)
{
	return str_eqc(name, "virtualInbound") || str_starts(name, STR("inbound_"));
}
