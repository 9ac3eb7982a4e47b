/*
 * DOC: Where to look for services. Without a Sidecar all services are visible that are exported to everyone or to the scope's namespace,
 * and the questions for those answer. With one, its egress hosts say where else than in the whole mesh: a host is asked for by
 * its name, a wildcard within its namespace. So a proxy that imports twenty hosts costs twenty hosts, however large the mesh is, and
 * is not asked again about services that it cannot see. Only a wildcard in all namespaces needs the whole list.
 */
#include "common/mesh/host.h"
#include "pilot/model/ask.h"
#include "pilot/model/query.h"

struct search {
	struct view *v;
	uint64_t everyone, own; /* keys of q: the two visibilities */
	bool narrowed; /* rows are those of names and namespaces: q must be looked at */
	service_fn *fn;
	void *ctx;
};

static bool answers(const struct search *s, const struct entry *e)
{
	return entry_answers(e, s->everyone) || entry_answers(e, s->own);
}

static bool look(const struct search *s, enum question q, struct str text)
{
	struct rows rows = ask(s->v, TOPIC_SERVICE, q, text);

	for (size_t i = 0; i < rows.n; i++)
		if ((!s->narrowed || answers(s, rows.items[i].entry)) && s->fn(s->ctx, rows.items[i].entry->value))
			return true;
	return false;
}

static bool is_everywhere(const struct view *v, const Cfg__IstioEgressListener *l)
{
	for (size_t i = 0; i < l->n_hosts; i++) {
		struct egress_host e = egress_host_of(v, l->hosts[i]);

		if (!e.out && str_eqc(e.ns, "*") && host_is_wildcard(e.host))
			return true;
	}
	return false;
}

static bool can_narrow(const struct view *v, const Cfg__Sidecar *sidecar)
{
	for (size_t i = 0; sidecar && i < sidecar->n_egress; i++)
		if (is_everywhere(v, sidecar->egress[i]))
			return false;
	return sidecar && sidecar->n_egress;
}

static bool look_for_hosts(const struct search *s, const Cfg__IstioEgressListener *l)
{
	for (size_t i = 0; i < l->n_hosts; i++) {
		struct egress_host e = egress_host_of(s->v, l->hosts[i]);

		if (e.out)
			continue;
		if (host_is_wildcard(e.host) ? look(s, Q_SERVICE_NS, e.ns)
					     : look(s, Q_SERVICE_HOST, host_lower(s->v->scratch, e.host)))
			return true;
	}
	return false;
}

bool find_service(struct view *v, enum question q, const char *suffix, service_fn *fn, void *ctx)
{
	const Cfg__Sidecar *sidecar = view_sidecar(v);
	struct str everyone = str_of(arena_printf(v->scratch, "*%s", suffix));
	struct str own = str_of(arena_printf(v->scratch, STR_FMT "%s", STR_ARG(v->scope->attributes->ns), suffix));
	const struct search s = {.v = v,
		.everyone = question_key(q, everyone),
		.own = question_key(q, own),
		.narrowed = can_narrow(v, sidecar),
		.fn = fn,
		.ctx = ctx};

	if (!s.narrowed)
		return look(&s, q, everyone) || look(&s, q, own);
	for (size_t i = 0; i < sidecar->n_egress; i++)
		if (look_for_hosts(&s, sidecar->egress[i]))
			return true;
	return false;
}
