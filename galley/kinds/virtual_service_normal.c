#include "galley/kinds/virtual_service.h"

#include "common/mesh/claims.h"
#include "wkt/wrappers.pb-c.h"

/*
 * DOC: The normal form of a VirtualService: hosts are fully qualified and lower case; gateways are "namespace/name" or "mesh", never
 * empty; a single destination has weight 100 (its weight has no meaning), with several a weight of 0 means no traffic; `mirror` with
 * `mirrorPercentage` or `mirrorPercent` becomes an entry of `mirrors` that has its percentage; `allowOrigin` becomes `allowOrigins`;
 * `delay.percent` becomes `percentage`; header names to match are lower case; a redirect says its code.
 */

static char *gateway_name(struct normal *n, const char *name)
{
	struct str s = str_of(name), ns, gateway;
	if (str_eqc(s, "mesh"))
		return arena_strdup(n->arena, "mesh");
	if (str_cut(s, '/', &ns, &gateway))
		return str_eqc(ns, ".") ? arena_printf(n->arena, STR_FMT "/" STR_FMT, STR_ARG(n->ns), STR_ARG(gateway))
					: arena_cstr(n->arena, s);
	/* The old form name.namespace.svc.suffix; its second label is the namespace. */
	if (str_cut(s, '.', &gateway, &ns)) {
		struct str rest = ns, first = ns;
		(void)str_split(&rest, '.', &first);
		return arena_printf(n->arena, STR_FMT "/" STR_FMT, STR_ARG(first), STR_ARG(gateway));
	}
	return arena_printf(n->arena, STR_FMT "/" STR_FMT, STR_ARG(n->ns), STR_ARG(s));
}

static void gateway_names(struct normal *n, char **names, size_t len)
{
	for (size_t i = 0; i < len; i++)
		names[i] = gateway_name(n, names[i]);
}

static void destination(struct normal *n, Cfg__Destination *d)
{
	if (d)
		d->host = normal_host(n, d->host);
}

static Cfg__Percent *percent(struct normal *n, double value)
{
	Cfg__Percent *p = PB_NEW(n->arena, Cfg__Percent, cfg__percent);
	p->value = value;
	return p;
}

static void mirrors(struct normal *n, Cfg__HTTPRoute *r)
{
	if (r->mirror) {
		Cfg__HTTPMirrorPolicy *m = PB_NEW(n->arena, Cfg__HTTPMirrorPolicy, cfg__httpmirror_policy);
		m->destination = r->mirror;
		m->percentage = r->mirror_percentage ? r->mirror_percentage
				: r->mirror_percent  ? percent(n, r->mirror_percent->value)
						     : NULL;
		pb_add(n->arena, r, mirrors, m);
	}
	r->mirror = NULL;
	r->mirror_percentage = NULL;
	r->mirror_percent = NULL;
	for (size_t i = 0; i < r->n_mirrors; i++) {
		destination(n, r->mirrors[i]->destination);
		if (!r->mirrors[i]->percentage)
			r->mirrors[i]->percentage = percent(n, 100);
	}
}

static void cors(struct normal *n, Cfg__CorsPolicy *p)
{
	if (!p)
		return;
	bool replaced = p->n_allow_origins > 0; /* the new field counts when both are there */
	for (size_t i = 0; !replaced && i < p->n_allow_origin; i++) {
		Cfg__StringMatch *m = PB_NEW(n->arena, Cfg__StringMatch, cfg__string_match);
		m->match_type_case = CFG__STRING_MATCH__MATCH_TYPE_EXACT;
		m->exact = p->allow_origin[i];
		pb_add(n->arena, p, allow_origins, m);
	}
	p->n_allow_origin = 0;
}

static void lower_case(char *s)
{
	for (; s && *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s - 'A' + 'a');
}

/* HTTP header names are compared without case; claims of a JWT with it. */
static void header_name(char *name)
{
	if (!claims_is(str_of(name)))
		lower_case(name);
}

static void matches(struct normal *n, Cfg__HTTPRoute *r)
{
	for (size_t i = 0; i < r->n_match; i++) {
		Cfg__HTTPMatchRequest *m = r->match[i];
		gateway_names(n, m->gateways, m->n_gateways);
		for (size_t k = 0; k < m->n_headers; k++)
			header_name(m->headers[k]->key);
		for (size_t k = 0; k < m->n_without_headers; k++)
			header_name(m->without_headers[k]->key);
	}
}

static void http_route(struct normal *n, Cfg__HTTPRoute *r)
{
	matches(n, r);
	for (size_t i = 0; i < r->n_route; i++)
		destination(n, r->route[i]->destination);
	if (r->n_route == 1)
		r->route[0]->weight = 100;
	mirrors(n, r);
	cors(n, r->cors_policy);
	if (r->redirect && r->redirect->redirect_code == 0)
		r->redirect->redirect_code = 301;
	Cfg__HTTPFaultInjection__Delay *delay = r->fault ? r->fault->delay : NULL;
	if (delay && delay->percent && !delay->percentage)
		delay->percentage = percent(n, delay->percent);
	if (delay)
		delay->percent = 0;
	if (r->delegate && str_empty(r->delegate->namespace_))
		r->delegate->namespace_ = arena_cstr(n->arena, n->ns);
}

static void l4_route(struct normal *n, Cfg__RouteDestination **route, size_t len)
{
	for (size_t i = 0; i < len; i++)
		destination(n, route[i]->destination);
	if (len == 1)
		route[0]->weight = 100;
}

void virtual_service_normalise(struct normal *n, void *message)
{
	Cfg__VirtualService *vs = message;
	for (size_t i = 0; i < vs->n_hosts; i++)
		vs->hosts[i] = normal_host(n, vs->hosts[i]);
	gateway_names(n, vs->gateways, vs->n_gateways);
	if (vs->n_gateways == 0 && vs->n_hosts > 0)
		pb_add(n->arena, vs, gateways, arena_strdup(n->arena, "mesh"));
	for (size_t i = 0; i < vs->n_http; i++)
		http_route(n, vs->http[i]);
	for (size_t i = 0; i < vs->n_tls; i++) {
		l4_route(n, vs->tls[i]->route, vs->tls[i]->n_route);
		for (size_t k = 0; k < vs->tls[i]->n_match; k++)
			gateway_names(n, vs->tls[i]->match[k]->gateways, vs->tls[i]->match[k]->n_gateways);
	}
	for (size_t i = 0; i < vs->n_tcp; i++) {
		l4_route(n, vs->tcp[i]->route, vs->tcp[i]->n_route);
		for (size_t k = 0; k < vs->tcp[i]->n_match; k++)
			gateway_names(n, vs->tcp[i]->match[k]->gateways, vs->tcp[i]->match[k]->n_gateways);
	}
	normal_export_to(n, vs->export_to, vs->n_export_to);
}
