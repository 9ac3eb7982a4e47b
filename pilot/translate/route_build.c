/*
 * DOC: Routes of VirtualServices. Each match of a rule becomes a route of its own, in order; the first that matches wins. What
 * only the control plane can decide (gateway, port, labels and namespace of the caller) is decided here, everything else by
 * the features. A rule that matches everything ends the list: what follows can never be reached.
 */
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

static void add_route(struct view *v, struct arena *a, const struct entry *vs, const Cfg__HTTPRoute *rule,
	const Cfg__HTTPMatchRequest *match, uint32_t port, Rds__VirtualHost *out)
{
	Rds__Route *route = PB_NEW(a, Rds__Route, rds__route);
	struct route_context r = {
		.v = v, .a = a, .source = vs, .rule = rule, .match = match, .port = port, .route = route};

	if (!rule->redirect && !rule->direct_response)
		r.action = new_action(a, route);
	route->name = route_name(a, rule, match);
	metadata_put_config(a, &route->metadata, vs);
	apply_features(&r);
	pb_add(a, out, routes, route);
}

static bool matches_everything(const Rds__Route *r)
{
	const Rds__RouteMatch *m = r->match;
	bool all = m->path_specifier_case == RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX && streq(m->prefix, "/");

	return all && !m->n_headers && !m->n_query_parameters && !m->runtime_fraction;
}

static bool complete(const Rds__VirtualHost *vh)
{
	return vh->n_routes && matches_everything(vh->routes[vh->n_routes - 1]);
}

void routes_from(struct view *v, struct arena *a, const struct entry *vs, const char *gateway, uint32_t port,
	Rds__VirtualHost *out)
{
	const Cfg__VirtualService *spec = vs->value;

	for (size_t i = 0; i < spec->n_http && !complete(out); i++) {
		const Cfg__HTTPRoute *rule = spec->http[i];

		if (!rule->n_match)
			add_route(v, a, vs, rule, NULL, port, out);
		for (size_t j = 0; j < rule->n_match && !complete(out); j++) {
			const Cfg__HTTPMatchRequest *m = rule->match[j];

			if (match_applies(v, m->gateways, m->n_gateways, gateway, m->port, port,
				    LABELS(m, source_labels), m->source_namespace))
				add_route(v, a, vs, rule, m, port, out);
		}
	}
}
