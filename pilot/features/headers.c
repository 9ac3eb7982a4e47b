/* DOC: headers.request and headers.response of a rule: set (overwrite), add (append), remove. Host is rewritten, by set before add; the
 * rule's host beats that of its destination. */
#include "pilot/features/header_ops.h"
#include "pilot/translate/feature.h"

bool header_is_host(const char *name)
{
	return str_ieq(str_of(name), STR("host")) || streq(name, ":authority");
}

const char *header_host(const Cfg__Headers__HeaderOperations *ops)
{
	for (size_t i = 0; i < ops->n_set; i++)
		if (header_is_host(ops->set[i]->key))
			return ops->set[i]->value;
	for (size_t i = 0; i < ops->n_add; i++)
		if (header_is_host(ops->add[i]->key))
			return ops->add[i]->value;
	return NULL;
}

static void headers_route(const struct route_context *r)
{
	if (!r->rule || !r->rule->headers)
		return;
	header_ops(r->a, r->rule->headers, r->route);
	if (r->action && r->rule->headers->request && header_host(r->rule->headers->request)) {
		r->action->host_rewrite_literal = arena_strdup(r->a, header_host(r->rule->headers->request));
		r->action->host_rewrite_specifier_case = RDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
	}
}

const struct feature headers_feature = {.name = "headers", .on_route = headers_route};
