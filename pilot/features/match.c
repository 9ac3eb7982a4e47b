/*
 * DOC: HTTPMatchRequest -> RouteMatch. All conditions of one match must hold. A condition without a text, or the expression "*", which
 * is none, means "it is there"; exact: "" means "it is there and empty". withoutHeaders inverts. Only exact and prefix matches of the
 * path can ignore case. A pseudo header stands for method, authority and scheme. "@request.auth.claims.x" is a claim of the
 * verified JWT, which the filter envoy.filters.http.jwt_authn leaves in the dynamic metadata under "payload"; it must clear the cached
 * route, which was chosen before.
 */
#include "common/mesh/claims.h"
#include "pilot/translate/feature.h"

static Match__StringMatcher *string_matcher(struct arena *a, const Cfg__StringMatch *m, bool ignore_case)
{
	Match__StringMatcher *out = PB_NEW(a, Match__StringMatcher, match__string_matcher);

	switch (m->match_type_case) {
	case CFG__STRING_MATCH__MATCH_TYPE_PREFIX:
		out->prefix = m->prefix;
		out->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_PREFIX;
		break;
	case CFG__STRING_MATCH__MATCH_TYPE_REGEX:
		out->safe_regex = build_regex(a, m->regex);
		out->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
		break;
	case CFG__STRING_MATCH__MATCH_TYPE_EXACT:
	case CFG__STRING_MATCH__MATCH_TYPE__NOT_SET:
	default:
		out->exact = m->match_type_case ? m->exact : arena_strdup(a, "");
		out->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_EXACT;
		break;
	}
	/* Envoy refuses ignore_case on a regex; (?i) says it there. */
	out->ignore_case = ignore_case && out->match_pattern_case != MATCH__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
	return out;
}

static bool asks_presence(const Cfg__StringMatch *m)
{
	return !m || !m->match_type_case ||
	       (m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX && streq(m->regex, "*"));
}

static bool is_any_path(const Cfg__StringMatch *m)
{
	return asks_presence(m) || (m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX && str_empty(m->prefix));
}

static void set_path(struct arena *a, const Cfg__HTTPMatchRequest *m, Rds__RouteMatch *out)
{
	const Cfg__StringMatch *uri = m ? m->uri : NULL;

	if (is_any_path(uri)) {
		out->prefix = arena_strdup(a, "/");
		out->path_specifier_case = RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
	} else if (uri->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT) {
		out->path = uri->exact;
		out->path_specifier_case = RDS__ROUTE_MATCH__PATH_SPECIFIER_PATH;
	} else if (uri->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX) {
		out->prefix = uri->prefix;
		out->path_specifier_case = RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
	} else {
		out->safe_regex = build_regex(a, uri->regex);
		out->path_specifier_case = RDS__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX;
	}
	/* "case_sensitive" is true on the wire, as Istio always says it. */
	out->case_sensitive = build_bool(a, !(m && m->ignore_uri_case));
}

/* ---- claims: the value itself, or one of a list of values */
static Match__ValueMatcher *string_value(struct arena *a, const Cfg__StringMatch *m)
{
	Match__ValueMatcher *v = PB_NEW(a, Match__ValueMatcher, match__value_matcher);

	v->string_match = string_matcher(a, m, false);
	v->match_pattern_case = MATCH__VALUE_MATCHER__MATCH_PATTERN_STRING_MATCH;
	return v;
}

static Match__ValueMatcher *claim_value(struct arena *a, const Cfg__StringMatch *m)
{
	Match__ValueMatcher *v = PB_NEW(a, Match__ValueMatcher, match__value_matcher);
	Match__ValueMatcher *list = PB_NEW(a, Match__ValueMatcher, match__value_matcher);

	if (asks_presence(m)) {
		v->present_match = true;
		v->match_pattern_case = MATCH__VALUE_MATCHER__MATCH_PATTERN_PRESENT_MATCH;
		return v;
	}
	list->list_match = PB_NEW(a, Match__ListMatcher, match__list_matcher);
	list->list_match->one_of = string_value(a, m);
	list->list_match->match_pattern_case = MATCH__LIST_MATCHER__MATCH_PATTERN_ONE_OF;
	list->match_pattern_case = MATCH__VALUE_MATCHER__MATCH_PATTERN_LIST_MATCH;
	v->or_match = PB_NEW(a, Match__OrMatcher, match__or_matcher);
	pb_add(a, v->or_match, value_matchers, string_value(a, m));
	pb_add(a, v->or_match, value_matchers, list);
	v->match_pattern_case = MATCH__VALUE_MATCHER__MATCH_PATTERN_OR_MATCH;
	return v;
}

static void add_segment(struct arena *a, Match__MetadataMatcher *out, struct str key)
{
	Match__MetadataMatcher__PathSegment *s = PB_NEW(
		a, Match__MetadataMatcher__PathSegment, match__metadata_matcher__path_segment);

	s->key = arena_cstr(a, key);
	s->segment_case = MATCH__METADATA_MATCHER__PATH_SEGMENT__SEGMENT_KEY;
	pb_add(a, out, path, s);
}

static bool add_claim(struct arena *a, Rds__RouteMatch *out, const char *name, const Cfg__StringMatch *m, bool invert)
{
	Match__MetadataMatcher *claim;
	struct str *path;
	size_t n;

	if (!claims_path(a, str_of(name), &path, &n))
		return false;
	claim = PB_NEW(a, Match__MetadataMatcher, match__metadata_matcher);
	claim->filter = arena_strdup(a, "envoy.filters.http.jwt_authn");
	add_segment(a, claim, STR("payload"));
	for (size_t i = 0; i < n; i++)
		add_segment(a, claim, path[i]);
	claim->value = claim_value(a, m);
	claim->invert = invert;
	pb_add(a, out, dynamic_metadata, claim);
	return true;
}

static void add_header(struct arena *a, Rds__RouteMatch *out, const char *name, const Cfg__StringMatch *m, bool invert)
{
	Rds__HeaderMatcher *h;

	if (add_claim(a, out, name, m, invert))
		return;
	h = PB_NEW(a, Rds__HeaderMatcher, rds__header_matcher);
	h->name = arena_strdup(a, name);
	h->invert_match = invert;
	if (asks_presence(m)) {
		h->present_match = true;
		h->header_match_specifier_case = RDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH;
	} else {
		h->string_match = string_matcher(a, m, false);
		h->header_match_specifier_case = RDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH;
		/* Envoy never matches by the value of a header that is not there, not even inverted. */
		h->treat_missing_header_as_empty = invert;
	}
	pb_add(a, out, headers, h);
}

static void add_query(struct arena *a, Rds__RouteMatch *out, const char *name, const Cfg__StringMatch *m)
{
	Rds__QueryParameterMatcher *q = PB_NEW(a, Rds__QueryParameterMatcher, rds__query_parameter_matcher);

	q->name = arena_strdup(a, name);
	if (asks_presence(m)) {
		q->present_match = true;
		q->query_parameter_match_specifier_case =
			RDS__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH;
	} else {
		q->string_match = string_matcher(a, m, false);
		q->query_parameter_match_specifier_case =
			RDS__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH;
	}
	pb_add(a, out, query_parameters, q);
}

static void match_route(const struct route_context *r)
{
	Rds__RouteMatch *out = PB_NEW(r->a, Rds__RouteMatch, rds__route_match);
	const Cfg__HTTPMatchRequest *m = r->match;

	r->route->match = out;
	if (!r->rule) {
		out->prefix = arena_strdup(r->a, "/");
		out->path_specifier_case = RDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
		return;
	}
	set_path(r->a, m, out);
	if (!m)
		return;
	for (size_t i = 0; i < m->n_headers; i++)
		add_header(r->a, out, m->headers[i]->key, m->headers[i]->value, false);
	for (size_t i = 0; i < m->n_without_headers; i++)
		add_header(r->a, out, m->without_headers[i]->key, m->without_headers[i]->value, true);
	if (!asks_presence(m->method))
		add_header(r->a, out, ":method", m->method, false);
	if (!asks_presence(m->authority))
		add_header(r->a, out, ":authority", m->authority, false);
	if (!asks_presence(m->scheme))
		add_header(r->a, out, ":scheme", m->scheme, false);
	for (size_t i = 0; i < m->n_query_params; i++)
		add_query(r->a, out, m->query_params[i]->key, m->query_params[i]->value);
	if (!str_empty(m->stat_prefix))
		r->route->stat_prefix = m->stat_prefix;
}

const struct feature match_feature = {.name = "match", .on_route = match_route};
