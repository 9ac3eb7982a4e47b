/*
 * DOC: Routes of VirtualServices. Each match of a rule becomes a route of its own, in order; the first that matches wins. What
 * only the control plane can decide (gateway, port, labels and namespace of the caller) is decided here, everything else by
 * the features. A rule that matches everything ends the list: what follows can never be reached. A rule that delegates is replaced
 * by the rules of the delegate.
 */
#include "common/mesh/delegate.h"
#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"

bool match_applies(const struct view *v, char *const *gateways, size_t n_gateways, const char *gateway,
	uint32_t want_port, uint32_t port, struct label_set source_labels, const char *source_namespace)
{
	const struct proxy *p = v->scope->attributes;
	bool named = n_gateways == 0;

	for (size_t i = 0; i < n_gateways; i++)
		named |= streq(gateways[i], gateway);
	if (!named || (want_port && want_port != port))
		return false;
	for (size_t i = 0; i < source_labels.n; i++) {
		struct label l = label_at(source_labels, i);
		const struct str *own = proxy_label(p, str_of(l.key));

		if (!own || !str_eqc(*own, l.value))
			return false;
	}
	return str_empty(source_namespace) || str_eqc(p->ns, source_namespace);
}

void route_add_filter_config(struct arena *a, Rds__Route *route, const char *filter, const void *config)
{
	Rds__Route__TypedPerFilterConfigEntry *e = PB_NEW(
		a, Rds__Route__TypedPerFilterConfigEntry, rds__route__typed_per_filter_config_entry);

	e->key = arena_strdup(a, filter);
	e->value = pb_any(a, config);
	pb_add(a, route, typed_per_filter_config, e);
}

/* A destination without a port: the only one of its service, else the one that the client dialled. */
char *destination_cluster(struct view *v, struct arena *a, const Cfg__Destination *d, uint32_t port)
{
	const Fl__Service *s;

	if (d->port && d->port->number) {
		port = d->port->number;
	} else {
		s = view_service(v, str_of(d->host));
		if (s && s->n_ports == 1)
			port = s->ports[0]->number;
	}
	return cluster_name_outbound(a, port, str_of(d->subset), str_of(d->host));
}

static Rds__RouteAction *new_action(struct arena *a, Rds__Route *route)
{
	Rds__RouteAction *action = PB_NEW(a, Rds__RouteAction, rds__route_action);

	route->route = action;
	route->action_case = RDS__ROUTE__ACTION_ROUTE;
	return action;
}

static void apply_features(const struct route_context *r)
{
	for (size_t i = 0; i < feature_count; i++)
		if (features[i]->on_route)
			features[i]->on_route(r);
}

Rds__Route *route_default(struct view *v, struct arena *a, const char *cluster, const char *operation)
{
	Rds__Route *route = PB_NEW(a, Rds__Route, rds__route);
	struct route_context r = {.v = v, .a = a, .route = route, .action = new_action(a, route)};

	route->name = arena_strdup(a, "default");
	r.action->cluster = arena_strdup(a, cluster);
	r.action->cluster_specifier_case = RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
	route->decorator = PB_NEW(a, Rds__Decorator, rds__decorator);
	route->decorator->operation = arena_strdup(a, operation);
	apply_features(&r);
	return route;
}

static char *route_name(struct arena *a, const Cfg__HTTPRoute *rule, const Cfg__HTTPMatchRequest *match)
{
	if (match && !str_empty(match->name))
		return str_empty(rule->name) ? arena_strdup(a, match->name)
					     : arena_printf(a, "%s.%s", rule->name, match->name);
	return arena_strdup(a, rule->name);
}

/* Istio's name of the operation in traces: "host:port/path"; several destinations go by the object's name. */
static char *operation_of(const struct route_context *r)
{
	const Rds__RouteMatch *m = r->route->match;
	struct cluster_name c = {0};
	const char *path = "/*";

	if (m && m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX)
		path = arena_printf(r->a, "%s*", m->prefix);
	else if (m && m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_PATH)
		path = m->path;
	else if (m && m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX)
		path = m->safe_regex->regex;
	if (r->action && r->action->cluster_specifier_case == RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER &&
		cluster_name_parse(str_of(r->action->cluster), &c))
		return arena_printf(r->a, STR_FMT ":%u%s", STR_ARG(c.host), c.port, path);
	return arena_printf(r->a, "%s:%u%s", r->source->object->name, r->port, path);
}

struct rule_place {
	struct view *v;
	struct arena *a;
	const struct entry *vs;
	const struct entrance *at;
	size_t first; /* of the routes of this VirtualService in the virtual host */
	Rds__VirtualHost *out;
};

static void add_route(const struct rule_place *p, const Cfg__HTTPRoute *rule, const Cfg__HTTPMatchRequest *match)
{
	Rds__Route *route = PB_NEW(p->a, Rds__Route, rds__route);
	struct route_context r = {.v = p->v,
		.a = p->a,
		.source = p->vs,
		.rule = rule,
		.match = match,
		.port = p->at->port,
		.tls = p->at->tls,
		.route = route};

	if (!rule->redirect && !rule->direct_response)
		r.action = new_action(p->a, route);
	route->name = route_name(p->a, rule, match);
	metadata_put_config(p->a, &route->metadata, p->vs);
	apply_features(&r);
	route->decorator = PB_NEW(p->a, Rds__Decorator, rds__decorator);
	route->decorator->operation = operation_of(&r);
	pb_add(p->a, p->out, routes, route);
}

static bool takes_everything(const Rds__Route *r)
{
	const Rds__RouteMatch *m = r->match;
	bool all = m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX && streq(m->prefix, "/");
	bool regex = m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX &&
		     streq(m->safe_regex->regex, ".*");

	return (all || regex) && !m->n_headers && !m->n_query_parameters && !m->n_dynamic_metadata &&
	       !m->runtime_fraction;
}

static bool complete(const struct rule_place *p)
{
	return p->out->n_routes > p->first && takes_everything(p->out->routes[p->out->n_routes - 1]);
}

/* A gateway that is named is so whatever labels it has: labels and namespaces are of the mesh's callers. */
static bool applies(const struct rule_place *p, const Cfg__HTTPMatchRequest *m)
{
	bool named = m->n_gateways && !streq(p->at->gateway, "mesh");

	return match_applies(p->v, m->gateways, m->n_gateways, p->at->gateway, m->port, p->at->port,
		named ? (struct label_set){0} : LABELS(m, source_labels), named ? NULL : m->source_namespace);
}

static void add_rule(const struct rule_place *p, const Cfg__HTTPRoute *rule)
{
	if (!rule->n_match && !complete(p))
		add_route(p, rule, NULL);
	for (size_t i = 0; i < rule->n_match && !complete(p); i++)
		if (applies(p, rule->match[i]))
			add_route(p, rule, rule->match[i]);
}

/* A delegate that is not there, or not for this namespace, leaves its rule without effect. */
static void add_delegated(const struct rule_place *p, const Cfg__HTTPRoute *root)
{
	const struct entry *e = view_delegate(p->v, root->delegate, p->vs->ns);
	const struct delegated *list;
	size_t n = 0;

	if (!e)
		return;
	list = delegate_merge(p->a, root, e->value, &n);
	for (size_t i = 0; i < n; i++)
		add_rule(p, list[i].rule);
}

/* Of several VirtualServices of a host (at gateways), the rules that take everything go behind all others; the oldest's stays. */
static void merge_routes(Rds__VirtualHost *vh)
{
	Rds__Route *last = NULL;
	size_t n = 0;

	for (size_t i = 0; i < vh->n_routes; i++) {
		Rds__Route *r = vh->routes[i];

		if (!takes_everything(r))
			vh->routes[n++] = r;
		else if (!last)
			last = r;
	}
	if (last)
		vh->routes[n++] = last;
	vh->n_routes = n;
}

void routes_from(
	struct view *v, struct arena *a, const struct entry *vs, const struct entrance *at, Rds__VirtualHost *out)
{
	const Cfg__VirtualService *spec = vs->value;
	const struct rule_place p = {v, a, vs, at, out->n_routes, out};

	for (size_t i = 0; i < spec->n_http && !complete(&p); i++) {
		if (spec->http[i]->delegate)
			add_delegated(&p, spec->http[i]);
		else
			add_rule(&p, spec->http[i]);
	}
	if (p.first)
		merge_routes(out);
}
