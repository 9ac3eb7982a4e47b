/*
 * DOC: Egress listeners with an address of their own. Such a listener stands for all services it imports: HTTP goes by the Host header to
 * the routes of its port, TLS by server name, TCP to the first service. It is bound by Envoy unless traffic to it is captured. A Unix
 * socket has no port, so its routes ("unix:///path") hold every port of every service; so do those of the HTTP proxy port ("http_proxy").
 */
#include "pilot/translate/egress.h"

#include "common/mesh/host.h"
#include "pilot/translate/l4_rules.h"

static const char http_proxy[] = "http_proxy";

static bool is_unix(const Cfg__IstioEgressListener *l)
{
	return str_starts(str_of(l->bind), STR("unix://"));
}

static bool is_captured(const struct view *v, const Cfg__IstioEgressListener *l)
{
	if (l->capture_mode == CFG__CAPTURE_MODE__DEFAULT)
		return !v->scope->attributes->no_capture && !is_unix(l);
	return l->capture_mode == CFG__CAPTURE_MODE__IPTABLES;
}

bool egress_is_bound(const struct view *v, const Cfg__IstioEgressListener *l)
{
	return l && l->port && (!str_empty(l->bind) || !is_captured(v, l));
}

static struct str address_of(const Cfg__IstioEgressListener *l)
{
	return str_empty(l->bind) ? STR("127.0.0.1") : str_of(l->bind);
}

struct str egress_wildcard(struct view *v, bool *captured)
{
	const Cfg__Sidecar *s = view_sidecar(v);
	const Cfg__IstioEgressListener *l = s && s->n_egress ? s->egress[s->n_egress - 1] : NULL;

	/* The listener without a port is the last one. */
	if (!l || l->port) {
		*captured = !v->scope->attributes->no_capture;
		return *captured ? STR("0.0.0.0") : STR("127.0.0.1");
	}
	*captured = is_captured(v, l);
	return *captured && str_empty(l->bind) ? STR("0.0.0.0") : address_of(l);
}

static char *name_of(struct arena *a, const Cfg__IstioEgressListener *l)
{
	return is_unix(l) ? arena_strdup(a, l->bind) : listener_name(a, address_of(l), l->port->number);
}

static const char *routes_of(struct arena *a, const Cfg__IstioEgressListener *l)
{
	return is_unix(l) ? l->bind : arena_printf(a, "%u", l->port->number);
}

static uint32_t proxy_port(struct view *v)
{
	int32_t port = view_mesh(v)->proxy_http_port;

	return port > 0 && v->scope->attributes->type == PROXY_SIDECAR ? (uint32_t)port : 0;
}

static char *proxy_name(struct arena *a, uint32_t port)
{
	return listener_name(a, STR("127.0.0.1"), port);
}

static const Cfg__IstioEgressListener *find(struct view *v, struct str name)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	for (size_t i = 0; s && i < s->n_egress; i++)
		if (egress_is_bound(v, s->egress[i]) && str_eqc(name, name_of(v->scratch, s->egress[i])))
			return s->egress[i];
	return NULL;
}

void egress_names(struct view *v, struct arena *a, struct name_list *l)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	for (size_t i = 0; s && i < s->n_egress; i++)
		if (egress_is_bound(v, s->egress[i]) &&
			egress_build(v, str_of(name_of(v->scratch, s->egress[i])), v->scratch))
			name_list_add(a, l, name_of(a, s->egress[i]));
	if (proxy_port(v))
		name_list_add(a, l, proxy_name(a, proxy_port(v)));
}

/* ---- chains */
static void imported(struct view *v, const Cfg__IstioEgressListener *l, struct service_list *out)
{
	size_t n = 0;

	view_services(v, out);
	for (size_t i = 0; i < out->n; i++)
		if (egress_admits(v, l, str_of(out->items[i]->namespace_), str_of(out->items[i]->hostname)))
			out->items[n++] = out->items[i];
	out->n = n;
}

/* The port of a service that a listener on `port` means: the same, else its only one; 0: it is not clear. */
static uint32_t port_of(const Fl__Service *s, uint32_t port)
{
	if (service_port(s, port))
		return port;
	return s->n_ports == 1 ? s->ports[0]->number : 0;
}

static void add_layer4(const struct chain *c, Lds__Listener *l, const Cfg__IstioEgressListener *e)
{
	bool tls = protocol_of(e->port->protocol) == PROTOCOL_TLS;
	struct service_list list;

	imported(c->v, e, &list);
	for (size_t i = 0; i < list.n; i++) {
		const Fl__Service *s = list.items[i];
		uint32_t port = port_of(s, e->port->number);

		if (!port)
			continue;
		if (!tls) {
			pb_add(c->a, l, filter_chains, filter_chain(c->a, "outbound-tcp", tcp_of(c, l, s, port)));
			chain_understand(c->v, c->a, l->filter_chains[l->n_filter_chains - 1], e->port->protocol);
			return;
		}
		add_tls_service(c, l, s, port);
	}
}

static Lds__FilterChain *any_http(const struct chain *c, const char *listener, const char *routes)
{
	return filter_chain(
		c->a, "outbound-http", build_http(c, arena_printf(c->a, "outbound_%s", listener), NULL, routes));
}

static Lds__Listener *build_proxy(struct view *v, struct arena *a, uint32_t port)
{
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_OUTBOUND};
	Lds__Listener *l = listener_new(
		a, proxy_name(a, port), STR("127.0.0.1"), port, CORE__TRAFFIC_DIRECTION__OUTBOUND);

	pb_add(a, l, filter_chains, any_http(&c, l->name, http_proxy));
	return l;
}

Lds__Listener *egress_build(struct view *v, struct str name, struct arena *a)
{
	struct chain c = {.v = v, .a = a, .direction = DIRECTION_OUTBOUND};
	const Cfg__IstioEgressListener *e = find(v, name);
	enum protocol p = e ? protocol_of(e->port->protocol) : PROTOCOL_TCP;
	Lds__Listener *l;

	if (!e && proxy_port(v) && str_eqc(name, proxy_name(v->scratch, proxy_port(v))))
		return build_proxy(v, a, proxy_port(v));
	if (!e)
		return NULL;
	l = listener_new(a, arena_cstr(a, name), address_of(e), e->port->number, CORE__TRAFFIC_DIRECTION__OUTBOUND);
	if (is_captured(v, e))
		l->bind_to_port = build_bool(a, false);
	if (p == PROTOCOL_HTTP)
		pb_add(a, l, filter_chains, any_http(&c, l->name, routes_of(a, e)));
	else
		add_layer4(&c, l, e);
	if (!l->n_filter_chains)
		return NULL;
	listener_inspect(v, a, l, p == PROTOCOL_TLS, false);
	return l;
}

/* ---- routes */
bool egress_serves_http(struct view *v, uint32_t port)
{
	const Cfg__IstioEgressListener *l = sidecar_egress(v, port);

	return egress_is_bound(v, l) && protocol_of(l->port->protocol) == PROTOCOL_HTTP;
}

void egress_route_names(struct view *v, struct arena *a, struct name_list *l)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	for (size_t i = 0; s && i < s->n_egress; i++)
		if (egress_is_bound(v, s->egress[i]) && protocol_of(s->egress[i]->port->protocol) == PROTOCOL_HTTP)
			name_list_add(a, l, arena_strdup(a, routes_of(a, s->egress[i])));
	if (proxy_port(v))
		name_list_add(a, l, http_proxy);
}

bool egress_routes_all(struct view *v, struct str name)
{
	if (str_eqc(name, http_proxy))
		return proxy_port(v) != 0;
	return str_starts(name, STR("unix://")) && find(v, name);
}

void egress_services(struct view *v, struct str name, struct service_list *out)
{
	const Cfg__IstioEgressListener *l = str_eqc(name, http_proxy) ? NULL : find(v, name);

	if (l)
		imported(v, l, out);
	else
		view_services(v, out);
}
