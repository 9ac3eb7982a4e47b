/*
 * DOC: Subsumption of matches. Each kind of condition has its own rule: an exact text is covered by the same text, by its prefixes and by
 * regular expressions that match it; a prefix by shorter prefixes; a regular expression only by the same one, or by one that is known to
 * take everything. A match covers another one when each of its conditions covers a condition of the other. What several earlier rules
 * take together is not added up.
 */
#include "galley/checks/cover.h"

#include "common/re/re.h"

/* ---- strings */
static bool is_anything(const Cfg__StringMatch *m)
{
	switch (m ? m->match_type_case : CFG__STRING_MATCH__MATCH_TYPE__NOT_SET) {
	case CFG__STRING_MATCH__MATCH_TYPE_PREFIX:
		return str_empty(m->prefix);
	case CFG__STRING_MATCH__MATCH_TYPE_REGEX:
		return streq(m->regex, ".*") || streq(m->regex, "*");
	case CFG__STRING_MATCH__MATCH_TYPE_EXACT: /* also "": there, and empty */
		return false;
	default:
		return true;
	}
}

static bool same(const char *x, const char *y, bool fold)
{
	return fold ? str_ieq(str_of(x), str_of(y)) : streq(x, y);
}

static bool starts(const char *text, const char *prefix, bool fold)
{
	struct str head = str_sub(str_of(text), 0, strlen(prefix));

	return fold ? str_ieq(head, str_of(prefix)) : str_eqc(head, prefix);
}

static bool regex_takes(const char *regex, const char *text)
{
	struct err e = {0};
	struct re *re = re_new(str_of(regex), &e);
	bool yes = re && re_full_match(re, str_of(text));

	re_free(re);
	return yes;
}

/* `fold`: the earlier one compares without case. Both are there and not empty. */
static bool string_covers(const Cfg__StringMatch *earlier, const Cfg__StringMatch *later, bool fold)
{
	switch (earlier->match_type_case) {
	case CFG__STRING_MATCH__MATCH_TYPE_EXACT:
		return later->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT &&
		       same(earlier->exact, later->exact, fold);
	case CFG__STRING_MATCH__MATCH_TYPE_PREFIX:
		return (later->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT &&
			       starts(later->exact, earlier->prefix, fold)) ||
		       (later->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX &&
			       starts(later->prefix, earlier->prefix, fold));
	case CFG__STRING_MATCH__MATCH_TYPE_REGEX:
		return (later->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX &&
			       streq(earlier->regex, later->regex)) ||
		       (later->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT &&
			       regex_takes(earlier->regex, later->exact));
	default:
		return true;
	}
}

static bool part_covers(const Cfg__StringMatch *earlier, const Cfg__StringMatch *later)
{
	if (is_anything(earlier))
		return true;
	return !is_anything(later) && string_covers(earlier, later, false);
}

static bool all_paths(const Cfg__StringMatch *uri)
{
	return is_anything(uri) ||
	       (uri->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX && streq(uri->prefix, "/"));
}

/* A regular expression says itself whether case counts. */
static bool folds(const Cfg__HTTPMatchRequest *m)
{
	return m->ignore_uri_case && m->uri->match_type_case != CFG__STRING_MATCH__MATCH_TYPE_REGEX;
}

static bool uri_covers(const Cfg__HTTPMatchRequest *earlier, const Cfg__HTTPMatchRequest *later)
{
	if (all_paths(earlier->uri))
		return true;
	if (all_paths(later->uri) || (folds(later) && !folds(earlier)))
		return false;
	return string_covers(earlier->uri, later->uri, folds(earlier));
}

/* ---- maps of conditions; entries of the three maps have one layout */
struct conditions {
	size_t n;
	Cfg__HTTPMatchRequest__HeadersEntry *const *items;
};
#define CONDITIONS(m, field) \
	((struct conditions){(m)->n_##field, (Cfg__HTTPMatchRequest__HeadersEntry *const *)(void *const *)(m)->field})

static const Cfg__HTTPMatchRequest__HeadersEntry *entry_of(struct conditions c, const char *key, bool fold)
{
	for (size_t i = 0; i < c.n; i++)
		if (same(c.items[i]->key, key, fold))
			return c.items[i];
	return NULL;
}

/* Headers: what the earlier one asks for, the later one asks for more narrowly. An empty condition: it is present. */
static bool present_covers(struct conditions earlier, struct conditions later, bool fold)
{
	for (size_t i = 0; i < earlier.n; i++) {
		const Cfg__HTTPMatchRequest__HeadersEntry *other = entry_of(later, earlier.items[i]->key, fold);

		if (!other || !part_covers(earlier.items[i]->value, other->value))
			return false;
	}
	return true;
}

/* In withoutHeaders a text is compared with "" where there is no such header. */
static bool refuses_missing(const Cfg__StringMatch *m)
{
	switch (m ? m->match_type_case : CFG__STRING_MATCH__MATCH_TYPE__NOT_SET) {
	case CFG__STRING_MATCH__MATCH_TYPE_REGEX:
		return !streq(m->regex, "*") && regex_takes(m->regex, "");
	case CFG__STRING_MATCH__MATCH_TYPE_EXACT:
		return str_empty(m->exact);
	default:
		return false;
	}
}

/* withoutHeaders: what the earlier one refuses, the later one refuses too. */
static bool absent_covers(struct conditions earlier, struct conditions later)
{
	for (size_t i = 0; i < earlier.n; i++) {
		const Cfg__HTTPMatchRequest__HeadersEntry *other = entry_of(later, earlier.items[i]->key, true);

		if (!other || !part_covers(other->value, earlier.items[i]->value) ||
			(refuses_missing(earlier.items[i]->value) && !refuses_missing(other->value)))
			return false;
	}
	return true;
}

/* ---- callers */
struct caller {
	uint32_t port;
	struct label_set labels;
	const char *ns;
	char *const *gateways;
	size_t n_gateways;
};
#define CALLER(m) \
	((struct caller){(m)->port, LABELS(m, source_labels), (m)->source_namespace, (m)->gateways, (m)->n_gateways})

static bool in_list(char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(list[i], name))
			return true;
	return false;
}

static bool caller_covers(struct caller earlier, struct caller later)
{
	if (earlier.port && earlier.port != later.port)
		return false;
	if (!labels_match(earlier.labels, later.labels))
		return false;
	if (!str_empty(earlier.ns) && !streq(earlier.ns, later.ns))
		return false;
	if (earlier.n_gateways && !later.n_gateways)
		return false;
	for (size_t i = 0; earlier.n_gateways && i < later.n_gateways; i++)
		if (!in_list(earlier.gateways, earlier.n_gateways, later.gateways[i]))
			return false;
	return true;
}

/* ---- HTTP */
/* Of a named gateway all requests are meant, whatever the labels say. */
static struct caller widest_caller(const Cfg__HTTPMatchRequest *m)
{
	struct caller c = CALLER(m);
	bool gateway = false;

	for (size_t i = 0; i < m->n_gateways; i++)
		gateway |= !streq(m->gateways[i], "mesh");
	if (gateway) {
		c.labels = (struct label_set){0};
		c.ns = "";
	}
	return c;
}

static const Cfg__HTTPMatchRequest everything = CFG__HTTPMATCH_REQUEST__INIT;

bool match_covers(const Cfg__HTTPMatchRequest *earlier, const Cfg__HTTPMatchRequest *later)
{
	const Cfg__HTTPMatchRequest *e = earlier ? earlier : &everything, *l = later ? later : &everything;

	return uri_covers(e, l) && part_covers(e->method, l->method) && part_covers(e->scheme, l->scheme) &&
	       part_covers(e->authority, l->authority) &&
	       present_covers(CONDITIONS(e, headers), CONDITIONS(l, headers), true) &&
	       present_covers(CONDITIONS(e, query_params), CONDITIONS(l, query_params), false) &&
	       absent_covers(CONDITIONS(e, without_headers), CONDITIONS(l, without_headers)) &&
	       caller_covers(CALLER(e), widest_caller(l));
}

bool match_is_everything(const Cfg__HTTPMatchRequest *m)
{
	return match_covers(m, NULL);
}

const char *match_contradiction(const Cfg__HTTPMatchRequest *m)
{
	for (size_t i = 0; i < m->n_headers; i++) {
		const Cfg__HTTPMatchRequest__HeadersEntry *h = (const void *)m->headers[i];
		const Cfg__HTTPMatchRequest__HeadersEntry *not = entry_of(CONDITIONS(m, without_headers), h->key, true);

		if (not &&part_covers(not ->value, h->value))
			return "a header is asked for in headers and refused in withoutHeaders";
	}
	return NULL;
}

/* ---- TLS and TCP. Envoy prefers the more specific name or subnet, whatever the order: only equal ones take from one another. */
static bool subnets_cover(char *const *earlier, size_t n_earlier, char *const *later, size_t n_later)
{
	if (!n_earlier || !n_later)
		return n_earlier == n_later;
	for (size_t i = 0; i < n_later; i++)
		if (!in_list(earlier, n_earlier, later[i]))
			return false;
	return true;
}

bool tls_match_covers(const Cfg__TLSMatchAttributes *earlier, const Cfg__TLSMatchAttributes *later)
{
	for (size_t i = 0; i < later->n_sni_hosts; i++)
		if (!in_list(earlier->sni_hosts, earlier->n_sni_hosts, later->sni_hosts[i]))
			return false;
	return subnets_cover(earlier->destination_subnets, earlier->n_destination_subnets, later->destination_subnets,
		       later->n_destination_subnets) &&
	       caller_covers(CALLER(earlier), CALLER(later));
}

bool tcp_match_covers(const Cfg__L4MatchAttributes *earlier, const Cfg__L4MatchAttributes *later)
{
	static const Cfg__L4MatchAttributes any = CFG__L4_MATCH_ATTRIBUTES__INIT;
	const Cfg__L4MatchAttributes *e = earlier ? earlier : &any, *l = later ? later : &any;

	/* A rule for anywhere ends the search: what follows it is not read, subnets or not. */
	return (!e->n_destination_subnets || subnets_cover(e->destination_subnets, e->n_destination_subnets,
						     l->destination_subnets, l->n_destination_subnets)) &&
	       caller_covers(CALLER(e), CALLER(l));
}
