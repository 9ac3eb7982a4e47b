/* DOC: corsPolicy. The filter stands in every chain; a route's policy configures it. */
#include "pilot/translate/feature.h"
#include "xds/cors.pb-c.h"

static const char filter_name[] = "envoy.filters.http.cors";

static char *join(struct arena *a, char *const *items, size_t n)
{
	struct strbuf b cleanup(strbuf_done) = {0};

	for (size_t i = 0; i < n; i++)
		strbuf_addf(&b, "%s%s", i ? "," : "", items[i]);
	return arena_cstr(a, strbuf_str(&b));
}

static Match__StringMatcher *origin(struct arena *a, const Cfg__StringMatch *in)
{
	Match__StringMatcher *m;

	if (in->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT && !streq(in->exact, "*"))
		return build_exact(a, in->exact);
	m = PB_NEW(a, Match__StringMatcher, match__string_matcher);
	if (in->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX) {
		m->prefix = in->prefix;
		m->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_PREFIX;
		return m;
	}
	m->safe_regex = build_regex(a, in->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX ? in->regex : ".*");
	m->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
	return m;
}

static void add_origins(struct arena *a, const Cfg__CorsPolicy *in, Cors__CorsPolicy *out)
{
	for (size_t i = 0; i < in->n_allow_origins; i++)
		pb_add(a, out, allow_origin_string_match, origin(a, in->allow_origins[i]));
	for (size_t i = 0; !in->n_allow_origins && i < in->n_allow_origin; i++) {
		Cfg__StringMatch m = CFG__STRING_MATCH__INIT;

		m.exact = in->allow_origin[i];
		m.match_type_case = CFG__STRING_MATCH__MATCH_TYPE_EXACT;
		pb_add(a, out, allow_origin_string_match, origin(a, &m));
	}
}

static void cors_route(const struct route_context *r)
{
	const Cfg__CorsPolicy *in = r->rule ? r->rule->cors_policy : NULL;
	Cors__CorsPolicy *out;

	if (!in || !view_has_extension(r->v, filter_name))
		return;
	out = PB_NEW(r->a, Cors__CorsPolicy, cors__cors_policy);
	add_origins(r->a, in, out);
	out->allow_methods = join(r->a, in->allow_methods, in->n_allow_methods);
	out->allow_headers = join(r->a, in->allow_headers, in->n_allow_headers);
	out->expose_headers = join(r->a, in->expose_headers, in->n_expose_headers);
	if (in->max_age)
		out->max_age = arena_printf(r->a, "%lld", (long long)in->max_age->seconds);
	out->allow_credentials = in->allow_credentials ? build_bool(r->a, in->allow_credentials->value) : NULL;
	out->filter_enabled = PB_NEW(r->a, Core__RuntimeFractionalPercent, core__runtime_fractional_percent);
	out->filter_enabled->default_value = build_fraction(r->a, 100);
	if (in->unmatched_preflights == CFG__CORS_POLICY__UNMATCHED_PREFLIGHTS__IGNORE)
		out->forward_not_matching_preflights = build_bool(r->a, false);
	route_add_filter_config(r->a, r->route, filter_name, out);
}

static void cors_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	if (view_has_extension(c->v, filter_name))
		hcm_add_filter(c->a, hcm, filter_name, PB_NEW(c->a, Cors__Cors, cors__cors));
}

const struct feature cors_feature = {.name = "cors", .on_hcm = cors_hcm, .on_route = cors_route};
