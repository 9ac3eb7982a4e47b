/*
 * DOC: Where a rule sends requests: one cluster, or several by weight (destinations of weight 0 get nothing and are left out; a
 * single destination needs no weight). Headers of a destination are set on its share only; those of the only one by headers.c. Consistent hashing of the
 * destinations' rules needs the hash policy on the route.
 */
#include "pilot/features/header_ops.h"
#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"

static void add_cookie(struct arena *a, const Cfg__LoadBalancerSettings__ConsistentHashLB__HTTPCookie *c,
	Rds__RouteAction__HashPolicy *h)
{
	h->cookie = PB_NEW(a, Rds__RouteAction__HashPolicy__Cookie, rds__route_action__hash_policy__cookie);
	h->cookie->name = c->name;
	h->cookie->path = c->path;
	h->cookie->ttl = build_duration(a, c->ttl);
	for (size_t i = 0; i < c->n_attributes; i++) {
		Rds__RouteAction__HashPolicy__CookieAttribute *x = PB_NEW(a,
			Rds__RouteAction__HashPolicy__CookieAttribute,
			rds__route_action__hash_policy__cookie_attribute);

		x->name = c->attributes[i]->name;
		x->value = c->attributes[i]->value;
		pb_add(a, h->cookie, attributes, x);
	}
	h->policy_specifier_case = RDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_COOKIE;
}

static void add_hash_policy(
	struct arena *a, const Cfg__LoadBalancerSettings__ConsistentHashLB *c, Rds__RouteAction *action)
{
	Rds__RouteAction__HashPolicy *h = PB_NEW(a, Rds__RouteAction__HashPolicy, rds__route_action__hash_policy);

	switch (c->hash_key_case) {
	case CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_HTTP_HEADER_NAME:
		h->header = PB_NEW(a, Rds__RouteAction__HashPolicy__Header, rds__route_action__hash_policy__header);
		h->header->header_name = c->http_header_name;
		h->policy_specifier_case = RDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_HEADER;
		break;
	case CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_HTTP_COOKIE:
		add_cookie(a, c->http_cookie, h);
		break;
	case CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_USE_SOURCE_IP:
		if (!c->use_source_ip)
			return;
		h->connection_properties = PB_NEW(a, Rds__RouteAction__HashPolicy__ConnectionProperties,
			rds__route_action__hash_policy__connection_properties);
		h->connection_properties->source_ip = true;
		h->policy_specifier_case = RDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES;
		break;
	case CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_HTTP_QUERY_PARAMETER_NAME:
		h->query_parameter = PB_NEW(a, Rds__RouteAction__HashPolicy__QueryParameter,
			rds__route_action__hash_policy__query_parameter);
		h->query_parameter->name = c->http_query_parameter_name;
		h->policy_specifier_case = RDS__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER;
		break;
	case CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY__NOT_SET:
	default:
		return;
	}
	pb_add(a, action, hash_policy, h);
}

/* By the destination rule of a cluster; nothing for clusters that are no service's. */
static void hash_by_rule(struct view *v, struct arena *a, const char *cluster, Rds__RouteAction *action)
{
	struct cluster_name name;
	const Fl__Service *s;
	struct rule rule;
	struct traffic_policy p;

	if (!cluster_name_parse(str_of(cluster), &name) || !str_eqc(name.direction, "outbound"))
		return;
	s = view_service(v, name.host);
	rule = view_rule(v, Q_DR_BALANCER, name.host, s ? str_of(s->namespace_) : (struct str){0});
	p = policy_resolve(
		view_mesh(v), rule.policy, name.subset.len ? rule_subset(&rule, name.subset) : NULL, name.port);
	if (p.balancer && p.balancer->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH)
		add_hash_policy(a, p.balancer->consistent_hash, action);
}

static void add_weighted(const struct route_context *r, const Cfg__HTTPRouteDestination *d)
{
	Rds__WeightedCluster__ClusterWeight *w = PB_NEW(
		r->a, Rds__WeightedCluster__ClusterWeight, rds__weighted_cluster__cluster_weight);

	w->name = destination_cluster(r->v, r->a, d->destination, r->port);
	w->weight = build_u32(r->a, (uint32_t)d->weight);
	header_ops(r->a, d->headers, w);
	if (d->headers && d->headers->request && header_host(d->headers->request)) {
		w->host_rewrite_literal = arena_strdup(r->a, header_host(d->headers->request));
		w->host_rewrite_specifier_case =
			RDS__WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
	}
	pb_add(r->a, r->action->weighted_clusters, clusters, w);
}

static void destination_route(const struct route_context *r)
{
	const Cfg__HTTPRouteDestination *only = NULL;
	size_t n = 0;

	if (r->action && !r->rule)
		hash_by_rule(r->v, r->a, r->action->cluster, r->action);
	if (!r->rule || !r->action)
		return;
	for (size_t i = 0; i < r->rule->n_route; i++) {
		const Cfg__HTTPRouteDestination *d = r->rule->route[i];

		if (!d->destination || (r->rule->n_route > 1 && d->weight <= 0))
			continue;
		only = d;
		n++;
		hash_by_rule(r->v, r->a, destination_cluster(r->v, r->a, d->destination, r->port), r->action);
	}
	if (r->rule->n_route == 1 && n) {
		r->action->cluster = destination_cluster(r->v, r->a, only->destination, r->port);
		r->action->cluster_specifier_case = RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
	} else if (n) {
		r->action->weighted_clusters = PB_NEW(r->a, Rds__WeightedCluster, rds__weighted_cluster);
		r->action->cluster_specifier_case = RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
		for (size_t i = 0; i < r->rule->n_route; i++)
			if (r->rule->route[i]->destination && r->rule->route[i]->weight > 0)
				add_weighted(r, r->rule->route[i]);
	} else {
		/* Nowhere to go: galley refuses such rules, an answer is still better than an invalid route. */
		r->action->cluster = arena_strdup(r->a, "BlackHoleCluster");
		r->action->cluster_specifier_case = RDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
	}
}

const struct feature destination_feature = {.name = "destination", .on_route = destination_route};
