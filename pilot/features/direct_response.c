/*
 * DOC: directResponse: a status and a body, answered by the proxy. Envoy refuses bodies of more than 4096 bytes unless the route
 * configuration says that they may be longer; galley takes up to 1 MiB, as Istio does.
 */
#include "pilot/translate/feature.h"

static void direct_response_route(const struct route_context *r)
{
	const Cfg__HTTPDirectResponse *d = r->rule ? r->rule->direct_response : NULL;
	Rds__DirectResponseAction *out;

	if (!d)
		return;
	out = PB_NEW(r->a, Rds__DirectResponseAction, rds__direct_response_action);
	out->status = d->status;
	r->route->direct_response = out;
	r->route->action_case = RDS__ROUTE__ACTION_DIRECT_RESPONSE;
	if (!d->body)
		return;
	out->body = PB_NEW(r->a, Core__DataSource, core__data_source);
	if (d->body->specifier_case == CFG__HTTPBODY__SPECIFIER_BYTES) {
		out->body->inline_bytes = d->body->bytes;
		out->body->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
	} else {
		out->body->inline_string = d->body->specifier_case ? d->body->string : arena_strdup(r->a, "");
		out->body->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_STRING;
	}
}

static void body_limit(struct view *v, struct arena *a, Rds__RouteConfiguration *rc)
{
	(void)v;
	for (size_t i = 0; i < rc->n_virtual_hosts; i++)
		for (size_t j = 0; j < rc->virtual_hosts[i]->n_routes; j++)
			if (rc->virtual_hosts[i]->routes[j]->action_case == RDS__ROUTE__ACTION_DIRECT_RESPONSE)
				rc->max_direct_response_body_size_bytes = build_u32(a, 1024 * 1024);
}

const struct feature direct_response_feature = {
	.name = "direct_response", .on_route = direct_response_route, .on_route_configuration = body_limit};
