/*
 * DOC: rewrite: the matched prefix (or the whole path of an exact match) is replaced, or a regular expression rewrites the path; the
 * authority may be replaced too. A regex match has no prefix, so there the whole path is replaced, as in Istio.
 */
#include "pilot/translate/feature.h"

static void rewrite_by(const struct route_context *r, const char *pattern, const char *substitution)
{
	Match__RegexMatchAndSubstitute *m = PB_NEW(
		r->a, Match__RegexMatchAndSubstitute, match__regex_match_and_substitute);

	m->pattern = build_regex(r->a, pattern);
	m->substitution = arena_strdup(r->a, substitution);
	r->action->regex_rewrite = m;
}

static void rewrite_route(const struct route_context *r)
{
	const Cfg__HTTPRewrite *w = r->rule && r->action ? r->rule->rewrite : NULL;
	const Cfg__StringMatch *uri = r->match ? r->match->uri : NULL;
	bool regex = uri && uri->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX;

	if (!w)
		return;
	if (w->uri_regex_rewrite && !str_empty(w->uri_regex_rewrite->match))
		rewrite_by(r, w->uri_regex_rewrite->match, w->uri_regex_rewrite->rewrite);
	else if (!str_empty(w->uri) && regex)
		rewrite_by(r, "^.*$", w->uri);
	else if (!str_empty(w->uri))
		r->action->prefix_rewrite = w->uri;
	if (!str_empty(w->authority)) {
		r->action->host_rewrite_literal = w->authority;
		r->action->host_rewrite_specifier_case = RDS__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
	}
}

const struct feature rewrite_feature = {.name = "rewrite", .on_route = rewrite_route};
