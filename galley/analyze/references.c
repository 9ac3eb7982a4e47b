/*
 * DOC: What VirtualServices refer to: gateways, delegates, destinations and their subsets and ports; and hosts that more than one of
 * them claims on the mesh, or that their gateways do not serve.
 */
#include "galley/analyze/world.h"

#include <stdlib.h>

#include "common/base/vec.h"
#include "common/mesh/host.h"

static const Cfg__VirtualService *spec_of(const struct object *o)
{
	return (const void *)o->message;
}

/* ---- gateways */
static const char *hosts_not_served(struct world *w, const struct object *vs, const struct object *gateway)
{
	cleanup(strbuf_done) struct strbuf list = {0};

	for (size_t i = 0; i < spec_of(vs)->n_hosts; i++)
		if (!gateway_serves(gateway, vs->ns, spec_of(vs)->hosts[i], 0))
			strbuf_addf(&list, "%s%s", list.len ? ", " : "", spec_of(vs)->hosts[i]);
	return list.len ? arena_cstr(w->a, strbuf_str(&list)) : NULL;
}

static void gateways(struct world *w, const struct object *vs)
{
	for (size_t i = 0; i < spec_of(vs)->n_gateways; i++) {
		const char *name = spec_of(vs)->gateways[i], *path = arena_printf(w->a, "spec.gateways[%zu]", i);
		const struct object *g = streq(name, "mesh") ? NULL : world_gateway(w, name);
		const char *missing = g ? hosts_not_served(w, vs, g) : NULL;

		if (streq(name, "mesh"))
			continue;
		if (!g)
			world_report(w, "IST0101", vs, path, "gateway \"%s\" does not exist", name);
		else if (missing)
			world_report(
				w, "IST0132", vs, "spec.hosts", "%s: no server of Gateway %s has it", missing, name);
	}
}

/* ---- destinations */
static bool has_subset(const struct world *w, const char *host, const char *subset)
{
	struct object_list rules = w->in->of[KIND_DESTINATION_RULE];

	for (size_t i = 0; i < rules.n; i++) {
		const Cfg__DestinationRule *dr = (const void *)rules.items[i]->message;

		for (size_t k = 0; host_matches(str_of(dr->host), str_of(host)) && k < dr->n_subsets; k++)
			if (streq(dr->subsets[k]->name, subset))
				return true;
	}
	return false;
}

static const char *ports_of(struct world *w, const Fl__Service *s)
{
	cleanup(strbuf_done) struct strbuf list = {0};

	for (size_t i = 0; i < s->n_ports; i++)
		strbuf_addf(&list, "%s%u", i ? ", " : "", s->ports[i]->number);
	return arena_cstr(w->a, strbuf_str(&list));
}

static void destination(struct world *w, const struct object *vs, const Cfg__Destination *d, const char *path)
{
	const Fl__Service *s = d ? world_service(w, d->host) : NULL;

	if (!d)
		return;
	if (!s) {
		world_report(
			w, "IST0101", vs, arena_printf(w->a, "%s.host", path), "host \"%s\" does not exist", d->host);
		return;
	}
	if (!str_empty(d->subset) && !has_subset(w, d->host, d->subset))
		world_report(w, "IST0101", vs, arena_printf(w->a, "%s.subset", path),
			"no DestinationRule of \"%s\" has a subset \"%s\"", d->host, d->subset);
	if (d->port && d->port->number) {
		if (!service_has_port(s, d->port->number))
			world_report(w, "IST0101", vs, arena_printf(w->a, "%s.port", path),
				"\"%s\" has no port %u, only %s", d->host, d->port->number, ports_of(w, s));
	} else if (s->n_ports > 1) {
		world_report(w, "IST0112", vs, path,
			"\"%s\" has the ports %s: without a port the one is meant that the client dialled", d->host,
			ports_of(w, s));
	}
}

static void delegate(struct world *w, const struct object *vs, const Cfg__Delegate *d, const char *path)
{
	if (d && !world_object(w, KIND_VIRTUAL_SERVICE, d->namespace_, d->name))
		world_report(w, "IST0101", vs, path, "VirtualService \"%s/%s\" does not exist", d->namespace_, d->name);
}

static void destinations(struct world *w, const struct object *o)
{
	const Cfg__VirtualService *vs = spec_of(o);

	for (size_t i = 0; i < vs->n_http; i++) {
		const Cfg__HTTPRoute *r = vs->http[i];

		delegate(w, o, r->delegate, arena_printf(w->a, "spec.http[%zu].delegate", i));
		for (size_t k = 0; k < r->n_route; k++)
			destination(w, o, r->route[k]->destination,
				arena_printf(w->a, "spec.http[%zu].route[%zu].destination", i, k));
		for (size_t k = 0; k < r->n_mirrors; k++)
			destination(w, o, r->mirrors[k]->destination,
				arena_printf(w->a, "spec.http[%zu].mirrors[%zu].destination", i, k));
	}
	for (size_t i = 0; i < vs->n_tls; i++)
		for (size_t k = 0; k < vs->tls[i]->n_route; k++)
			destination(w, o, vs->tls[i]->route[k]->destination,
				arena_printf(w->a, "spec.tls[%zu].route[%zu].destination", i, k));
	for (size_t i = 0; i < vs->n_tcp; i++)
		for (size_t k = 0; k < vs->tcp[i]->n_route; k++)
			destination(w, o, vs->tcp[i]->route[k]->destination,
				arena_printf(w->a, "spec.tcp[%zu].route[%zu].destination", i, k));
}

/* ---- hosts that several claim on the mesh */
static bool claims_on_mesh(const struct object *o, const char *host)
{
	const Cfg__VirtualService *vs = spec_of(o);
	bool mesh = false;

	/* Rules for TLS and TCP of several objects are merged. */
	for (size_t i = 0; vs->n_http && i < vs->n_gateways; i++)
		mesh |= streq(vs->gateways[i], "mesh");
	for (size_t i = 0; mesh && i < vs->n_hosts; i++)
		if (streq(vs->hosts[i], host))
			return true;
	return false;
}

static const char *other_claimants(struct world *w, struct object_list list, const struct object *o, const char *host)
{
	cleanup(strbuf_done) struct strbuf names = {0};

	for (size_t i = 0; i < list.n; i++)
		if (list.items[i] != o && claims_on_mesh(list.items[i], host) &&
			audience_overlaps(audience_of(w, o), audience_of(w, list.items[i])))
			strbuf_addf(&names, "%s%s/%s", names.len ? ", " : "", list.items[i]->ns, list.items[i]->name);
	return names.len ? arena_cstr(w->a, strbuf_str(&names)) : NULL;
}

static void claims(struct world *w, const struct object *o)
{
	for (size_t i = 0; i < spec_of(o)->n_hosts; i++) {
		const char *host = spec_of(o)->hosts[i];
		const char *others = claims_on_mesh(o, host)
					     ? other_claimants(w, w->in->of[KIND_VIRTUAL_SERVICE], o, host)
					     : NULL;

		if (others)
			world_report(w, "IST0109", o, arena_printf(w->a, "spec.hosts[%zu]", i),
				"on the mesh %s claims %s too; a caller has the rules of one of them", others, host);
	}
}

void analyze_references(struct world *w)
{
	struct object_list list = w->in->of[KIND_VIRTUAL_SERVICE];

	for (size_t i = 0; i < list.n; i++) {
		gateways(w, list.items[i]);
		destinations(w, list.items[i]);
		claims(w, list.items[i]);
	}
}
