#include <stdlib.h>

#include "common/base/clock.h"
#include "galley/daemon_state.h"

/* DOC: Galley's debug pages: a row and a function each. */

#define PAGE(name) \
	static void page_##name(void *self, struct str query, struct strbuf *out) \
	{ \
		(void)query; \
		galley_debug_##name(((struct galleyd *)self)->galley, out); \
	}
PAGE(diagnostics)
PAGE(objects)
PAGE(quarantine)
PAGE(foreign)
PAGE(services)
PAGE(analysis)
PAGE(verdicts)
PAGE(networks)

static void page_bus(void *self, struct str query, struct strbuf *out)
{
	(void)query;
	bus_publisher_debug(((struct galleyd *)self)->publisher, out);
}

/* Of parts that are there only with some options. */
#define PAGE_IF(name, part, debug) \
	static void page_##name(void *self, struct str query, struct strbuf *out) \
	{ \
		const struct galleyd *s = self; \
		(void)query; \
		if (s->part) \
			debug(s->part, out); \
		else \
			strbuf_adds(out, "null"); \
	}
PAGE_IF(kubernetes, kubernetes, kubernetes_debug)
PAGE_IF(status_writer, status, cluster_status_debug)
PAGE_IF(webhook, webhook, webhook_debug)
PAGE_IF(access, access, access_debug)
PAGE_IF(gateway_names, names, gateway_names_debug)

static void page_registered(void *self, struct str query, struct strbuf *out)
{
	(void)query;
	registered_debug(((struct galleyd *)self)->registered, out);
}

static void page_status(void *self, struct str query, struct strbuf *out)
{
	(void)query;
	reports_debug(((struct galleyd *)self)->reports, out);
}

/* ?object=KIND/NAMESPACE/NAME: one; &fresh=1: what the directory holds by now is taken first. */
static void page_distribution(void *self, struct str query, struct strbuf *out)
{
	struct galleyd *s = self;
	struct str part, key, value;
	char *only cleanup(free_p) = NULL;
	while (str_split(&query, '&', &part)) {
		if (!str_cut(part, '=', &key, &value))
			continue;
		if (str_eqc(key, "fresh") && s->directory)
			(void)galley_daemon_reload(s, NULL);
		if (str_eqc(key, "object") && !only)
			only = xstrndup(value.ptr, value.len);
	}
	(void)distribution_expire(s->distribution, clock_mono_ms());
	status_json(s->galley, s->distribution, only, s->status ? cluster_status_generation : NULL, s->status, out);
}

static void page_pilots(void *self, struct str query, struct strbuf *out)
{
	const struct galleyd *s = self;
	(void)query;
	distribution_debug(s->distribution, clock_mono_ms(), out);
}

const struct debug_page galley_pages[] = {
	{"diagnostics", "everything that is wrong with the configuration now", page_diagnostics},
	{"analysis", "the same in analysis codes, and what only shows across objects", page_analysis},
	{"verdicts", "each route rule: live, shadowed (by which rule) or never matches (why)", page_verdicts},
	{"objects", "objects: where they are defined, which version is in force", page_objects},
	{"quarantine", "objects whose newest version is not in force, and why", page_quarantine},
	{"kubernetes", "lists and watches of the Kubernetes API, with their age", page_kubernetes},
	{"access", "which service accounts may list Secrets, by the API server's word", page_access},
	{"webhook", "the admission webhooks' server and their configurations", page_webhook},
	{"foreign", "documents of kinds that galley does not read", page_foreign},
	{"services", "services and endpoints as they are published", page_services},
	{"networks", "networks of the mesh: who is in them, their gateways", page_networks},
	{"gateway_names", "names of gateways, and how their look-ups went", page_gateway_names},
	{"bus", "topics, subscribers and sequence of the publisher", page_bus},
	{"distribution",
		"how many proxies have accepted which object, and who rejects it (?object=KIND/NAMESPACE/NAME)",
		page_distribution},
	{"status_writer", "statuses written to the cluster: who does it, how many wait", page_status_writer},
	{"pilots", "the pilots that report, and how far they follow", page_pilots},
	{"registered", "workloads that registered themselves, with their entries", page_registered},
	{"status", "what subscribers reported about objects", page_status},
};
const size_t galley_n_pages = ARRAY_LEN(galley_pages);
