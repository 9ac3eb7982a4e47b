/*
 * DOC: The rule of each kind of object, by what the queries do with the caller's namespace (query.c, query_config.c):
 *
 * - exportTo that is not for all singles out who is named, "." being the object's own namespace.
 * - The services of one host are told apart by the caller's namespace first: a host with more than one singles out theirs.
 * - A DestinationRule is looked for in the caller's namespace, then in the service's. So it singles out its own, unless its host is that
 *   of a service for all in this very namespace: then both are the same. A wildcard may cover other services, too, and a rule with a
 *   selector of workloads applies in its own namespace only.
 * - sourceNamespace of a match singles out whom it names.
 * - "name.ns.svc" is known as "name" in ns. Any ".svc." counts, whatever the domain.
 *
 * A rule may be too broad: then proxies that could share do not. It must never be too narrow: test_singled.c holds it to that.
 */
#include "pilot/model/singled.h"

#include <stdlib.h>

#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/map.h"
#include "common/mesh/host.h"
#include "common/mesh/kinds.h"
#include "pilot/model/ask.h"
#include "pilot/model/index.h"

struct singled {
	struct ref ref;
	struct map *why; /* namespace -> bits */
};

static void singled_destroy(struct ref *r)
{
	struct singled *s = container_of(r, struct singled, ref);

	map_free(s->why);
	free(s);
}

struct singled *singled_ref(struct singled *s)
{
	if (s)
		ref_get(&s->ref);
	return s;
}

void singled_unref(struct singled *s)
{
	if (s)
		ref_put(&s->ref);
}

unsigned singled_get(const struct singled *s, struct str ns)
{
	return s ? (unsigned)(uintptr_t)map_get(s->why, ns) : 0;
}

static void add(struct singled *s, struct str ns, unsigned bits)
{
	uintptr_t had = singled_get(s, ns);

	if ((had | bits) != had)
		(void)map_put(s->why, ns, (void *)(had | bits)); /* a number in the place of a pointer */
}

static void add_exports(struct singled *s, char *const *list, size_t n, struct str owner)
{
	if (exported_to(list, n, owner, STR("*"))) /* to all */
		return;
	for (size_t i = 0; i < n; i++)
		add(s, streq(list[i], ".") ? owner : str_of(list[i]), SINGLED_VIEW);
}

static void add_host(struct singled *s, struct str host)
{
	struct str mark = STR(".svc.");
	size_t dot = host.len; /* the last one before `i` */

	for (size_t i = 0; i < host.len; i++) {
		if (host.ptr[i] != '.')
			continue;
		if (dot < i && str_starts(str_from(host, i), mark))
			add(s, str_sub(host, dot + 1, i - dot - 1), SINGLED_NAMES);
		dot = i;
	}
}

/* ---- services */
static const Fl__Service *service_at(const struct topic_index *x, size_t row)
{
	return x->rows[row].entry->value;
}

static void add_services(struct singled *s, const struct topic_index *x)
{
	for (size_t i = 0; x && i < x->n; i++) {
		const Fl__Service *v = x->entries[i]->value;

		add_exports(s, v->export_to, v->n_export_to, str_of(v->namespace_));
		add_host(s, str_of(v->hostname));
	}
	/* Services of one host are rows of one question. */
	for (size_t i = 1; x && i < x->n_rows; i++) {
		if (x->rows[i - 1].key != x->rows[i].key ||
			!streq(service_at(x, i - 1)->hostname, service_at(x, i)->hostname))
			continue;
		add(s, str_of(service_at(x, i - 1)->namespace_), SINGLED_VIEW);
		add(s, str_of(service_at(x, i)->namespace_), SINGLED_VIEW);
	}
}

/* ---- rules */
static bool is_of_own_service(const struct entry *rule, const struct topic_index *services)
{
	const Cfg__DestinationRule *dr = rule->value;
	struct rows rows = index_rows(services, question_key(Q_SERVICE_HOST, str_of(dr->host)));

	if (dr->workload_selector || host_is_wildcard(str_of(dr->host)))
		return false;
	for (size_t i = 0; i < rows.n; i++) {
		const Fl__Service *v = rows.items[i].entry->value;

		if (!str_eqc(rule->ns, v->namespace_) || !exported_to(v->export_to, v->n_export_to, rule->ns, STR("*")))
			return false;
	}
	return rows.n > 0;
}

static void add_rules(struct singled *s, const struct topic_index *x, const struct topic_index *services)
{
	for (size_t i = 0; x && i < x->n; i++) {
		const Cfg__DestinationRule *dr = x->entries[i]->value;

		add_exports(s, dr->export_to, dr->n_export_to, x->entries[i]->ns);
		if (!is_of_own_service(x->entries[i], services))
			add(s, x->entries[i]->ns, SINGLED_VIEW);
	}
}

static void add_source(struct singled *s, const char *ns)
{
	if (!str_empty(ns))
		add(s, str_of(ns), SINGLED_VIEW);
}

static void add_virtual_services(struct singled *s, const struct topic_index *x)
{
	for (size_t i = 0; x && i < x->n; i++) {
		const Cfg__VirtualService *vs = x->entries[i]->value;

		add_exports(s, vs->export_to, vs->n_export_to, x->entries[i]->ns);
		for (size_t j = 0; j < vs->n_hosts; j++)
			add_host(s, str_of(vs->hosts[j]));
		for (size_t j = 0; j < vs->n_http; j++)
			for (size_t k = 0; k < vs->http[j]->n_match; k++)
				add_source(s, vs->http[j]->match[k]->source_namespace);
		for (size_t j = 0; j < vs->n_tcp; j++)
			for (size_t k = 0; k < vs->tcp[j]->n_match; k++)
				add_source(s, vs->tcp[j]->match[k]->source_namespace);
		for (size_t j = 0; j < vs->n_tls; j++)
			for (size_t k = 0; k < vs->tls[j]->n_match; k++)
				add_source(s, vs->tls[j]->match[k]->source_namespace);
	}
}

struct singled *singled_make(const struct model *m)
{
	struct singled *s = xzalloc(sizeof(*s));
	const struct topic_index *services = model_values(m, TOPIC_SERVICE);

	ref_init(&s->ref, singled_destroy);
	s->why = map_new();
	add_services(s, services);
	add_rules(s, model_values(m, TOPIC_DESTINATION_RULE), services);
	add_virtual_services(s, model_values(m, TOPIC_VIRTUAL_SERVICE));
	return s;
}

static void touch_differing(const struct singled *these, const struct singled *others, struct read_keys *touched)
{
	struct str ns;
	void *bits;

	for (size_t i = 0; these && map_next(these->why, &i, &ns, &bits);)
		if ((unsigned)(uintptr_t)bits != singled_get(others, ns))
			read_keys_add(touched, question_key(Q_SINGLED, ns));
}

void singled_touch(const struct singled *old, const struct singled *new, struct read_keys *touched)
{
	if (old == new)
		return;
	touch_differing(old, new, touched);
	touch_differing(new, old, touched);
}
