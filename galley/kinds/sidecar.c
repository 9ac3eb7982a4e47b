#include "cfg/networking/sidecar.pb-c.h"
#include "common/mesh/protocol.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: Sidecar. Egress hosts are "namespace/host" ("~" before the namespace takes it out); one egress listener may have no port, and it
 * is the last; ingress listeners have distinct ports and an endpoint on the loopback or a Unix socket. Normal form: hosts and
 * protocols have one spelling.
 */

static bool is_unix(const char *bind)
{
	return str_starts(str_of(bind ? bind : ""), STR("unix://"));
}

/* ---- egress */

static void egress_host(struct check *c, const char *text, const char *path)
{
	static const char source[] = "api: IstioEgressListener.hosts";
	struct str ns, host;
	size_t at;
	if (!str_cut(str_of(text), '/', &ns, &host)) {
		check_error(c, "egress-host", source, path, "\"%s\" is not of the form namespace/host", text);
		return;
	}
	struct str plain = str_starts(ns, STR("~")) ? str_from(ns, 1) : ns;
	if (ns.len == 0 || (plain.len && !str_eqc(plain, "*") && !str_eqc(plain, ".") && !name_is_label(plain)))
		check_error(c, "egress-host", source, path, "\"" STR_FMT "\" is no namespace, \"*\", \".\" or \"~\"",
			STR_ARG(ns));
	const char *problem = host_problem(c->arena, host);
	if (problem)
		check_error(c, "egress-host", source, path, "%s", problem);
	else if (!str_eqc(host, "*") && !str_find(host, '.', &at))
		check_error(c, "egress-host", source, path, "\"" STR_FMT "\" is a short name; the full one is needed",
			STR_ARG(host));
	else if (host.len > 1 && host.ptr[0] == '*' && host.ptr[1] != '.')
		check_error(
			c, "egress-host", source, path, "\"" STR_FMT "\": a wildcard is a whole label", STR_ARG(host));
}

static void egress_port(struct check *c, const Cfg__IstioEgressListener *l, const char *path)
{
	if (l->port->number == 0) {
		if (!is_unix(l->bind))
			check_error(c, "bind", "api: IstioEgressListener.bind", path_at(c, "%s.bind", path),
				"port 0 needs the address of a Unix socket");
		if (l->capture_mode == CFG__CAPTURE_MODE__IPTABLES)
			check_error(c, "capture", "api: IstioEgressListener.captureMode",
				path_at(c, "%s.captureMode", path),
				"a Unix socket cannot be captured: DEFAULT or NONE");
	} else if (is_unix(l->bind)) {
		check_error(c, "bind", "api: IstioEgressListener.bind", path_at(c, "%s.bind", path),
			"a Unix socket has port 0");
	}
	if (l->port->target_port)
		check_error(c, "ineffective", "api: SidecarPort.targetPort", path_at(c, "%s.port.targetPort", path),
			"has no effect");
}

static bool same_listener(const Cfg__IstioEgressListener *x, const Cfg__IstioEgressListener *y)
{
	if (!x->port || !y->port || x->port->number != y->port->number)
		return false;
	return x->port->number != 0 || streq(x->bind, y->bind);
}

static void egress(struct check *c, const Cfg__Sidecar *s)
{
	for (size_t i = 0; i < s->n_egress; i++) {
		const Cfg__IstioEgressListener *l = s->egress[i];
		const char *path = path_at(c, "spec.egress[%zu]", i);
		for (size_t k = 0; k < l->n_hosts; k++)
			egress_host(c, l->hosts[k], path_at(c, "%s.hosts[%zu]", path, k));
		if (!l->port && i + 1 < s->n_egress)
			check_error(c, "egress-order", "api: Sidecar.egress", path,
				"only the last egress listener may have no port");
		if (!l->port)
			continue;
		egress_port(c, l, path);
		for (size_t k = 0; k < i; k++)
			if (same_listener(l, s->egress[k]))
				check_error(c, "duplicate-port", "api: Sidecar.egress", path_at(c, "%s.port", path),
					"listens where egress[%zu] listens", k);
	}
}

/* ---- ingress */

static void default_endpoint(struct check *c, const char *text, const char *path)
{
	static const char source[] = "api: IstioIngressListener.defaultEndpoint";
	static const char *const hosts[] = {"", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"};
	struct str s = str_of(text);
	size_t at;
	if (str_starts(s, STR("unix://"))) {
		const char *problem = unix_path_problem(str_from(s, 7));
		if (problem)
			check_error(c, "default-endpoint", source, path, "%s", problem);
		return;
	}
	uint32_t port;
	if (!str_rfind(s, ':', &at) || !str_u32(str_from(s, at + 1), 65535, &port) || port == 0) {
		check_error(c, "default-endpoint", source, path, "\"%s\" has no port in the range 1..65535", text);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (str_eqc(str_sub(s, 0, at), hosts[i]))
			return;
	check_error(c, "default-endpoint", source, path,
		"\"%s\" is not 127.0.0.1:port, 0.0.0.0:port, [::1]:port, [::]:port, :port or unix:///path", text);
}

static void ingress_tls(struct check *c, const Cfg__IstioIngressListener *l, const char *path)
{
	static const char source[] = "api: IstioIngressListener.tls";
	const Cfg__ServerTLSSettings *t = l->tls;
	if (!t)
		return;
	if (t->n_subject_alt_names || t->https_redirect || !str_empty(t->credential_name) || t->n_credential_names ||
		t->n_tls_certificates)
		check_error(c, "ingress-tls", source, path,
			"subjectAltNames, httpsRedirect, credentialName(s) and tlsCertificates are not supported in a "
			"Sidecar");
	if (t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL ||
		t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__AUTO_PASSTHROUGH)
		check_error(
			c, "ingress-tls", source, path_at(c, "%s.mode", path), "is not a mode of a Sidecar's ingress");
	if (l->port && protocol_of(l->port->protocol) != PROTOCOL_TLS)
		check_error(c, "tls-protocol", source, path, "needs a port of protocol HTTPS or TLS");
	check_server_tls(c, t, path);
}

/* A listener that Envoy binds on the loopback, too, and whose endpoint is its own port there. */
static bool leads_to_itself(const Cfg__IstioIngressListener *l)
{
	bool loopback = str_empty(l->bind) || streq(l->bind, "0.0.0.0") || streq(l->bind, "127.0.0.1");
	struct str s = str_of(l->default_endpoint ? l->default_endpoint : "");
	uint32_t port = l->port->number;
	size_t at;
	if (l->capture_mode != CFG__CAPTURE_MODE__NONE || !loopback || is_unix(l->default_endpoint))
		return false;
	return !str_rfind(s, ':', &at) || (str_u32(str_from(s, at + 1), 65535, &port) && port == l->port->number);
}

static void ingress(struct check *c, const Cfg__Sidecar *s)
{
	for (size_t i = 0; i < s->n_ingress; i++) {
		const Cfg__IstioIngressListener *l = s->ingress[i];
		const char *path = path_at(c, "spec.ingress[%zu]", i);
		if (!str_empty(l->default_endpoint))
			default_endpoint(c, l->default_endpoint, path_at(c, "%s.defaultEndpoint", path));
		ingress_tls(c, l, path_at(c, "%s.tls", path));
		check_connection_pool(c, l->connection_pool, path_at(c, "%s.connectionPool", path));
		if (!l->port)
			continue;
		if (leads_to_itself(l))
			check_warn(c, "loop", "api: IstioIngressListener.defaultEndpoint",
				path_at(c, "%s.defaultEndpoint", path),
				"is where the listener itself listens; without capture it needs another port");
		if (l->port->target_port)
			check_error(c, "ineffective", "api: SidecarPort.targetPort",
				path_at(c, "%s.port.targetPort", path), "has no effect");
		if (l->connection_pool && l->connection_pool->http && protocol_of(l->port->protocol) != PROTOCOL_HTTP)
			check_warn(c, "ineffective", "api: IstioIngressListener.connectionPool",
				path_at(c, "%s.connectionPool.http", path),
				"has no effect: the port's protocol is not HTTP");
		for (size_t k = 0; k < i; k++)
			if (s->ingress[k]->port && s->ingress[k]->port->number == l->port->number)
				check_error(c, "duplicate-port", "api: Sidecar.ingress",
					path_at(c, "%s.port.number", path), "port %u is also that of ingress[%zu]",
					l->port->number, k);
	}
}

static void outbound_policy(struct check *c, const Cfg__OutboundTrafficPolicy *p)
{
	if (!p || !p->egress_proxy)
		return;
	static const char path[] = "spec.outboundTrafficPolicy.egressProxy";
	if (p->mode != CFG__OUTBOUND_TRAFFIC_POLICY__MODE__ALLOW_ANY)
		check_error(c, "egress-proxy", "api: OutboundTrafficPolicy.egressProxy", path, "needs mode ALLOW_ANY");
	if (!p->egress_proxy->port)
		check_error(c, "required", "api: OutboundTrafficPolicy.egressProxy", path_at(c, "%s.port", path),
			"is required");
	check_destination(c, p->egress_proxy, path);
}

static void validate(struct check *c, const void *message)
{
	const Cfg__Sidecar *s = message;
	if (s->workload_selector)
		check_selector(c, LABEL_VIEW(s->workload_selector, labels), "spec.workloadSelector.labels",
			"api: Sidecar.workloadSelector");
	if (!s->n_egress && !s->n_ingress && !s->outbound_traffic_policy && !s->inbound_connection_pool)
		check_error(c, "empty", "api: Sidecar", "spec", "says nothing");
	ingress(c, s);
	egress(c, s);
	check_connection_pool(c, s->inbound_connection_pool, "spec.inboundConnectionPool");
	outbound_policy(c, s->outbound_traffic_policy);
}

static const struct rule rules[] = {
	{"ingress[].port", NULL, .required = true, .source = "api: IstioIngressListener.port"},
	{"ingress[].port.number", check_port, .required = true, .source = "api: SidecarPort.number"},
	{"ingress[].port.protocol", check_listener_protocol, .required = true, .source = "api: SidecarPort.protocol"},
	{"ingress[].port.name", check_port_name, .source = "api: SidecarPort.name"},
	{"ingress[].bind", check_ip, .source = "api: IstioIngressListener.bind"},
	{"egress[].port.number", check_port, .source = "api: SidecarPort.number"},
	{"egress[].port.protocol", check_listener_protocol, .required = true, .source = "api: SidecarPort.protocol"},
	{"egress[].port.name", check_port_name, .source = "api: SidecarPort.name"},
	{"egress[].bind", check_bind, .source = "api: IstioEgressListener.bind"},
	{"egress[].hosts", NULL, .required = true, .source = "api: IstioEgressListener.hosts"},
};

static void normalise(struct normal *n, void *message)
{
	Cfg__Sidecar *s = message;
	for (size_t i = 0; i < s->n_egress; i++) {
		Cfg__IstioEgressListener *l = s->egress[i];
		for (size_t k = 0; k < l->n_hosts; k++) {
			struct str ns, host;
			(void)str_cut(str_of(l->hosts[k]), '/', &ns, &host);
			/* "." is the namespace of the proxy, which is another one for the Sidecar of the root namespace. */
			l->hosts[k] = arena_printf(
				n->arena, STR_FMT "/%s", STR_ARG(ns), normal_lower(n, arena_cstr(n->arena, host)));
		}
		if (l->port)
			l->port->protocol = normal_upper_protocol(n, l->port->protocol);
	}
	for (size_t i = 0; i < s->n_ingress; i++)
		s->ingress[i]->port->protocol = normal_upper_protocol(n, s->ingress[i]->port->protocol);
	if (s->outbound_traffic_policy && s->outbound_traffic_policy->egress_proxy)
		s->outbound_traffic_policy->egress_proxy->host = normal_host(
			n, s->outbound_traffic_policy->egress_proxy->host);
}

extern const struct kind_ops sidecar_ops;
const struct kind_ops sidecar_ops = {RULES(rules), .validate = validate, .normalise = normalise};
