#include "cfg/networking/gateway.pb-c.h"
#include "common/mesh/protocol.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: Gateway. A server needs a port whose protocol is known, hosts, and TLS settings exactly when its protocol is HTTPS or TLS (an
 * HTTP server may only ask for the redirect). Normal form: hosts are "namespace/name", with "*" for any namespace; the protocol is
 * upper case; targetPort, which has no effect, is cleared.
 */

static void host_part(struct check *c, struct str host, const char *path)
{
	size_t at;
	if (host_is_ip(host))
		return;
	const char *problem = host_problem(c->arena, host);
	if (problem)
		check_error(c, "host", "api: Server.hosts", path, "%s", problem);
	else if (!str_eqc(host, "*") && !str_find(host, '.', &at))
		check_error(c, "host", "api: Server.hosts", path,
			"\"" STR_FMT "\" is a short name; a gateway needs the full one", STR_ARG(host));
	else if (host.len > 1 && host.ptr[0] == '*' && host.ptr[1] != '.')
		check_error(c, "host", "api: Server.hosts", path, "\"" STR_FMT "\": a wildcard is a whole label",
			STR_ARG(host));
}

static void server_host(struct check *c, const char *text, const char *path)
{
	struct str ns, host;
	if (!str_cut(str_of(text), '/', &ns, &host)) {
		host_part(c, str_of(text), path);
		return;
	}
	if (!str_eqc(ns, "*") && !str_eqc(ns, ".") && !name_is_label(ns))
		check_error(c, "host", "api: Server.hosts", path, "\"" STR_FMT "\" is no namespace, \"*\" or \".\"",
			STR_ARG(ns));
	host_part(c, host, path);
}

static void server_tls(struct check *c, const Cfg__Server *s, const char *path)
{
	enum protocol class = protocol_of(s->port->protocol);
	const Cfg__ServerTLSSettings *t = s->tls;
	if (class == PROTOCOL_TLS && !t)
		check_error(c, "tls-required", "api: Server.tls", path, "a server of protocol %s needs tls",
			s->port->protocol);
	if (t && class != PROTOCOL_HTTP && t->https_redirect)
		check_warn(c, "https-redirect", "api: ServerTLSSettings.httpsRedirect",
			path_at(c, "%s.tls.httpsRedirect", path), "works on HTTP servers only");
	if (class == PROTOCOL_TLS || !t)
		return;
	bool redirect_only = t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__PASSTHROUGH &&
			     str_empty(t->ca_certificates) && str_empty(t->private_key) &&
			     str_empty(t->server_certificate);
	if (class != PROTOCOL_HTTP)
		check_error(c, "tls-protocol", "api: Server.tls", path_at(c, "%s.tls", path),
			"a server of protocol %s has no tls", s->port->protocol);
	else if (!redirect_only)
		check_error(c, "tls-protocol", "api: Server.tls", path_at(c, "%s.tls", path),
			"a plain-text HTTP server may only have httpsRedirect");
}

static void server_port(struct check *c, const Cfg__Server *s, const char *path)
{
	bool is_unix = str_starts(str_of(s->bind ? s->bind : ""), STR("unix://"));
	if (is_unix && s->port->number)
		check_error(c, "bind", "api: Server.bind", path_at(c, "%s.port.number", path),
			"must be 0 for a Unix socket");
	else if (!is_unix && (s->port->number < 1 || s->port->number > 65535))
		check_error(c, "port", "api: Port.number", path_at(c, "%s.port.number", path),
			"port %u is not in the range 1..65535", s->port->number);
	if (s->port->target_port)
		check_warn(c, "ineffective", "api: Port.targetPort", path_at(c, "%s.port.targetPort", path),
			"has no effect on a Gateway");
}

static void validate(struct check *c, const void *message)
{
	const Cfg__Gateway *g = message;
	if (!name_is_label(str_of(c->name)))
		check_error(c, "dns-label", "api: Gateway", "metadata.name",
			"\"%s\": the name of a Gateway is a DNS label", c->name);
	char **names = ARENA_ARRAY(c->arena, char *, g->n_servers);
	for (size_t i = 0; i < g->n_servers; i++) {
		const Cfg__Server *s = g->servers[i];
		const char *path = path_at(c, "spec.servers[%zu]", i);
		for (size_t k = 0; k < s->n_hosts; k++)
			server_host(c, s->hosts[k], path_at(c, "%s.hosts[%zu]", path, k));
		check_server_tls(c, s->tls, path_at(c, "%s.tls", path));
		if (!s->port)
			continue;
		names[i] = s->port->name;
		server_port(c, s, path);
		server_tls(c, s, path);
		for (size_t k = 0; k < i; k++)
			if (g->servers[k]->port && streq(names[k], names[i]))
				check_error(c, "duplicate-port-name", "api: Port.name",
					path_at(c, "%s.port.name", path),
					"\"%s\" is also the name of servers[%zu]'s port", names[i] ? names[i] : "", k);
	}
	check_labels(c, LABEL_VIEW(g, selector), "spec.selector", "api: Gateway.selector");
	if (g->n_selector == 0)
		check_warn(c, "selector-empty", "api: Gateway.selector", "spec",
			"without a selector it applies to every gateway workload");
}

static const struct rule rules[] = {
	{"servers", NULL, .required = true, .source = "api: Gateway.servers"},
	{"servers[].port", NULL, .required = true, .source = "api: Server.port"},
	{"servers[].port.protocol", check_listener_protocol, .required = true, .source = "api: Port.protocol"},
	{"servers[].hosts", NULL, .required = true, .source = "api: Server.hosts"},
	{"servers[].bind", check_bind, .source = "api: Server.bind"},
};

static void normalise(struct normal *n, void *message)
{
	Cfg__Gateway *g = message;
	for (size_t i = 0; i < g->n_servers; i++) {
		Cfg__Server *s = g->servers[i];
		s->port->protocol = normal_upper_protocol(n, s->port->protocol);
		s->port->target_port = 0;
		for (size_t k = 0; k < s->n_hosts; k++) {
			struct str ns, host;
			if (!str_cut(str_of(s->hosts[k]), '/', &ns, &host)) {
				ns = STR("*");
				host = str_of(s->hosts[k]);
			}
			s->hosts[k] = arena_printf(n->arena, STR_FMT "/%s", STR_ARG(str_eqc(ns, ".") ? n->ns : ns),
				normal_host(n, arena_cstr(n->arena, host)));
		}
	}
}

extern const struct kind_ops gateway_ops;
const struct kind_ops gateway_ops = {RULES(rules), .validate = validate, .normalise = normalise};
