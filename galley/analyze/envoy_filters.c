/*
 * DOC: Patches of EnvoyFilters that do not do what they look like: operations that have no effect on what they apply to, and operations whose
 * effect depends on which EnvoyFilter comes first.
 */
#include "cfg/networking/envoy_filter.pb-c.h"
#include "galley/analyze/world.h"

#define TO(x) CFG__ENVOY_FILTER__APPLY_TO__##x
#define DOES(x) CFG__ENVOY_FILTER__PATCH__OPERATION__##x

static bool is_route(Cfg__EnvoyFilter__ApplyTo to)
{
	return to == TO(ROUTE_CONFIGURATION) || to == TO(HTTP_ROUTE);
}

static bool is_filter(Cfg__EnvoyFilter__ApplyTo to)
{
	return to == TO(NETWORK_FILTER) || to == TO(HTTP_FILTER);
}

/* Its place or its object may be another filter's doing. */
static bool is_relative(Cfg__EnvoyFilter__Patch__Operation operation)
{
	return operation == DOES(INSERT_BEFORE) || operation == DOES(INSERT_AFTER) || operation == DOES(REPLACE) ||
	       operation == DOES(REMOVE) || operation == DOES(MERGE);
}

static void patch(struct world *w, const struct object *o, const Cfg__EnvoyFilter *f, size_t i)
{
	const Cfg__EnvoyFilter__EnvoyConfigObjectPatch *p = f->config_patches[i];
	const char *path = arena_printf(w->a, "spec.configPatches[%zu].patch.operation", i);
	if (p->patch->operation == DOES(REPLACE) && !is_filter(p->apply_to))
		world_report(w, "IST0152", o, path, "REPLACE has an effect on NETWORK_FILTER and HTTP_FILTER only");
	else if (p->patch->operation == DOES(ADD) && is_route(p->apply_to))
		world_report(w, "IST0153", o, path, "ADD has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE");
	else if (p->patch->operation == DOES(REMOVE) && is_route(p->apply_to))
		world_report(w, "IST0154", o, path, "REMOVE has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE");
	else if (f->priority == 0 && is_relative(p->patch->operation) && p->match && p->match->proxy &&
		 !str_empty(p->match->proxy->proxy_version))
		world_report(w, "IST0155", o, path,
			"is relative, for proxies of version %s only, and the EnvoyFilter has no priority: filters of "
			"other "
			"versions may come first",
			p->match->proxy->proxy_version);
	else if (f->priority == 0 && is_relative(p->patch->operation))
		world_report(w, "IST0151", o, path,
			"is relative and the EnvoyFilter has no priority: whether it finds what it refers to depends "
			"on which "
			"EnvoyFilter comes first; a priority, INSERT_FIRST or ADD does not");
}

void analyze_envoy_filters(struct world *w)
{
	struct object_list list = w->in->of[KIND_ENVOY_FILTER];
	for (size_t i = 0; i < list.n; i++) {
		const Cfg__EnvoyFilter *f = (const void *)list.items[i]->message;
		for (size_t k = 0; k < f->n_config_patches; k++)
			patch(w, list.items[i], f, k);
	}
}
