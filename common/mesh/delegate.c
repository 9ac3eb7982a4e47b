/*
 * DOC: Merging of delegates, by Istio's documented rules. A match of the delegate must be part of what the root's match admits:
 * where both have a condition on the same thing, the delegate's must be narrower (the same text, or a prefix that goes on). Regular
 * expressions cannot be compared, so they contradict any condition of the other side. Each pair of matches that agree gives one match;
 * a delegate's match that agrees with none takes its whole rule away. Names are joined by "-".
 */
#include "common/mesh/delegate.h"

#include "common/mesh/labels.h"
#include "common/pb/pb.h"

bool delegate_visible(const Cfg__VirtualService *delegate, struct str delegate_ns, struct str root_ns)
{
	for (size_t i = 0; i < delegate->n_export_to; i++) {
		const char *to = delegate->export_to[i];

		if (streq(to, "*") || str_eqc(root_ns, to) || (streq(to, ".") && str_eq(delegate_ns, root_ns)))
			return true;
	}
	return delegate->n_export_to == 0;
}

/* ---- conditions on strings */
static bool narrower(const char *leaf, const char *prefix)
{
	return str_starts(str_of(leaf), str_of(prefix));
}

static bool contradicts(const Cfg__StringMatch *root, const Cfg__StringMatch *leaf)
{
	bool exact, prefix;

	if (!root || !leaf || !root->match_type_case)
		return false;
	if (!leaf->match_type_case) /* "it is there" is wider than any text */
		return true;
	exact = root->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT;
	prefix = root->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX;
	if (leaf->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_EXACT)
		return exact ? !streq(root->exact, leaf->exact) : !prefix || !narrower(leaf->exact, root->prefix);
	if (leaf->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_PREFIX)
		return !prefix || !narrower(leaf->prefix, root->prefix);
	return true;
}

/* ---- maps of conditions; the three kinds of entries (headers, withoutHeaders, queryParams) have the same layout */
struct conditions {
	size_t n;
	Cfg__HTTPMatchRequest__HeadersEntry *const *items;
};
#define CONDITIONS(m, field) \
	((struct conditions){(m)->n_##field, (Cfg__HTTPMatchRequest__HeadersEntry *const *)(void *const *)(m)->field})

static_assert(sizeof(Cfg__HTTPMatchRequest__HeadersEntry) == sizeof(Cfg__HTTPMatchRequest__QueryParamsEntry) &&
		      sizeof(Cfg__HTTPMatchRequest__HeadersEntry) == sizeof(Cfg__HTTPMatchRequest__WithoutHeadersEntry),
	"entries of maps of StringMatch have one layout");

static const Cfg__StringMatch *condition_on(struct conditions c, const char *key)
{
	for (size_t i = 0; i < c.n; i++)
		if (streq(c.items[i]->key, key))
			return c.items[i]->value;
	return NULL;
}

static bool any_contradicts(struct conditions root, struct conditions leaf)
{
	for (size_t i = 0; i < leaf.n; i++)
		if (contradicts(condition_on(root, leaf.items[i]->key), leaf.items[i]->value))
			return true;
	return false;
}

/* Those of the leaf and, before them, the root's on other keys. */
static void *union_of(struct arena *a, struct conditions root, struct conditions leaf, size_t *n)
{
	Cfg__HTTPMatchRequest__HeadersEntry **out = arena_array(a, root.n + leaf.n + 1, sizeof(void *));

	*n = 0;
	for (size_t i = 0; i < root.n; i++)
		if (!condition_on(leaf, root.items[i]->key))
			out[(*n)++] = root.items[i];
	for (size_t i = 0; i < leaf.n; i++)
		out[(*n)++] = leaf.items[i];
	return out;
}

/* ---- labels and gateways */
static bool labels_contradict(struct label_set root, struct label_set leaf)
{
	for (size_t i = 0; i < leaf.n; i++) {
		struct label l = label_at(leaf, i);
		const char *other = label_get(root, l.key);

		if (other && !streq(other, l.value))
			return true;
	}
	return false;
}

static void *union_of_labels(struct arena *a, struct label_set root, struct label_set leaf, size_t *n)
{
	void **out = arena_array(a, root.n + leaf.n + 1, sizeof(*out));

	*n = 0;
	for (size_t i = 0; i < root.n; i++)
		if (!label_get(leaf, label_at(root, i).key))
			out[(*n)++] = root.entries[i];
	for (size_t i = 0; i < leaf.n; i++)
		out[(*n)++] = leaf.entries[i];
	return out;
}

static bool in_list(char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(list[i], name))
			return true;
	return false;
}

static bool gateways_contradict(const Cfg__HTTPMatchRequest *root, const Cfg__HTTPMatchRequest *leaf)
{
	for (size_t i = 0; root->n_gateways && i < leaf->n_gateways; i++)
		if (!in_list(root->gateways, root->n_gateways, leaf->gateways[i]))
			return true;
	return false;
}

/* ---- matches */
static bool texts_contradict(const char *root, const char *leaf)
{
	return !str_empty(root) && !str_empty(leaf) && !streq(root, leaf);
}

static bool matches_contradict(const Cfg__HTTPMatchRequest *root, const Cfg__HTTPMatchRequest *leaf)
{
	return contradicts(root->uri, leaf->uri) || contradicts(root->scheme, leaf->scheme) ||
	       contradicts(root->method, leaf->method) || contradicts(root->authority, leaf->authority) ||
	       any_contradicts(CONDITIONS(root, headers), CONDITIONS(leaf, headers)) ||
	       any_contradicts(CONDITIONS(root, without_headers), CONDITIONS(leaf, without_headers)) ||
	       any_contradicts(CONDITIONS(root, query_params), CONDITIONS(leaf, query_params)) ||
	       root->ignore_uri_case != leaf->ignore_uri_case ||
	       (root->port && leaf->port && root->port != leaf->port) ||
	       texts_contradict(root->source_namespace, leaf->source_namespace) ||
	       labels_contradict(LABELS(root, source_labels), LABELS(leaf, source_labels)) ||
	       gateways_contradict(root, leaf);
}

static char *joined(struct arena *a, char *root, char *leaf)
{
	if (str_empty(leaf))
		return root;
	return str_empty(root) ? leaf : arena_printf(a, "%s-%s", root, leaf);
}

static Cfg__HTTPMatchRequest *merge_match(
	struct arena *a, const Cfg__HTTPMatchRequest *root, const Cfg__HTTPMatchRequest *leaf)
{
	Cfg__HTTPMatchRequest *m = ARENA_NEW(a, Cfg__HTTPMatchRequest);

	*m = *leaf;
	m->name = joined(a, root->name, leaf->name);
	m->uri = leaf->uri ? leaf->uri : root->uri;
	m->scheme = leaf->scheme ? leaf->scheme : root->scheme;
	m->method = leaf->method ? leaf->method : root->method;
	m->authority = leaf->authority ? leaf->authority : root->authority;
	m->headers = union_of(a, CONDITIONS(root, headers), CONDITIONS(leaf, headers), &m->n_headers);
	m->without_headers = union_of(
		a, CONDITIONS(root, without_headers), CONDITIONS(leaf, without_headers), &m->n_without_headers);
	m->query_params = union_of(
		a, CONDITIONS(root, query_params), CONDITIONS(leaf, query_params), &m->n_query_params);
	m->source_labels = union_of_labels(
		a, LABELS(root, source_labels), LABELS(leaf, source_labels), &m->n_source_labels);
	m->port = leaf->port ? leaf->port : root->port;
	if (str_empty(leaf->source_namespace))
		m->source_namespace = root->source_namespace;
	if (str_empty(leaf->stat_prefix))
		m->stat_prefix = root->stat_prefix;
	if (!leaf->n_gateways) {
		m->gateways = root->gateways;
		m->n_gateways = root->n_gateways;
	}
	return m;
}

/* False: a match of the leaf is outside of what the root admits. */
static bool merge_matches(struct arena *a, const Cfg__HTTPRoute *root, Cfg__HTTPRoute *leaf)
{
	Cfg__HTTPMatchRequest **out;
	size_t n = 0;

	if (!root->n_match)
		return true;
	if (!leaf->n_match) {
		leaf->match = root->match;
		leaf->n_match = root->n_match;
		return true;
	}
	out = arena_array(a, root->n_match * leaf->n_match, sizeof(*out));
	for (size_t i = 0; i < leaf->n_match; i++) {
		size_t before = n;

		for (size_t j = 0; j < root->n_match; j++)
			if (!matches_contradict(root->match[j], leaf->match[i]))
				out[n++] = merge_match(a, root->match[j], leaf->match[i]);
		if (n == before)
			return false;
	}
	leaf->match = out;
	leaf->n_match = n;
	return true;
}

/* ---- rules */
#define INHERIT(field) \
	do { \
		if (!leaf->field) \
			leaf->field = root->field; \
	} while (0)

static void inherit(struct arena *a, const Cfg__HTTPRoute *root, Cfg__HTTPRoute *leaf)
{
	leaf->name = joined(a, root->name, leaf->name);
	INHERIT(rewrite);
	INHERIT(direct_response);
	INHERIT(timeout);
	INHERIT(retries);
	INHERIT(fault);
	INHERIT(mirror);
	INHERIT(mirror_percent);
	INHERIT(mirror_percentage);
	INHERIT(cors_policy);
	INHERIT(headers);
	if (!leaf->n_mirrors) {
		leaf->mirrors = root->mirrors;
		leaf->n_mirrors = root->n_mirrors;
	}
}

struct delegated *delegate_merge(
	struct arena *a, const Cfg__HTTPRoute *root, const Cfg__VirtualService *delegate, size_t *n)
{
	struct delegated *out = arena_array(a, delegate->n_http + 1, sizeof(*out));

	*n = 0;
	for (size_t i = 0; i < delegate->n_http; i++) {
		Cfg__HTTPRoute *rule = ARENA_NEW(a, Cfg__HTTPRoute);

		/* One level only: galley refuses a delegate that delegates. */
		if (delegate->http[i]->delegate)
			continue;
		*rule = *delegate->http[i];
		if (!merge_matches(a, root, rule))
			continue;
		inherit(a, root, rule);
		out[(*n)++] = (struct delegated){rule, i};
	}
	return out;
}
