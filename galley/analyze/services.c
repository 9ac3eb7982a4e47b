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

static void port_names(struct world *w, const struct object *o)
{
	const Kube__Service *s = (const void *)o->message;

	for (size_t i = 0; s->spec && i < s->spec->n_ports; i++) {
		const Kube__ServicePort *p = s->spec->ports[i];

		if (str_empty(p->app_protocol) && !names_protocol(p->name))
			world_report(w, "IST0118", o, arena_printf(w->a, "spec.ports[%zu].name", i),
				"\"%s\" (port %d) names no protocol, so traffic is looked at to find it out; name it "
				"<protocol>[-<suffix>]",
				p->name, p->port);
	}
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

void analyze_services(struct world *w)
{
	struct object_list services = w->in->of[KIND_SERVICE], entries = w->in->of[KIND_SERVICE_ENTRY];

	for (size_t i = 0; i < services.n; i++)
		port_names(w, services.items[i]);
	for (size_t i = 0; i < entries.n; i++)
		addresses(w, entries.items[i]);
}
