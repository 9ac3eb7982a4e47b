#include "cfg/networking/envoy_filter.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: EnvoyFilter. A patch says what it applies to, what it does and (unless it removes) with which value; its match is of the class
 * that it applies to. The value itself is Envoy's, of any extension, and is not looked into.
 */

#define PATCH(x) CFG__ENVOY_FILTER__APPLY_TO__##x
#define OBJECT(x) CFG__ENVOY_FILTER__ENVOY_CONFIG_OBJECT_MATCH__OBJECT_TYPES_##x
#define CONNECTION_MANAGER "envoy.filters.network.http_connection_manager"

/* Which match goes with what a patch applies to; the rest takes any. */
static const struct {
	Cfg__EnvoyFilter__ApplyTo apply_to;
	int match;
	const char *name;
} classes[] = {
	{PATCH(LISTENER), OBJECT(LISTENER), "listener"},
	{PATCH(FILTER_CHAIN), OBJECT(LISTENER), "listener"},
	{PATCH(NETWORK_FILTER), OBJECT(LISTENER), "listener"},
	{PATCH(HTTP_FILTER), OBJECT(LISTENER), "listener"},
	{PATCH(LISTENER_FILTER), OBJECT(LISTENER), "listener"},
	{PATCH(ROUTE_CONFIGURATION), OBJECT(ROUTE_CONFIGURATION), "routeConfiguration"},
	{PATCH(VIRTUAL_HOST), OBJECT(ROUTE_CONFIGURATION), "routeConfiguration"},
	{PATCH(HTTP_ROUTE), OBJECT(ROUTE_CONFIGURATION), "routeConfiguration"},
	{PATCH(CLUSTER), OBJECT(CLUSTER), "cluster"},
};

/* Names of filters from before Envoy 1.14 -> of today. */
static const struct {
	const char *old, *now;
} renamed[] = {
	{"envoy.http_connection_manager", CONNECTION_MANAGER},
	{"envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"},
	{"envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"},
	{"envoy.redis_proxy", "envoy.filters.network.redis_proxy"},
	{"envoy.client_ssl_auth", "envoy.filters.network.client_ssl_auth"},
	{"envoy.ext_authz", "envoy.filters.network.ext_authz"},
	{"envoy.ratelimit", "envoy.filters.network.ratelimit"},
	{"envoy.router", "envoy.filters.http.router"},
	{"envoy.cors", "envoy.filters.http.cors"},
	{"envoy.fault", "envoy.filters.http.fault"},
	{"envoy.buffer", "envoy.filters.http.buffer"},
	{"envoy.lua", "envoy.filters.http.lua"},
	{"envoy.gzip", "envoy.filters.http.gzip"},
	{"envoy.grpc_web", "envoy.filters.http.grpc_web"},
	{"envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"},
	{"envoy.health_check", "envoy.filters.http.health_check"},
	{"envoy.rate_limit", "envoy.filters.http.ratelimit"},
	{"envoy.squash", "envoy.filters.http.squash"},
	{"envoy.listener.tls_inspector", "envoy.filters.listener.tls_inspector"},
	{"envoy.listener.http_inspector", "envoy.filters.listener.http_inspector"},
	{"envoy.listener.original_dst", "envoy.filters.listener.original_dst"},
	{"envoy.listener.original_src", "envoy.filters.listener.original_src"},
	{"envoy.listener.proxy_protocol", "envoy.filters.listener.proxy_protocol"},
};

static void filter_name(struct check *c, const char *name, const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(renamed); i++)
		if (streq(name, renamed[i].old))
			check_warn(c, "deprecated-filter", "api: ListenerMatch.FilterMatch.name", path,
				"\"%s\" is the old name of %s", name, renamed[i].now);
}

static void filter_match(struct check *c, const Cfg__EnvoyFilter__EnvoyConfigObjectPatch *p, const char *path)
{
	static const char source[] = "api: ListenerMatch.FilterMatch";
	const Cfg__EnvoyFilter__ListenerMatch *l = p->match->listener;
	const Cfg__EnvoyFilter__ListenerMatch__FilterMatch *f = l->filter_chain ? l->filter_chain->filter : NULL;
	const char *at = path_at(c, "%s.match.listener.filterChain.filter", path);
	if (!f)
		return;
	if (p->apply_to == PATCH(LISTENER) || p->apply_to == PATCH(FILTER_CHAIN))
		check_warn(c, "ineffective", source, at, "a filter's name has no effect on a listener or filter chain");
	if (str_empty(f->name))
		check_error(c, "required", source, path_at(c, "%s.name", at), "is required");
	filter_name(c, f->name, path_at(c, "%s.name", at));
	if (!f->sub_filter)
		return;
	at = path_at(c, "%s.subFilter", at);
	if (p->apply_to != PATCH(HTTP_FILTER))
		check_error(c, "sub-filter", source, at, "is for applyTo HTTP_FILTER only");
	else if (!streq(f->name, CONNECTION_MANAGER) && !streq(f->name, renamed[0].old))
		check_error(c, "sub-filter", source, at, "needs the filter to be " CONNECTION_MANAGER);
	if (str_empty(f->sub_filter->name))
		check_error(c, "required", source, path_at(c, "%s.name", at), "is required");
	filter_name(c, f->sub_filter->name, path_at(c, "%s.name", at));
}

static void match(struct check *c, const Cfg__EnvoyFilter__EnvoyConfigObjectPatch *p, const char *path)
{
	static const char source[] = "api: EnvoyFilter.EnvoyConfigObjectMatch";
	const Cfg__EnvoyFilter__EnvoyConfigObjectMatch *m = p->match;
	bool waypoint = m->object_types_case == OBJECT(WAYPOINT);
	if (waypoint != (m->context == CFG__ENVOY_FILTER__PATCH_CONTEXT__WAYPOINT))
		check_error(c, "patch-context", source, path_at(c, "%s.match", path),
			"waypoint is the match of context WAYPOINT, and of no other");
	for (size_t i = 0; i < ARRAY_LEN(classes) && m->object_types_case && !waypoint; i++)
		if (classes[i].apply_to == p->apply_to && classes[i].match != (int)m->object_types_case)
			check_error(c, "patch-match", source, path_at(c, "%s.match", path),
				"for this applyTo the match is %s", classes[i].name);
	if (m->object_types_case == OBJECT(LISTENER))
		filter_match(c, p, path);
}

static void patch(struct check *c, const Cfg__EnvoyFilter__EnvoyConfigObjectPatch *p, const char *path)
{
	const Cfg__EnvoyFilter__Patch *d = p->patch;
	if (p->match)
		match(c, p, path);
	if (d && d->operation != CFG__ENVOY_FILTER__PATCH__OPERATION__INVALID &&
		d->operation != CFG__ENVOY_FILTER__PATCH__OPERATION__REMOVE && !d->value)
		check_error(c, "required", "api: EnvoyFilter.Patch.value", path_at(c, "%s.patch.value", path),
			"is required, unless the operation is REMOVE");
}

static const struct rule rules[] = {
	{"configPatches[].applyTo", NULL, .required = true, .source = "api: EnvoyConfigObjectPatch.applyTo"},
	{"configPatches[].patch", NULL, .required = true, .source = "api: EnvoyConfigObjectPatch.patch"},
	{"configPatches[].patch.operation", NULL, .required = true, .source = "api: EnvoyFilter.Patch.operation"},
	{"configPatches[].match.proxy.proxyVersion", check_regex, .source = "api: EnvoyFilter.ProxyMatch.proxyVersion"},
	{"configPatches[].match.waypoint.portNumber", check_port,
		.source = "api: EnvoyFilter.WaypointMatch.portNumber"},
};

static void validate(struct check *c, const void *message)
{
	const Cfg__EnvoyFilter *f = message;
	static const char source[] = "api: EnvoyFilter.workloadSelector";
	const struct attachment a = {NULL, NULL, f->n_targetrefs, f->targetrefs};
	check_attachment(c, &a, "api: EnvoyFilter.targetRefs");
	if (f->workload_selector && f->n_targetrefs)
		check_error(c, "attachment", source, "spec", "only one of workloadSelector and targetRefs may be set");
	if (f->workload_selector)
		check_selector(c, LABEL_VIEW(f->workload_selector, labels), "spec.workloadSelector.labels", source);
	for (size_t i = 0; i < f->n_config_patches; i++)
		patch(c, f->config_patches[i], path_at(c, "spec.configPatches[%zu]", i));
}

extern const struct kind_ops envoy_filter_ops;
const struct kind_ops envoy_filter_ops = {RULES(rules), .validate = validate, .not_applied = true};
