/* DOC: mirror, mirrors: a copy of (a share of) the requests goes to another destination, whose answers are dropped. */
#include "pilot/translate/feature.h"

static void add_mirror(const struct route_context *r, const Cfg__Destination *d, double percent)
{
	Rds__RouteAction__RequestMirrorPolicy *m = PB_NEW(
		r->a, Rds__RouteAction__RequestMirrorPolicy, rds__route_action__request_mirror_policy);

	if (percent <= 0)
		return;
	m->cluster = destination_cluster(r->v, r->a, d, r->port);
	m->runtime_fraction = PB_NEW(r->a, Core__RuntimeFractionalPercent, core__runtime_fractional_percent);
	m->runtime_fraction->default_value = build_fraction(r->a, percent);
	m->trace_sampled = build_bool(r->a, false);
	/* Istio since 1.28: the copy has the very Host of the request, unless the proxy wants "-shadow" behind it. */
	m->disable_shadow_host_suffix_append = !r->v->scope->attributes->shadow_suffix;
	pb_add(r->a, r->action, request_mirror_policies, m);
}

static double single_percent(const Cfg__HTTPRoute *rule)
{
	if (rule->mirror_percentage)
		return rule->mirror_percentage->value;
	return rule->mirror_percent ? rule->mirror_percent->value : 100;
}

static void mirror_route(const struct route_context *r)
{
	const Cfg__HTTPRoute *rule = r->rule;

	if (!rule || !r->action)
		return;
	if (rule->mirror)
		add_mirror(r, rule->mirror, single_percent(rule));
	for (size_t i = 0; i < rule->n_mirrors; i++)
		if (rule->mirrors[i]->destination)
			add_mirror(r, rule->mirrors[i]->destination,
				rule->mirrors[i]->percentage ? rule->mirrors[i]->percentage->value : 100);
}

const struct feature mirror_feature = {.name = "mirror", .on_route = mirror_route};
