/* DOC: headers.request and headers.response of a rule: set (overwrite), add (append), remove. Host is rewritten, by set before add; the
 * rule's host beats that of its destination. The headers of a rule's only destination come after the rule's own, so that what it sets
 * holds; those of several stand in their shares (destination.c), which Envoy does before the rule. */
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

static void rewrite_host(const struct route_context *r, const Cfg__Headers *h)
{
	if (!r->action || !h->request || !header_host(h->request))
		return;
	r->action->host_rewrite_literal = arena_strdup(r->a, header_host(h->request));
	r->action->host_rewrite_specifier_case = RDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
}

static void headers_route(const struct route_context *r)
{
	const Cfg__Headers *own = r->rule ? r->rule->headers : NULL, *only;

	if (!r->rule)
		return;
	only = r->action && r->rule->n_route == 1 ? r->rule->route[0]->headers : NULL;
	if (own) {
		header_ops(r->a, own, r->route);
		rewrite_host(r, own);
	}
	if (!only)
		return;
	header_ops(r->a, only, r->route);
	if (!r->action->host_rewrite_specifier_case)
		rewrite_host(r, only);
}

const struct feature headers_feature = {.name = "headers", .on_route = headers_route};
