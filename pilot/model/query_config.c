/*
 * DOC: Rules, routes and gateways as the scope sees them. Istio's precedence: destination rules of the client's
 * namespace, then of the service's, then of the root namespace; an exact host before the longest wildcard; one with a selector of
 * workloads before those for all; among equals the oldest object, then the name. For clients in the root namespace its rules are first
 * only when they are private to it: the others are meant for the whole mesh and must not hide those of the services.
 */
#include <stdlib.h>

#include "common/mesh/delegate.h"
#include "common/mesh/host.h"
#include "common/mesh/labels.h"
#include "pilot/model/ask.h"
#include "pilot/model/query.h"

int entry_by_age(const void *x, const void *y)
{
	const struct entry *a = *(const struct entry *const *)x, *b = *(const struct entry *const *)y;

	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	return str_cmp(a->key, b->key);
}

/* Labels of the scope that a selector asks for. */
bool scope_selected(const struct view *v, struct label_set selector)
{
	for (size_t i = 0; i < selector.n; i++) {
		struct label l = label_at(selector, i);
		const struct str *own = view_label(v, l.key);

		if (!own || !str_eqc(*own, l.value))
			return false;
	}
	return true;
}

/* ---- destination rules */
static const Cfg__DestinationRule *rule_of(const struct entry *e)
{
	return e->value;
}

static bool rule_applies(const struct view *v, const struct entry *e, struct str host)
{
	const Cfg__DestinationRule *dr = e->value;

	if (!host_matches(str_of(dr->host), host))
		return false;
	if (!exported_to(dr->export_to, dr->n_export_to, e->ns, v->scope->attributes->ns))
		return false;
	if (!dr->workload_selector)
		return true;
	return str_eq(e->ns, v->scope->attributes->ns) &&
	       scope_selected(v, LABELS(dr->workload_selector, match_labels));
}

/* Only its own namespace can see it. */
static bool is_private(const struct entry *e)
{
	const Cfg__DestinationRule *dr = e->value;

	return dr->workload_selector ||
	       (dr->n_export_to == 1 && (streq(dr->export_to[0], ".") || str_eqc(e->ns, dr->export_to[0])));
}

static int rule_cmp(const void *x, const void *y)
{
	bool a = rule_of(*(const struct entry *const *)x)->workload_selector != NULL;
	bool b = rule_of(*(const struct entry *const *)y)->workload_selector != NULL;

	return a != b ? (a ? -1 : 1) : entry_by_age(x, y);
}

struct place {
	struct str ns;
	bool private_only;
};

/* The rules of one namespace whose host is the most specific there, in their precedence. */
static size_t rules_in(
	const struct view *v, struct rows rows, struct place place, struct str host, const struct entry **out)
{
	size_t n = 0;

	for (size_t i = 0; i < rows.n; i++) {
		const struct entry *e = rows.items[i].entry;
		int c = n ? host_specificity(str_of(rule_of(e)->host), str_of(rule_of(out[0])->host)) : 0;

		if (!str_eq(e->ns, place.ns) || (place.private_only && !is_private(e)) || !rule_applies(v, e, host) ||
			c > 0)
			continue;
		if (c < 0)
			n = 0;
		out[n++] = e;
	}
	if (n > 1)
		qsort(out, n, sizeof(*out), rule_cmp);
	return n;
}

static void merge_rules(struct view *v, const struct entry **found, size_t n, struct rule *out)
{
	size_t cap = 0;

	for (size_t i = 0; i < n; i++)
		cap += rule_of(found[i])->n_subsets;
	out->subsets = arena_array(v->scratch, cap + 1, sizeof(*out->subsets));
	out->entry = found[0];
	for (size_t i = 0; i < n; i++) {
		const Cfg__DestinationRule *dr = found[i]->value;

		ask_source(v, found[i]);
		if (!out->policy)
			out->policy = dr->traffic_policy;
		for (size_t j = 0; j < dr->n_subsets; j++)
			if (!rule_subset(out, str_of(dr->subsets[j]->name)))
				out->subsets[out->n_subsets++] = dr->subsets[j];
	}
}

struct rule view_rule(struct view *v, enum question aspect, struct str host, struct str service_ns)
{
	struct str own = v->scope->attributes->ns, root = view_root_namespace(v);
	const struct place places[] = {{own, str_eq(own, root)}, {service_ns, false}, {root, false}};
	struct rows exact = ask_rows(v, TOPIC_DESTINATION_RULE, Q_DR_HOST, host);
	struct rows wild = ask_rows(v, TOPIC_DESTINATION_RULE, Q_DR_HOST, STR("*"));
	const struct entry **found = arena_array(v->scratch, exact.n + wild.n + 1, sizeof(*found));
	struct rule out = {0};

	ask_note(v, aspect, host);
	ask_note(v, aspect, STR("*"));
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		size_t n = rules_in(v, exact, places[i], host, found);

		if (!n)
			n = rules_in(v, wild, places[i], host, found);
		if (n) {
			merge_rules(v, found, n, &out);
			break;
		}
	}
	return out;
}

const Cfg__Subset *rule_subset(const struct rule *r, struct str name)
{
	for (size_t i = 0; i < r->n_subsets; i++)
		if (str_eqc(name, r->subsets[i]->name))
			return r->subsets[i];
	return NULL;
}

/* ---- virtual services */
static const Cfg__VirtualService *vs_of(const struct entry *e)
{
	return e->value;
}

/* The most specific host of e that covers `host`. */
static struct str vs_host_for(const struct entry *e, struct str host)
{
	const Cfg__VirtualService *vs = e->value;
	struct str best = {0};

	for (size_t i = 0; i < vs->n_hosts; i++) {
		struct str h = str_of(vs->hosts[i]);

		if (host_matches(h, host) && (!best.ptr || host_specificity(h, best) < 0))
			best = h;
	}
	return best;
}

struct found_service {
	const struct entry *entry;
	struct str host;
	int rank;
};

/* 0: only the caller's own namespace sees it; 1: chosen namespaces; 2: all. */
static int vs_rank(const struct view *v, const struct entry *e)
{
	const Cfg__VirtualService *vs = e->value;

	if (exported_to(vs->export_to, vs->n_export_to, (struct str){0}, STR("*")))
		return 2;
	return str_eq(e->ns, v->scope->attributes->ns) ? 0 : 1;
}

static int found_cmp(const void *x, const void *y)
{
	const struct found_service *a = x, *b = y;
	int c = host_specificity(a->host, b->host);

	if (!c)
		c = a->rank - b->rank;
	return c ? c : entry_by_age(&a->entry, &b->entry);
}

static bool is_found(const struct found_service *found, size_t n, const struct entry *e)
{
	for (size_t i = 0; i < n; i++)
		if (found[i].entry == e)
			return true;
	return false;
}

/* Visible ones that cover the host, unordered. One with an exact and a wildcard host is in both sets. */
static struct found_service *covering(struct view *v, struct str host, size_t *n)
{
	const struct rows sets[] = {
		ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_HOST, host), ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_HOST, STR("*"))};
	struct found_service *out = arena_array(v->scratch, sets[0].n + sets[1].n + 1, sizeof(*out));

	*n = 0;
	for (size_t s = 0; s < ARRAY_LEN(sets); s++)
		for (size_t i = 0; i < sets[s].n; i++) {
			const struct entry *e = sets[s].items[i].entry;
			struct str h = vs_host_for(e, host);

			if (h.ptr && sidecar_imports(v, e) && !is_found(out, *n, e))
				out[(*n)++] = (struct found_service){e, h, vs_rank(v, e)};
		}
	return out;
}

static void take_found(struct view *v, const struct found_service *found, size_t n, struct entries *out)
{
	out->items = arena_array(v->scratch, n + 1, sizeof(*out->items));
	out->n = n;
	for (size_t i = 0; i < n; i++) {
		out->items[i] = found[i].entry;
		ask_source(v, found[i].entry);
	}
}

void view_host_rules(struct view *v, struct str host, struct entries *out)
{
	size_t all, n = 0;
	struct found_service *found = covering(v, host, &all);

	for (size_t i = 0; i < all; i++) {
		int c = n ? host_specificity(found[i].host, found[0].host) : 0;

		if (!vs_of(found[i].entry)->n_http || c > 0)
			continue;
		if (c < 0)
			n = 0;
		found[n++] = found[i];
	}
	if (n > 1)
		qsort(found, n, sizeof(*found), found_cmp);
	take_found(v, found, n, out);
}

void view_host_services(struct view *v, struct str host, struct entries *out)
{
	size_t n;
	struct found_service *found = covering(v, host, &n);

	if (n > 1)
		qsort(found, n, sizeof(*found), found_cmp);
	take_found(v, found, n, out);
}

const struct entry *view_delegate(struct view *v, const Cfg__Delegate *d, struct str root_ns)
{
	const char *key = arena_printf(v->scratch, "%s/%s", d->namespace_, d->name);
	struct rows rows = ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_DELEGATE, str_of(key));

	if (!rows.n || !delegate_visible(vs_of(rows.items[0].entry), rows.items[0].entry->ns, root_ns))
		return NULL;
	ask_source(v, rows.items[0].entry);
	return rows.items[0].entry;
}

static void keep_visible(struct view *v, struct rows rows, struct entries *out)
{
	struct found_service *found = arena_array(v->scratch, rows.n + 1, sizeof(*found));

	out->items = arena_array(v->scratch, rows.n + 1, sizeof(*out->items));
	out->n = 0;
	for (size_t i = 0; i < rows.n; i++)
		if (sidecar_imports(v, rows.items[i].entry) && vs_of(rows.items[i].entry)->n_hosts)
			found[out->n++] = (struct found_service){
				.entry = rows.items[i].entry, .rank = vs_rank(v, rows.items[i].entry)};
	if (out->n > 1)
		qsort(found, out->n, sizeof(*found), found_cmp);
	for (size_t i = 0; i < out->n; i++)
		out->items[i] = found[i].entry;
}

void view_virtual_services(struct view *v, struct entries *out)
{
	keep_visible(v, ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_LIST, STR("")), out);
}

void view_gateway_services(struct view *v, struct str gateway, struct entries *out)
{
	keep_visible(v, ask(v, TOPIC_VIRTUAL_SERVICE, Q_VS_GATEWAY, gateway), out);
	for (size_t i = 0; i < out->n; i++)
		ask_source(v, out->items[i]);
}

/* ---- trust bundles */
void view_roots(struct view *v, char ***out, size_t *n)
{
	struct rows rows = ask(v, TOPIC_TRUST, Q_TRUST, STR(""));
	size_t all = 0;

	for (size_t i = 0; i < rows.n; i++)
		all += ((const Fl__TrustBundle *)rows.items[i].entry->value)->n_roots_pem;
	*out = arena_array(v->scratch, all + 1, sizeof(**out));
	*n = 0;
	for (size_t i = 0; i < rows.n; i++) {
		const Fl__TrustBundle *b = rows.items[i].entry->value;

		for (size_t k = 0; k < b->n_roots_pem; k++)
			(*out)[(*n)++] = b->roots_pem[k];
	}
}

/* ---- gateways */
void view_gateways(struct view *v, struct entries *out)
{
	struct rows rows = ask(v, TOPIC_GATEWAY, Q_GATEWAY_LIST, STR(""));

	out->items = arena_array(v->scratch, rows.n + 1, sizeof(*out->items));
	out->n = 0;
	for (size_t i = 0; i < rows.n; i++) {
		const Cfg__Gateway *g = rows.items[i].entry->value;

		bool admitted = !v->scope->attributes->own_gateways ||
				str_eq(rows.items[i].entry->ns, v->scope->attributes->ns);

		if (admitted && scope_selected(v, LABELS(g, selector))) {
			ask_source(v, rows.items[i].entry);
			out->items[out->n++] = rows.items[i].entry;
		}
	}
	if (out->n > 1)
		qsort(out->items, out->n, sizeof(*out->items), entry_by_age);
}
