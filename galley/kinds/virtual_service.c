#include "galley/kinds/virtual_service.h"

#include "common/mesh/claims.h"
#include "common/mesh/host.h"
#include "galley/checks/cover.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"

/*
 * DOC: VirtualService. Rows check single fields; the functions below check what fields say together: which actions of an HTTP route
 * exclude each other, what a delegate may not have, that hosts do not repeat, that SNI hosts belong to the hosts. A rule that no
 * request can reach, because an earlier one takes everything, is a warning.
 */

#define API "api: VirtualService."

static bool is_gateway_bound(const Cfg__VirtualService *vs)
{
	for (size_t i = 0; i < vs->n_gateways; i++)
		if (streq(vs->gateways[i], "mesh"))
			return false;
	return vs->n_gateways > 0;
}

static bool applies_to_mesh(const Cfg__VirtualService *vs)
{
	for (size_t i = 0; i < vs->n_gateways; i++)
		if (streq(vs->gateways[i], "mesh"))
			return true;
	return vs->n_gateways == 0;
}

/* ---- hosts */

static void hosts(struct check *c, const Cfg__VirtualService *vs)
{
	for (size_t i = 0; i < vs->n_hosts; i++) {
		const char *path = path_at(c, "spec.hosts[%zu]", i);
		struct str host = str_of(vs->hosts[i]);
		bool sni = vs->n_tls && is_gateway_bound(vs) && str_starts(host, STR("outbound_"));
		const char *problem = host_is_ip(host) || sni ? NULL : host_problem(c->arena, host);
		if (problem)
			check_error(c, "host", API "hosts", path, "%s", problem);
		else if (str_eqc(host, "*") && applies_to_mesh(vs))
			check_error(c, "mesh-wildcard", API "hosts", path,
				"\"*\" is only for gateways, and this one applies to the mesh");
		for (size_t k = 0; k < i; k++)
			if (host_overlaps(host, str_of(vs->hosts[k])) || str_ieq(host, str_of(vs->hosts[k])))
				check_error(c, "duplicate-host", API "hosts", path, "\"%s\" and \"%s\" overlap",
					vs->hosts[k], vs->hosts[i]);
	}
}

static void delegate_object(struct check *c, const Cfg__VirtualService *vs)
{
	if (vs->n_gateways)
		check_error(c, "delegate", API "hosts", "spec.gateways",
			"without hosts this is a delegate, which has no gateways");
	if (vs->n_tls)
		check_error(c, "delegate", API "hosts", "spec.tls",
			"without hosts this is a delegate, which has http routes only");
	if (vs->n_tcp)
		check_error(c, "delegate", API "hosts", "spec.tcp",
			"without hosts this is a delegate, which has http routes only");
}

/* ---- headers */

static bool is_authority(const char *name)
{
	return str_ieq(str_of(name), STR(":authority")) || str_ieq(str_of(name), STR("host"));
}

static void header_op(struct check *c, const char *name, const char *value, bool authority_allowed, const char *path)
{
	struct str n = str_of(name ? name : "");
	if (n.len == 0)
		check_error(c, "header-name", "api: Headers", path, "a header name must not be empty");
	else if (is_authority(name) ? !authority_allowed : n.ptr[0] == ':')
		check_error(c, "header-name", "api: Headers", path, "header \"%s\" cannot be changed", name);
	else if (n.ptr[0] != ':' && !header_name_ok(n))
		check_error(c, "header-name", "api: Headers", path, "\"%s\" is not a header name", name);
	const char *problem = header_value_problem(str_of(value ? value : ""));
	if (problem)
		check_error(c, "header-value", "api: Headers", path, "value of \"%s\": %s", name, problem);
}

static void header_ops(struct check *c, const Cfg__Headers__HeaderOperations *ops, bool request, const char *path)
{
	if (!ops)
		return;
	for (size_t i = 0; i < ops->n_set; i++)
		header_op(c, ops->set[i]->key, ops->set[i]->value, request, path_at(c, "%s.set", path));
	for (size_t i = 0; i < ops->n_add; i++)
		header_op(c, ops->add[i]->key, ops->add[i]->value, request, path_at(c, "%s.add", path));
}

static void headers(struct check *c, const Cfg__Headers *h, const char *path)
{
	if (!h)
		return;
	header_ops(c, h->request, true, path_at(c, "%s.request", path));
	header_ops(c, h->response, false, path_at(c, "%s.response", path));
}

static void authority_once(struct check *c, const Cfg__HTTPRoute *r, const char *path)
{
	const Cfg__Headers__HeaderOperations *ops = r->headers ? r->headers->request : NULL;
	size_t n = r->rewrite && !str_empty(r->rewrite->authority);
	for (size_t i = 0; ops && i < ops->n_set; i++)
		n += is_authority(ops->set[i]->key);
	for (size_t i = 0; ops && i < ops->n_add; i++)
		n += is_authority(ops->add[i]->key);
	if (n > 1)
		check_error(c, "authority", "api: HTTPRewrite.authority", path, "the authority is set more than once");
}

/* ---- matches */

static void match_header_name(struct check *c, const char *name, const char *path)
{
	static const char *const pseudo[] = {":method", ":scheme", ":authority", ":path", "host"};
	struct str s = str_of(name ? name : ""), *claim;
	size_t depth;
	for (size_t i = 0; i < ARRAY_LEN(pseudo); i++)
		if (str_ieq(s, str_of(pseudo[i])))
			return;
	if (claims_path(c->arena, s, &claim, &depth))
		return;
	if (!header_name_ok(s))
		check_error(
			c, "header-name", "api: HTTPMatchRequest.headers", path, "\"%s\" is not a header name", name);
}

static void claim_header(struct check *c, const char *name, bool gateway, const char *path)
{
	if (!gateway && claims_is(str_of(name)))
		check_error(c, "jwt-claim", "api: HTTPMatchRequest.headers", path,
			"routing by JWT claims works at gateways only");
}

static void match(struct check *c, const Cfg__HTTPMatchRequest *m, bool gateway, const char *path)
{
	for (size_t i = 0; i < m->n_headers; i++) {
		const char *at = path_at(c, "%s.headers", path);
		match_header_name(c, m->headers[i]->key, at);
		claim_header(c, m->headers[i]->key, gateway, at);
	}
	for (size_t i = 0; i < m->n_without_headers; i++) {
		const char *at = path_at(c, "%s.withoutHeaders", path);
		match_header_name(c, m->without_headers[i]->key, at);
		claim_header(c, m->without_headers[i]->key, gateway, at);
	}
	for (size_t i = 0; i < m->n_query_params; i++)
		if (str_empty(m->query_params[i]->key))
			check_error(c, "query-name", "api: HTTPMatchRequest.queryParams",
				path_at(c, "%s.queryParams", path), "the name of a query parameter must not be empty");
	check_labels(c, LABEL_VIEW(m, source_labels), path_at(c, "%s.sourceLabels", path),
		"api: HTTPMatchRequest.sourceLabels");
}

/* ---- delegation: the matches of both sides are compared, which regular expressions do not allow */

static void no_regex(struct check *c, const Cfg__StringMatch *m, const char *path, const char *what)
{
	if (m && m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX)
		check_error(c, "delegate-regex", "api: HTTPRoute.delegate", path_at(c, "%s.%s", path, what),
			"a regular expression cannot be part of a delegation");
}

static void delegated_match(struct check *c, const Cfg__HTTPMatchRequest *m, const char *path)
{
	no_regex(c, m->uri, path, "uri");
	no_regex(c, m->scheme, path, "scheme");
	no_regex(c, m->method, path, "method");
	no_regex(c, m->authority, path, "authority");
	for (size_t i = 0; i < m->n_headers; i++)
		no_regex(c, m->headers[i]->value, path, "headers");
	for (size_t i = 0; i < m->n_query_params; i++)
		no_regex(c, m->query_params[i]->value, path, "queryParams");
	for (size_t i = 0; i < m->n_without_headers; i++)
		no_regex(c, m->without_headers[i]->value, path, "withoutHeaders");
}

/* ---- actions of an HTTP route */

struct action {
	bool set;
	const char *name;
};

static void exclusive(struct check *c, const char *path, const char *what, const struct action *others, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (others[i].set)
			check_error(c, "route-conflict", "api: HTTPRoute", path, "%s and %s exclude each other", what,
				others[i].name);
}

static void conflicts(struct check *c, const Cfg__HTTPRoute *r, bool is_delegate, const char *path)
{
	const struct action route = {r->n_route > 0, "route"}, redirect = {r->redirect != NULL, "redirect"},
			    direct = {r->direct_response != NULL, "directResponse"},
			    fault = {r->fault != NULL, "fault"}, rewrite = {r->rewrite != NULL, "rewrite"};
	if (r->delegate) {
		const struct action others[] = {route, redirect, direct};
		if (is_delegate)
			check_error(c, "delegate", "api: HTTPRoute.delegate", path, "a delegate cannot delegate");
		exclusive(c, path, "delegate", others, ARRAY_LEN(others));
		return;
	}
	if (r->redirect) {
		const struct action others[] = {route, fault, rewrite, direct};
		exclusive(c, path, "redirect", others, ARRAY_LEN(others));
	} else if (r->direct_response) {
		const struct action others[] = {route, fault, rewrite};
		exclusive(c, path, "directResponse", others, ARRAY_LEN(others));
	} else if (r->n_route == 0) {
		check_error(c, "required", "api: HTTPRoute", path,
			"needs one of route, redirect, directResponse, delegate");
	}
	if (r->mirror && r->n_mirrors)
		check_error(
			c, "route-conflict", "api: HTTPRoute.mirrors", path, "mirror and mirrors exclude each other");
}

static void redirect(struct check *c, const Cfg__HTTPRoute *r, const char *path)
{
	static const char source[] = "api: HTTPRedirect";
	const Cfg__HTTPRedirect *d = r->redirect;
	if (!d)
		return;
	const char *at = path_at(c, "%s.redirect", path);
	if (!str_empty(d->uri) && !str_empty(d->prefix_rewrite))
		check_error(c, "redirect", source, at, "uri and prefixRewrite exclude each other");
	for (size_t i = 0; !str_empty(d->prefix_rewrite) && i < r->n_match; i++)
		if (r->match[i]->uri && r->match[i]->uri->match_type_case != CFG__STRING_MATCH__MATCH_TYPE_PREFIX)
			check_error(c, "redirect", source, at, "prefixRewrite needs uri matches by prefix");
	if (str_empty(d->uri) && str_empty(d->prefix_rewrite) && str_empty(d->authority) && str_empty(d->scheme) &&
		d->redirect_port_case == CFG__HTTPREDIRECT__REDIRECT_PORT__NOT_SET)
		check_error(c, "redirect", source, at, "needs a uri, authority, scheme or port");
	if (d->redirect_code && (d->redirect_code < 300 || d->redirect_code > 399))
		check_error(c, "redirect", source, path_at(c, "%s.redirectCode", at), "%u is not in the range 300..399",
			d->redirect_code);
	if (!str_empty(d->scheme) && !streq(d->scheme, "http") && !streq(d->scheme, "https"))
		check_error(c, "redirect", source, path_at(c, "%s.scheme", at), "\"%s\" is neither http nor https",
			d->scheme);
	if (d->redirect_port_case == CFG__HTTPREDIRECT__REDIRECT_PORT_PORT && (d->port < 1 || d->port > 65535))
		check_error(
			c, "port", source, path_at(c, "%s.port", at), "port %u is not in the range 1..65535", d->port);
}

static void rewrite(struct check *c, const Cfg__HTTPRewrite *w, const char *path)
{
	static const char source[] = "api: HTTPRewrite";
	if (!w)
		return;
	const char *at = path_at(c, "%s.rewrite", path);
	const Cfg__RegexRewrite *regex = w->uri_regex_rewrite;
	if (!str_empty(w->uri) && regex)
		check_error(c, "rewrite", source, at, "uri and uriRegexRewrite exclude each other");
	if (str_empty(w->uri) && !regex && str_empty(w->authority))
		check_error(c, "rewrite", source, at, "needs a uri, an authority or a uriRegexRewrite");
	if (regex && (str_empty(regex->match) || str_empty(regex->rewrite)))
		check_error(c, "rewrite", source, path_at(c, "%s.uriRegexRewrite", at), "needs both match and rewrite");
}

static void fault(struct check *c, const Cfg__HTTPFaultInjection *f, const char *path)
{
	if (!f)
		return;
	const char *at = path_at(c, "%s.fault", path);
	if (!f->abort && !f->delay)
		check_error(c, "fault", "api: HTTPFaultInjection", at, "needs a delay or an abort");
	if (f->abort && f->abort->error_type_case == CFG__HTTPFAULT_INJECTION__ABORT__ERROR_TYPE__NOT_SET)
		check_warn(c, "fault", "api: HTTPFaultInjection.Abort", path_at(c, "%s.abort", at),
			"says no status to abort with, so nothing is aborted");
	if (f->abort && !f->abort->percentage)
		check_warn(c, "fault", "api: HTTPFaultInjection.Abort.percentage", path_at(c, "%s.abort", at),
			"says no percentage, so nothing is aborted");
	if (f->delay && !f->delay->percentage && !f->delay->percent)
		check_warn(c, "fault", "api: HTTPFaultInjection.Delay.percentage", path_at(c, "%s.delay", at),
			"says no percentage, so nothing is delayed");
	if (f->abort && f->abort->error_type_case == CFG__HTTPFAULT_INJECTION__ABORT__ERROR_TYPE_HTTP2_ERROR)
		check_error(c, "fault", "api: HTTPFaultInjection.Abort.http2Error",
			path_at(c, "%s.abort.http2Error", at), "is not supported");
	if (f->delay && f->delay->http_delay_type_case == CFG__HTTPFAULT_INJECTION__DELAY__HTTP_DELAY_TYPE__NOT_SET)
		check_warn(c, "fault", "api: HTTPFaultInjection.Delay", path_at(c, "%s.delay", at),
			"says no delay, so there is none");
	if (f->delay &&
		f->delay->http_delay_type_case == CFG__HTTPFAULT_INJECTION__DELAY__HTTP_DELAY_TYPE_EXPONENTIAL_DELAY)
		check_error(c, "fault", "api: HTTPFaultInjection.Delay.exponentialDelay",
			path_at(c, "%s.delay.exponentialDelay", at), "is not supported");
	if (f->delay && f->delay->percent)
		check_warn(c, "deprecated", "api: HTTPFaultInjection.Delay.percent", path_at(c, "%s.delay.percent", at),
			"is deprecated; use percentage");
}

static void direct_response(struct check *c, const Cfg__HTTPDirectResponse *d, const char *path)
{
	if (!d || !d->body)
		return;
	size_t size = d->body->specifier_case == CFG__HTTPBODY__SPECIFIER_STRING  ? strlen(d->body->string)
		      : d->body->specifier_case == CFG__HTTPBODY__SPECIFIER_BYTES ? d->body->bytes.len
										  : 0;
	if (size > 1024 * 1024)
		check_error(c, "body-size", "api: HTTPDirectResponse.body", path_at(c, "%s.directResponse.body", path),
			"%zu bytes is more than 1 MiB", size);
	else if (size > 100 * 1024)
		check_warn(c, "body-size", "api: HTTPDirectResponse.body", path_at(c, "%s.directResponse.body", path),
			"%zu bytes go to every proxy that has this route", size);
}

static void cors(struct check *c, const Cfg__CorsPolicy *p, const char *path)
{
	if (!p)
		return;
	const char *at = path_at(c, "%s.corsPolicy", path);
	for (size_t i = 0; i < p->n_allow_origins; i++) {
		const Cfg__StringMatch *m = p->allow_origins[i];
		bool empty = m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE__NOT_SET ||
			     (m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT && str_empty(m->exact));
		if (empty)
			check_error(c, "cors", "api: CorsPolicy.allowOrigins",
				path_at(c, "%s.allowOrigins[%zu]", at, i), "needs a non-empty exact, prefix or regex");
	}
	if (p->n_allow_origin)
		check_warn(c, "deprecated", "api: CorsPolicy.allowOrigin", path_at(c, "%s.allowOrigin", at),
			"is deprecated; use allowOrigins");
	if (p->max_age && p->max_age->nanos)
		check_error(c, "cors", "api: CorsPolicy.maxAge", path_at(c, "%s.maxAge", at), "is in whole seconds");
}

/* ---- destinations */

static void weights(struct check *c, int64_t total, size_t n, const char *path)
{
	if (n > 1 && total == 0)
		check_error(c, "weight-sum", "api: HTTPRouteDestination.weight", path, "the weights add up to 0");
	if (total > 4294967295)
		check_error(c, "weight-sum", "api: HTTPRouteDestination.weight", path,
			"the weights add up to more than 4294967295");
}

static void http_destinations(struct check *c, const Cfg__HTTPRoute *r, const char *path)
{
	int64_t total = 0;
	for (size_t i = 0; i < r->n_route; i++) {
		const char *at = path_at(c, "%s.route[%zu]", path, i);
		check_destination(c, r->route[i]->destination, path_at(c, "%s.destination", at));
		headers(c, r->route[i]->headers, path_at(c, "%s.headers", at));
		total += r->route[i]->weight > 0 ? r->route[i]->weight : 0;
	}
	weights(c, total, r->n_route, path_at(c, "%s.route", path));
	check_destination(c, r->mirror, path_at(c, "%s.mirror", path));
	for (size_t i = 0; i < r->n_mirrors; i++)
		check_destination(c, r->mirrors[i]->destination, path_at(c, "%s.mirrors[%zu].destination", path, i));
	if (r->mirror_percent)
		check_warn(c, "deprecated", "api: HTTPRoute.mirrorPercent", path_at(c, "%s.mirrorPercent", path),
			"is deprecated; use mirrorPercentage");
}

static void http_route(struct check *c, const Cfg__VirtualService *vs, const Cfg__HTTPRoute *r, const char *path)
{
	bool gateway = is_gateway_bound(vs);
	conflicts(c, r, vs->n_hosts == 0, path);
	for (size_t i = 0; i < r->n_match; i++)
		match(c, r->match[i], gateway, path_at(c, "%s.match[%zu]", path, i));
	for (size_t i = 0; (r->delegate || vs->n_hosts == 0) && i < r->n_match; i++)
		delegated_match(c, r->match[i], path_at(c, "%s.match[%zu]", path, i));
	headers(c, r->headers, path_at(c, "%s.headers", path));
	authority_once(c, r, path);
	redirect(c, r, path);
	rewrite(c, r->rewrite, path);
	fault(c, r->fault, path);
	direct_response(c, r->direct_response, path);
	cors(c, r->cors_policy, path);
	check_retry(c, r->retries, path_at(c, "%s.retries", path));
	http_destinations(c, r, path);
}

static void l4_destinations(struct check *c, Cfg__RouteDestination *const *route, size_t n, const char *path)
{
	int64_t total = 0;
	for (size_t i = 0; i < n; i++) {
		check_destination(c, route[i]->destination, path_at(c, "%s[%zu].destination", path, i));
		total += route[i]->weight > 0 ? route[i]->weight : 0;
	}
	weights(c, total, n, path);
}

static void sni_host(struct check *c, const Cfg__VirtualService *vs, const char *sni, const char *path)
{
	struct str s = str_of(sni);
	if (host_is_ip(s)) {
		check_warn(c, "sni-ip", "api: TLSMatchAttributes.sniHosts", path,
			"clients do not send IP addresses as SNI");
		return;
	}
	bool generated = is_gateway_bound(vs) && str_starts(s, STR("outbound_"));
	const char *problem = generated ? NULL : host_problem(c->arena, s);
	if (problem) {
		check_error(c, "host", "api: TLSMatchAttributes.sniHosts", path, "%s", problem);
		return;
	}
	for (size_t i = 0; i < vs->n_hosts; i++)
		if (host_matches(str_of(vs->hosts[i]), s))
			return;
	check_error(c, "sni-host", "api: TLSMatchAttributes.sniHosts", path,
		"\"%s\" is not among the hosts of the VirtualService", sni);
}

static void tls_route(struct check *c, const Cfg__VirtualService *vs, const Cfg__TLSRoute *r, const char *path)
{
	for (size_t i = 0; i < r->n_match; i++) {
		const Cfg__TLSMatchAttributes *m = r->match[i];
		for (size_t k = 0; k < m->n_sni_hosts; k++)
			sni_host(c, vs, m->sni_hosts[k], path_at(c, "%s.match[%zu].sniHosts[%zu]", path, i, k));
		check_labels(c, LABEL_VIEW(m, source_labels), path_at(c, "%s.match[%zu].sourceLabels", path, i),
			"api: TLSMatchAttributes.sourceLabels");
	}
	l4_destinations(c, r->route, r->n_route, path_at(c, "%s.route", path));
}

static void tcp_route(struct check *c, const Cfg__TCPRoute *r, const char *path)
{
	for (size_t i = 0; i < r->n_match; i++)
		check_labels(c, LABEL_VIEW(r->match[i], source_labels),
			path_at(c, "%s.match[%zu].sourceLabels", path, i), "api: L4MatchAttributes.sourceLabels");
	l4_destinations(c, r->route, r->n_route, path_at(c, "%s.route", path));
}

/* ---- rules that nothing reaches */

static size_t matches_in(const Cfg__HTTPRoute *r)
{
	return max_size(1, r->n_match);
}

static const Cfg__HTTPMatchRequest *match_at(const Cfg__HTTPRoute *r, size_t i)
{
	return r->n_match ? r->match[i] : NULL;
}

/* The first rule whose match, before match i of rule k, takes all that it would; false: none. What a delegate takes is not known here. */
static bool winner_over(const Cfg__VirtualService *vs, size_t k, size_t i, size_t *winner)
{
	for (size_t rule = 0; rule <= k; rule++)
		for (size_t m = 0; m < (rule == k ? i : matches_in(vs->http[rule])); m++)
			if (!vs->http[rule]->delegate &&
				match_covers(match_at(vs->http[rule], m), match_at(vs->http[k], i))) {
				*winner = rule;
				return true;
			}
	return false;
}

static void unreachable(struct check *c, const Cfg__VirtualService *vs)
{
	for (size_t k = 0; k < vs->n_http; k++) {
		size_t n = matches_in(vs->http[k]), taken = 0, winner, first = 0;
		for (size_t i = 0; i < n; i++)
			if (winner_over(vs, k, i, &winner) && !taken++)
				first = winner;
		if (taken == n)
			check_warn(c, "IST0130", "analysis: VirtualServiceUnreachableRule",
				path_at(c, "spec.http[%zu]", k), "is never reached: http[%zu] takes %s", first,
				n > 1 ? "the requests of its first match, earlier rules those of the others"
				      : "all of its requests");
		for (size_t i = 0; taken < n && i < n; i++)
			if (winner_over(vs, k, i, &winner))
				check_info(c, "IST0131", "analysis: VirtualServiceIneffectiveMatch",
					path_at(c, "spec.http[%zu].match[%zu]", k, i),
					"has no effect: http[%zu] takes all of its requests", winner);
	}
}

static void validate(struct check *c, const void *message)
{
	const Cfg__VirtualService *vs = message;
	if (vs->n_hosts == 0)
		delegate_object(c, vs);
	hosts(c, vs);
	if (!vs->n_http && !vs->n_tls && !vs->n_tcp)
		check_error(c, "required", "api: VirtualService", "spec", "needs one of http, tls, tcp");
	for (size_t i = 0; i < vs->n_http; i++)
		http_route(c, vs, vs->http[i], path_at(c, "spec.http[%zu]", i));
	for (size_t i = 0; i < vs->n_tls; i++)
		tls_route(c, vs, vs->tls[i], path_at(c, "spec.tls[%zu]", i));
	for (size_t i = 0; i < vs->n_tcp; i++)
		tcp_route(c, vs->tcp[i], path_at(c, "spec.tcp[%zu]", i));
	check_export_list(c, vs->export_to, vs->n_export_to, "spec.exportTo", false, false);
	unreachable(c, vs);
}

static const struct rule rules[] = {
	{"gateways[]", check_gateway_names, .source = API "gateways"},
	{"exportTo[]", check_export_to, .source = API "exportTo"},
	{"http[].match[].uri", check_uri_match, .source = "api: HTTPMatchRequest.uri"},
	{"http[].match[].scheme", check_string_match, .source = "api: HTTPMatchRequest.scheme"},
	{"http[].match[].method", check_string_match, .source = "api: HTTPMatchRequest.method"},
	{"http[].match[].authority", check_string_match, .source = "api: HTTPMatchRequest.authority"},
	{"http[].match[].headers{}", check_string_match, .source = "api: HTTPMatchRequest.headers"},
	{"http[].match[].queryParams{}", check_string_match, .source = "api: HTTPMatchRequest.queryParams"},
	{"http[].match[].withoutHeaders{}", check_without_header, .source = "api: HTTPMatchRequest.withoutHeaders"},
	{"http[].match[].port", check_port, .source = "api: HTTPMatchRequest.port"},
	{"http[].match[].sourceNamespace", check_label, .source = "api: HTTPMatchRequest.sourceNamespace"},
	{"http[].match[].gateways[]", check_gateway_names, .source = "api: HTTPMatchRequest.gateways"},
	{"http[].route[].destination", NULL, .required = true, .source = "api: HTTPRouteDestination.destination"},
	{"http[].route[].weight", check_number, 0, 2147483647, .source = "api: HTTPRouteDestination.weight"},
	{"http[].route[].headers.request.remove[]", check_header_remove, .source = "api: Headers"},
	{"http[].route[].headers.response.remove[]", check_header_remove, .source = "api: Headers"},
	{"http[].headers.request.remove[]", check_header_remove, .source = "api: Headers"},
	{"http[].headers.response.remove[]", check_header_remove, .source = "api: Headers"},
	{"http[].redirect.uri", check_one_line, .source = "envoy: RedirectAction.path_redirect"},
	{"http[].redirect.prefixRewrite", check_one_line, .source = "envoy: RedirectAction.prefix_rewrite"},
	{"http[].redirect.authority", check_one_line, .source = "envoy: RedirectAction.host_redirect"},
	{"http[].rewrite.uri", check_one_line, .source = "envoy: RouteAction.prefix_rewrite"},
	{"http[].rewrite.authority", check_one_line, .source = "envoy: RouteAction.host_rewrite_literal"},
	{"http[].rewrite.uriRegexRewrite.rewrite", check_one_line, .source = "envoy: RouteAction.regex_rewrite"},
	{"http[].rewrite.uriRegexRewrite.match", check_regex, .source = "api: RegexRewrite.match"},
	{"http[].timeout", check_duration, 0, 0, .source = "api: HTTPRoute.timeout"}, /* 0s: none */
	{"http[].fault.delay.percentage", check_percentage, .source = "api: HTTPFaultInjection.Delay.percentage"},
	{"http[].fault.delay.percent", check_number, 0, 100, .source = "api: HTTPFaultInjection.Delay.percent"},
	{"http[].fault.delay.fixedDelay", check_duration, 1, 0, .source = "api: HTTPFaultInjection.Delay.fixedDelay"},
	{"http[].fault.abort.percentage", check_percentage, .source = "api: HTTPFaultInjection.Abort.percentage"},
	{"http[].fault.abort.httpStatus", check_number, 200, 599, .source = "api: HTTPFaultInjection.Abort.httpStatus"},
	{"http[].fault.abort.grpcStatus", check_grpc_status, .source = "api: HTTPFaultInjection.Abort.grpcStatus"},
	{"http[].mirrors[].destination", NULL, .required = true, .source = "api: HTTPMirrorPolicy.destination"},
	{"http[].mirrors[].percentage", check_percentage, .source = "api: HTTPMirrorPolicy.percentage"},
	{"http[].mirrorPercentage", check_percentage, .source = "api: HTTPRoute.mirrorPercentage"},
	{"http[].mirrorPercent", check_wrapped, 0, 100, .source = "api: HTTPRoute.mirrorPercent"},
	{"http[].directResponse.status", check_number, 200, 599, true, "api: HTTPDirectResponse.status"},
	{"http[].delegate.name", check_label, .required = true, .source = "api: Delegate.name"},
	{"http[].delegate.namespace", check_label, .source = "api: Delegate.namespace"},
	{"http[].corsPolicy.allowOrigins[]", check_string_match, .source = "api: CorsPolicy.allowOrigins"},
	{"http[].corsPolicy.allowMethods[]", check_cors_method, .source = "api: CorsPolicy.allowMethods"},
	{"http[].corsPolicy.allowHeaders[]", check_cors_header, .source = "api: CorsPolicy.allowHeaders"},
	{"http[].corsPolicy.exposeHeaders[]", check_cors_header, .source = "api: CorsPolicy.exposeHeaders"},
	{"http[].corsPolicy.maxAge", check_duration, 1, 0, .source = "api: CorsPolicy.maxAge"},
	{"tls[].match", NULL, .required = true, .source = "api: TLSRoute.match"},
	{"tls[].match[].sniHosts", NULL, .required = true, .source = "api: TLSMatchAttributes.sniHosts"},
	{"tls[].match[].destinationSubnets[]", check_cidr, .source = "api: TLSMatchAttributes.destinationSubnets"},
	{"tls[].match[].port", check_port, .source = "api: TLSMatchAttributes.port"},
	{"tls[].match[].gateways[]", check_gateway_names, .source = "api: TLSMatchAttributes.gateways"},
	{"tls[].match[].sourceNamespace", check_label, .source = "api: TLSMatchAttributes.sourceNamespace"},
	{"tls[].route", NULL, .required = true, .source = "api: TLSRoute.route"},
	{"tls[].route[].destination", NULL, .required = true, .source = "api: RouteDestination.destination"},
	{"tls[].route[].weight", check_number, 0, 2147483647, .source = "api: RouteDestination.weight"},
	{"tcp[].match[].destinationSubnets[]", check_cidr, .source = "api: L4MatchAttributes.destinationSubnets"},
	{"tcp[].match[].sourceSubnet", check_cidr, .source = "api: L4MatchAttributes.sourceSubnet"},
	{"tcp[].match[].port", check_port, .source = "api: L4MatchAttributes.port"},
	{"tcp[].match[].gateways[]", check_gateway_names, .source = "api: L4MatchAttributes.gateways"},
	{"tcp[].match[].sourceNamespace", check_label, .source = "api: L4MatchAttributes.sourceNamespace"},
	{"tcp[].route", NULL, .required = true, .source = "api: TCPRoute.route"},
	{"tcp[].route[].destination", NULL, .required = true, .source = "api: RouteDestination.destination"},
	{"tcp[].route[].weight", check_number, 0, 2147483647, .source = "api: RouteDestination.weight"},
};

const struct kind_ops virtual_service_ops = {
	RULES(rules), .validate = validate, .normalise = virtual_service_normalise};
