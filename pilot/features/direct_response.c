/* DOC: directResponse: a status and a body, answered by the proxy. */
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

const struct feature direct_response_feature = {.name = "direct_response", .on_route = direct_response_route};
