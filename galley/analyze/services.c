/* DOC: Services and service entries: names of ports that tell no protocol, TCP hosts that nothing tells apart. */
#include "common/mesh/host.h"
#include "common/mesh/protocol.h"
#include "galley/analyze/world.h"
#include "galley/checks/values.h"
#include "kube/kube.pb-c.h"

/* "http", "http-web", "grpc-x": the part before the dash is a protocol. */
static bool names_protocol(const char *name)
{
	struct str head, tail;

	(void)str_cut(str_of(name), '-', &head, &tail);
	return head.len > 0 && protocol_find(head);
}

/* Ports whose protocol is known without a word, and is never looked for. */
static bool speaks_for_itself(const Kube__ServicePort *p)
{
	static const int32_t well_known[] = {25, 53, 3306, 27017};

	for (size_t i = 0; i < ARRAY_LEN(well_known); i++)
		if (p->port == well_known[i])
			return true;
	return streq(p->protocol, "UDP");
}

static void port_name(struct world *w, const struct object *o, const Kube__ServicePort *p, const char *path)
{
	const Kube__Service *s = (const void *)o->message;
	bool tells = !str_empty(p->app_protocol) || names_protocol(p->name) || speaks_for_itself(p);

	if (streq(s->spec->type, "ExternalName") && (!tells || streq(p->name, "tcp")))
		world_report(w, "IST0150", o, path,
			"\"%s\" (port %d) of an ExternalName service may take all TCP traffic of the port, for it has "
			"no address of its own; name it by what is spoken: tls-<suffix>, http-<suffix>",
			p->name, p->port);
	else if (!tells)
		world_report(w, "IST0118", o, path,
			"\"%s\" (port %d) names no protocol, so traffic is looked at to find it out; name it "
			"<protocol>[-<suffix>]",
			p->name, p->port);
}

static void port_names(struct world *w, const struct object *o)
{
	const Kube__Service *s = (const void *)o->message;

	for (size_t i = 0; s->spec && i < s->spec->n_ports; i++)
		port_name(w, o, s->spec->ports[i], arena_printf(w->a, "spec.ports[%zu].name", i));
}

static void addresses(struct world *w, const struct object *o)
{
	const Cfg__ServiceEntry *e = (const void *)o->message;

	for (size_t i = 0; !e->n_addresses && i < e->n_ports; i++)
		for (size_t k = 0; k < e->n_hosts; k++)
			/* Other hosts are given an address; names of a wildcard have none in common. */
			if (host_is_wildcard(str_of(e->hosts[k])) && protocol_of(e->ports[i]->protocol) == PROTOCOL_TCP)
				world_report(w, "IST0134", o, "spec.addresses",
					"%s on TCP port %u can be told apart from other hosts by addresses only",
					e->hosts[k], e->ports[i]->number);
}

static struct audience audience_of_entry(const struct object *o)
{
	const Cfg__ServiceEntry *e = (const void *)o->message;

	return (struct audience){e->export_to, e->n_export_to, o->ns};
}

/* The other protocol of a host's port; NULL: there is none. */
static const char *other_protocol(const Cfg__ServiceEntry *e, const Cfg__ServicePort *port)
{
	for (size_t i = 0; i < e->n_ports; i++)
		if (e->ports[i]->number == port->number &&
			!str_ieq(str_of(e->ports[i]->protocol), str_of(port->protocol)))
			return e->ports[i]->protocol;
	return NULL;
}

/* Entries by host: the objects that have it, one after the other. */
struct claim {
	const struct object *object;
	struct claim *next;
};

static struct map *claims_of(struct world *w, struct object_list entries)
{
	struct map *claims = map_new();

	for (size_t i = entries.n; i-- > 0;) {
		const Cfg__ServiceEntry *e = (const void *)entries.items[i]->message;

		for (size_t k = 0; k < e->n_hosts; k++) {
			struct claim *c = ARENA_NEW(w->a, struct claim);

			*c = (struct claim){entries.items[i], map_get(claims, str_of(e->hosts[k]))};
			(void)map_put(claims, str_of(e->hosts[k]), c);
		}
	}
	return claims;
}

/* Proxies that see both know one of them, by age, and speak its protocol to the other's endpoints. */
static bool conflict(struct world *w, const struct object *o, const struct object *other, const char *host)
{
	const Cfg__ServiceEntry *e = (const void *)o->message, *x = (const void *)other->message;

	if (o == other || !audience_overlaps(audience_of_entry(o), audience_of_entry(other)))
		return false;
	for (size_t k = 0; k < e->n_ports; k++) {
		const char *protocol = other_protocol(x, e->ports[k]);

		if (!protocol)
			continue;
		world_report(w, "IST0177", o, arena_printf(w->a, "spec.ports[%zu].protocol", k),
			"%s port %u is %s here and %s in %s/%s", host, e->ports[k]->number, e->ports[k]->protocol,
			protocol, other->ns, other->name);
		return true;
	}
	return false;
}

static void conflicts(struct world *w, const struct map *claims, const struct object *o)
{
	const Cfg__ServiceEntry *e = (const void *)o->message;

	for (size_t i = 0; i < e->n_hosts; i++)
		for (const struct claim *c = map_get(claims, str_of(e->hosts[i])); c; c = c->next)
			if (conflict(w, o, c->object, e->hosts[i]))
				return;
}

void analyze_services(struct world *w)
{
	struct object_list services = w->in->of[KIND_SERVICE], entries = w->in->of[KIND_SERVICE_ENTRY];

	for (size_t i = 0; i < services.n; i++)
		port_names(w, services.items[i]);
	for (size_t i = 0; i < entries.n; i++)
		addresses(w, entries.items[i]);
	struct map *claims = claims_of(w, entries);
	for (size_t i = 0; i < entries.n; i++)
		conflicts(w, claims, entries.items[i]);
	map_free(claims);
}
