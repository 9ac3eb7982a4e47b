/* DOC: LDS: names, dispatch by kind of proxy, and the parts that all listeners are made of. */
#include "pilot/translate/listeners.h"

#include "pilot/translate/connection_manager.h"
#include "pilot/translate/dynamic_dns.h"
#include "pilot/translate/translate.h"
#include "xds/http_inspector.pb-c.h"
#include "xds/mongo_proxy.pb-c.h"
#include "xds/tls_inspector.pb-c.h"

const char *const alpn_of_mesh[] = {
	"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2", NULL};
const char *const alpn_plain_http[] = {"http/1.1", "h2c", NULL};

Lds__Listener *listener_new(
	struct arena *a, const char *name, struct str address, uint32_t port, Core__TrafficDirection direction)
{
	Lds__Listener *l = PB_NEW(a, Lds__Listener, lds__listener);

	l->name = arena_strdup(a, name);
	l->address = build_address(a, address, port);
	l->traffic_direction = direction;
	return l;
}

void listener_filter(struct arena *a, Lds__Listener *l, const char *name, const void *config)
{
	Lds__ListenerFilter *f = PB_NEW(a, Lds__ListenerFilter, lds__listener_filter);

	f->name = arena_strdup(a, name);
	f->typed_config = pb_any(a, config);
	f->config_type_case = LDS__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG;
	pb_add(a, l, listener_filters, f);
}

/* A server that speaks first sends nothing to look at: after the timeout (0: none, Istio's default) the connection goes on. */
void listener_inspect(struct view *v, struct arena *a, Lds__Listener *l, bool tls, bool http)
{
	const Wkt__Duration *timeout = view_mesh(v)->protocol_detection_timeout;

	if (tls)
		listener_filter(a, l, "envoy.filters.listener.tls_inspector",
			PB_NEW(a, TlsInsp__TlsInspector, tls_insp__tls_inspector));
	if (http)
		listener_filter(a, l, "envoy.filters.listener.http_inspector",
			PB_NEW(a, HttpInsp__HttpInspector, http_insp__http_inspector));
	if (tls || http) {
		l->listener_filters_timeout = timeout ? build_duration(a, timeout) : build_ms(a, 0);
		l->continue_on_listener_filters_timeout = true;
	}
}

Lds__FilterChain *filter_chain(struct arena *a, const char *name, Lds__Filter *filter)
{
	Lds__FilterChain *c = PB_NEW(a, Lds__FilterChain, lds__filter_chain);

	c->name = arena_strdup(a, name);
	pb_add(a, c, filters, filter);
	return c;
}

void chain_prepend(struct arena *a, Lds__FilterChain *c, const char *name, const void *config)
{
	Lds__Filter *f = PB_NEW(a, Lds__Filter, lds__filter), *last = c->filters[c->n_filters - 1];

	f->name = arena_strdup(a, name);
	f->typed_config = pb_any(a, config);
	f->config_type_case = LDS__FILTER__CONFIG_TYPE_TYPED_CONFIG;
	c->filters[c->n_filters - 1] = f;
	pb_add(a, c, filters, last);
}

void chain_understand(struct view *v, struct arena *a, Lds__FilterChain *c, const char *protocol)
{
	static const char name[] = "envoy.filters.network.mongo_proxy";
	Mongo__MongoProxy *config;

	if (!streq(protocol, "MONGO") || !view_has_extension(v, name))
		return;
	config = PB_NEW(a, Mongo__MongoProxy, mongo__mongo_proxy);
	config->stat_prefix = c->name;
	chain_prepend(a, c, name, config);
}

void chain_match(struct arena *a, Lds__FilterChain *c, uint32_t port, const char *transport, const char *const *alpn)
{
	Lds__FilterChainMatch *m = PB_NEW(a, Lds__FilterChainMatch, lds__filter_chain_match);

	if (port)
		m->destination_port = build_u32(a, port);
	m->transport_protocol = arena_strdup(a, transport);
	for (; alpn && *alpn; alpn++)
		pb_add(a, m, application_protocols, arena_strdup(a, *alpn));
	c->filter_chain_match = m;
}

Lds__Filter *route_to(const struct chain *c, Cfg__RouteDestination *const *routes, size_t n, uint32_t port)
{
	struct weighted *to = arena_array(c->a, n + 1, sizeof(*to));
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		if (routes[i]->destination && (n == 1 || routes[i]->weight > 0))
			to[len++] = (struct weighted){destination_cluster(c->v, c->a, routes[i]->destination, port),
				(uint32_t)routes[i]->weight};
	if (!len)
		return build_tcp_to(c, "BlackHoleCluster");
	return build_tcp(c, to[0].cluster, to, len);
}

void route_look_up(
	const struct chain *c, Lds__FilterChain *chain, Cfg__RouteDestination *const *routes, size_t n, uint32_t port)
{
	const Cfg__Destination *d = n && routes[0]->destination ? routes[0]->destination : NULL;
	const Fl__Service *s = d ? view_service(c->v, str_of(d->host)) : NULL;

	if (s && service_discovery(c->v, s) == DISCOVERY_BY_NAME)
		dynamic_dns_by_sni(c->v, c->a, chain, d->port && d->port->number ? d->port->number : port);
}

static void lds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	enum proxy_type type = v->scope->attributes->type;
	struct name_list list = {0};

	if (type == PROXY_ROUTER && v->scope->kind == SCOPE_MESH)
		gateway_names(v, a, &list);
	else if (type == PROXY_SIDECAR && v->scope->kind == SCOPE_MESH)
		outbound_names(v, a, &list);
	else if (type == PROXY_SIDECAR && v->scope->kind == SCOPE_OWN)
		inbound_names(v, a, &list);
	name_list_finish(&list, out, n);
}

/* Proxies with addresses of IPv6 listen there, too, under the same name. */
static void add_families(const struct view *v, struct arena *a, Lds__Listener *l)
{
	const struct proxy *p = v->scope->attributes;
	bool socket = l->address->address_case == CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS;
	Core__SocketAddress *at = socket ? l->address->socket_address : NULL;
	Lds__AdditionalAddress *more;

	if (!p->ipv6 || !at || !streq(at->address, "0.0.0.0"))
		return;
	if (!p->ipv4) {
		at->address = arena_strdup(a, "::");
		return;
	}
	more = PB_NEW(a, Lds__AdditionalAddress, lds__additional_address);
	more->address = build_address(a, STR("::"), at->port_value);
	pb_add(a, l, additional_addresses, more);
}

static const ProtobufCMessage *lds_build(struct view *v, struct str name, struct arena *a)
{
	Lds__Listener *l;

	if (v->scope->attributes->type == PROXY_ROUTER)
		l = gateway_build(v, name, a);
	else if (inbound_is_listener(name))
		l = inbound_build(v, name, a);
	else
		l = outbound_build(v, name, a);
	if (l) {
		listener_settings(v, a, l);
		add_families(v, a, l);
	}
	for (size_t i = 0; l && i < feature_count; i++)
		if (features[i]->on_listener)
			features[i]->on_listener(v, a, l);
	return l ? &l->base : NULL;
}

static enum scope_kind lds_scope(struct str name)
{
	return inbound_is_listener(name) ? SCOPE_OWN : SCOPE_MESH;
}

const struct translator lds_translator = {.names = lds_names, .build = lds_build, .scope = lds_scope};
