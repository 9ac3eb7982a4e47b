/*
 * DOC: Clusters of a workload's own ports. They go to the original destination from 127.0.0.6 (so that capture lets it pass), or, when
 * the mesh config says LOCALHOST, to 127.0.0.1. An ingress listener of a Sidecar may name another endpoint: a port of the loopback or of
 * the instance's own address, or a Unix socket. Limits: those of the ingress listener, else of the Sidecar, else the destination
 * rule's of the service (the server must bear what its clients may send), else the mesh's.
 */
#include "pilot/translate/inbound.h"

#include <stdlib.h>
#include <sys/socket.h>

static const char passthrough[] = "InboundPassthroughCluster";

/* ---- ports */
int inbound_port_cmp(const void *x, const void *y)
{
	const struct inbound_port *a = x, *b = y;

	return a->number < b->number ? -1 : a->number > b->number;
}

bool inbound_has_port(const struct inbound_port *list, size_t n, uint32_t number)
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

		if (!port || protocol_of(port->protocol) == PROTOCOL_UDP || inbound_has_port(out, n, x->target_port))
			continue;
		out[n++] = (struct inbound_port){x->target_port, s, port, protocol_of(port->protocol),
			cluster_name_inbound(a, x->target_port), listener_name(a, STR("0.0.0.0"), x->target_port),
			NULL};
	}
	return n;
}

static bool endpoint_is_unix(const Cfg__IstioIngressListener *l)
{
	return str_starts(str_of(l->default_endpoint), STR("unix://"));
}

/* The port that the application listens on; 0: a Unix socket. */
static uint32_t endpoint_number(const Cfg__IstioIngressListener *l)
{
	struct str s = str_of(l->default_endpoint);
	uint32_t port = l->port->number;
	size_t at;

	if (endpoint_is_unix(l))
		return 0;
	if (str_rfind(s, ':', &at) && !str_u32(str_from(s, at + 1), 65535, &port))
		return l->port->number;
	return port;
}

/* The service that an ingress listener serves: one of the workload's whose port leads there. */
static void find_service(struct view *v, struct inbound_port *p)
{
	uint32_t endpoint = endpoint_number(p->ingress);

	for (size_t i = 0; i < v->scope->n_instances; i++) {
		const struct instance *x = &v->scope->instances[i];
		const Fl__Service *s = view_service_by_key(v, x->service);

		if (!s || (x->target_port != p->number && x->target_port != endpoint))
			continue;
		p->service = s;
		p->port = service_port(s, x->port);
		return;
	}
}

void inbound_ports(struct view *v, struct arena *a, struct inbound_port **out, size_t *n)
{
	const Cfg__Sidecar *s = view_sidecar(v);
	size_t n_ingress = s ? s->n_ingress : 0;

	*out = arena_array(a, v->scope->n_instances + n_ingress + 1, sizeof(**out));
	*n = 0;
	for (size_t i = 0; i < n_ingress; i++) {
		const Cfg__IstioIngressListener *l = s->ingress[i];
		struct inbound_port p = {.number = l->port->number,
			.protocol = protocol_of(l->port->protocol),
			.cluster = cluster_name_inbound(a, l->port->number),
			.label = listener_name(a, STR("0.0.0.0"), l->port->number),
			.ingress = l};

		find_service(v, &p);
		if (p.protocol != PROTOCOL_UDP && !inbound_has_port(*out, *n, p.number))
			(*out)[(*n)++] = p;
	}
	if (!n_ingress)
		*n = service_ports(v, a, *out);
	if (*n > 1)
		qsort(*out, *n, sizeof(**out), inbound_port_cmp);
}

bool inbound_is_bound(const struct view *v, const struct inbound_port *p)
{
	if (!p->ingress)
		return false;
	return p->ingress->capture_mode == CFG__CAPTURE_MODE__NONE ||
	       (p->ingress->capture_mode == CFG__CAPTURE_MODE__DEFAULT && v->scope->attributes->no_capture);
}

/* An outbound listener may have the same address and port, so the name says which side it is. */
char *inbound_bound_name(struct arena *a, const struct inbound_port *p)
{
	const char *bind = str_empty(p->ingress->bind) ? "0.0.0.0" : p->ingress->bind;

	return arena_printf(a, "inbound_%s", listener_name(a, str_of(bind), p->number));
}

/* ---- clusters */
void inbound_cluster_names(struct view *v, struct arena *a, struct name_list *l)
{
	struct inbound_port *ports;
	size_t n;

	if (v->scope->attributes->type != PROXY_SIDECAR)
		return;
	name_list_add(a, l, passthrough);
	inbound_ports(v, v->scratch, &ports, &n);
	for (size_t i = 0; i < n; i++)
		name_list_add(a, l, cluster_name_inbound(a, ports[i].number));
}

bool inbound_is_cluster(struct str name)
{
	return str_starts(name, STR("inbound|")) || str_eqc(name, passthrough);
}

/* Capture lets these pass; Envoy takes the one of the destination's family. */
static Core__BindConfig *local_source(const struct view *v, struct arena *a)
{
	const struct proxy *p = v->scope->attributes;
	Core__BindConfig *b = PB_NEW(a, Core__BindConfig, core__bind_config);
	Core__ExtraSourceAddress *more;

	b->source_address = build_address(a, p->ipv6 && !p->ipv4 ? STR("::6") : STR("127.0.0.6"), 0)->socket_address;
	if (!p->ipv6 || !p->ipv4)
		return b;
	more = PB_NEW(a, Core__ExtraSourceAddress, core__extra_source_address);
	more->address = build_address(a, STR("::6"), 0)->socket_address;
	pb_add(a, b, extra_source_addresses, more);
	return b;
}

/*
 * In a client's name, by original_src. Its mark is said again: an Envoy whose sockets all have a mark of their own, by which capture knows it, would
 * put that one over it.
 */
static void mark_source(const struct view *v, struct arena *a, Cds__Cluster *c)
{
	Core__SocketOption *option;

	if (!v->scope->attributes->transparent)
		return;
	if (!c->upstream_bind_config)
		c->upstream_bind_config = PB_NEW(a, Core__BindConfig, core__bind_config);
	option = PB_NEW(a, Core__SocketOption, core__socket_option);
	option->level = SOL_SOCKET;
	option->name = SO_MARK;
	option->int_value = TPROXY_MARK;
	option->value_case = CORE__SOCKET_OPTION__VALUE_INT_VALUE;
	pb_add(a, c->upstream_bind_config, socket_options, option);
}

static struct str loopback(const struct view *v)
{
	const struct proxy *p = v->scope->attributes;

	return p->ipv6 && !p->ipv4 ? STR("::1") : STR("127.0.0.1");
}

static void set_endpoint(struct arena *a, Cds__Cluster *c, struct str address, uint32_t port)
{
	Eds__ClusterLoadAssignment *out = PB_NEW(a, Eds__ClusterLoadAssignment, eds__cluster_load_assignment);
	Eds__LocalityLbEndpoints *group = PB_NEW(a, Eds__LocalityLbEndpoints, eds__locality_lb_endpoints);
	Eds__LbEndpoint *e = PB_NEW(a, Eds__LbEndpoint, eds__lb_endpoint);

	e->endpoint = PB_NEW(a, Eds__Endpoint, eds__endpoint);
	e->endpoint->address = build_address(a, address, port);
	e->host_identifier_case = EDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
	pb_add(a, group, lb_endpoints, e);
	pb_add(a, out, endpoints, group);
	out->cluster_name = c->name;
	c->type = CDS__CLUSTER__DISCOVERY_TYPE__STATIC;
	c->lb_policy = CDS__CLUSTER__LB_POLICY__ROUND_ROBIN;
	c->load_assignment = out;
}

/* Where the application is. */
static void set_destination(struct view *v, struct arena *a, Cds__Cluster *c, const struct inbound_port *p)
{
	const Mesh__MeshConfig__InboundTrafficPolicy *policy = view_mesh(v)->inbound_traffic_policy;
	struct str endpoint = p->ingress ? str_of(p->ingress->default_endpoint) : (struct str){0};

	if (p->ingress && endpoint_is_unix(p->ingress)) {
		set_endpoint(a, c, endpoint, 0);
	} else if (str_starts(endpoint, STR("0.0.0.0:")) || str_starts(endpoint, STR("[::]:"))) {
		set_endpoint(a, c, v->scope->attributes->ip, endpoint_number(p->ingress));
		c->upstream_bind_config = local_source(v, a);
	} else if (str_starts(endpoint, STR("[::1]:"))) {
		set_endpoint(a, c, STR("::1"), endpoint_number(p->ingress));
	} else if (endpoint.len || inbound_is_bound(v, p)) {
		set_endpoint(a, c, loopback(v), endpoint_number(p->ingress));
	} else if (policy && policy->mode == MESH__MESH_CONFIG__INBOUND_TRAFFIC_POLICY__MODE__LOCALHOST) {
		set_endpoint(a, c, loopback(v), p->number);
	} else {
		c->upstream_bind_config = local_source(v, a);
	}
}

/* ---- limits */
static const Cfg__ConnectionPoolSettings *pool_of(struct view *v, const struct inbound_port *p)
{
	const Cfg__Sidecar *s = view_sidecar(v);
	struct traffic_policy policy;
	struct rule rule;

	if (p->ingress && p->ingress->connection_pool)
		return p->ingress->connection_pool;
	if (s && s->inbound_connection_pool)
		return s->inbound_connection_pool;
	if (!p->service)
		return NULL;
	rule = view_rule(v, Q_DR_HOST, str_of(p->service->hostname), str_of(p->service->namespace_));
	policy = policy_resolve(view_mesh(v), rule.policy, NULL, p->port->number);
	return policy.pool;
}

static Cds__Cluster *build_port(struct view *v, struct str name, struct arena *a, const struct inbound_port *p)
{
	const char *protocol = p->ingress ? p->ingress->port->protocol : p->port->protocol;
	const Cfg__ConnectionPoolSettings *pool = pool_of(v, p);
	struct traffic_policy policy = {.pool = pool};
	Cds__Cluster *c = cluster_original_dst(v, name, a, pool);

	c->n_typed_extension_protocol_options = 0;
	set_destination(v, a, c, p);
	if (!inbound_is_bound(v, p))
		mark_source(v, a, c);
	cluster_http_options(v, a, c, upstream_http_of(protocol, pool), &policy);
	if (p->service) {
		cluster_describe(a, c, p->service, p->port->number, NULL, STR(""));
		cluster_stat_name(a, c, view_mesh(v)->inbound_cluster_stat_name, p->service, p->port, "");
	}
	return c;
}

Cds__Cluster *inbound_cluster(struct view *v, struct str name, struct arena *a)
{
	struct cluster_name parsed;
	struct inbound_port *ports;
	Cds__Cluster *c;
	size_t n;

	if (str_eqc(name, passthrough)) {
		c = cluster_original_dst(v, name, a, NULL);
		c->upstream_bind_config = local_source(v, a);
		mark_source(v, a, c);
		return c;
	}
	if (!cluster_name_parse(name, &parsed))
		return NULL;
	inbound_ports(v, v->scratch, &ports, &n);
	for (size_t i = 0; i < n; i++)
		if (ports[i].number == parsed.port)
			return build_port(v, name, a, &ports[i]);
	return NULL;
}
