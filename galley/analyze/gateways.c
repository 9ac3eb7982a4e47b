/*
 * DOC: Gateways against one another and against the workloads that they select: two that serve the same host on the same port of the
 * same workloads, or with the same certificate, selectors that select nothing, ports that no Service of those workloads offers, Secrets
 * that are not there or hold no certificate to serve with.
 */
#include "common/mesh/credential.h"
#include "common/mesh/host.h"
#include "common/mesh/labels.h"
#include "galley/analyze/world.h"
#include "kube/kube.pb-c.h"

static const Cfg__Gateway *spec_of(const struct object *o)
{
	return (const void *)o->message;
}

/* ---- conflicts */
static struct str bare_host(const char *pattern)
{
	struct str head, tail;

	return str_cut(str_of(pattern), '/', &head, &tail) ? tail : str_of(pattern);
}

static const char *common_host(const Cfg__Server *x, const Cfg__Server *y)
{
	for (size_t i = 0; i < x->n_hosts; i++)
		for (size_t k = 0; k < y->n_hosts; k++)
			if (str_ieq(bare_host(x->hosts[i]), bare_host(y->hosts[k])))
				return x->hosts[i];
	return NULL;
}

static bool same_address(const Cfg__Server *x, const Cfg__Server *y)
{
	return x->port && y->port && x->port->number == y->port->number && streq(x->bind, y->bind);
}

static bool same_selector(const Cfg__Gateway *x, const Cfg__Gateway *y)
{
	return x->n_selector == y->n_selector && labels_match(LABELS(x, selector), LABELS(y, selector));
}

/* A client that finds a certificate good for both hosts may send both on one connection, and one of the gateways does not know its host. */
static bool same_certificate(const Cfg__ServerTLSSettings *x, const Cfg__ServerTLSSettings *y)
{
	if (!x || !y)
		return false;
	if (!str_empty(x->credential_name) || !str_empty(y->credential_name))
		return streq(x->credential_name, y->credential_name);
	return !str_empty(x->server_certificate) && !str_empty(x->private_key) &&
	       streq(x->server_certificate, y->server_certificate) && streq(x->private_key, y->private_key);
}

static void certificates(struct world *w, const struct object *o, const struct object *other)
{
	const Cfg__Gateway *x = spec_of(o), *y = spec_of(other);

	if (!labels_match(LABELS(x, selector), LABELS(y, selector)))
		return;
	for (size_t i = 0; i < x->n_servers; i++)
		for (size_t k = 0; k < y->n_servers; k++)
			if (same_certificate(x->servers[i]->tls, y->servers[k]->tls)) {
				world_report(w, "IST0138", o, arena_printf(w->a, "spec.servers[%zu].tls", i),
					"Gateway %s/%s has the same certificate on the same workloads: a client that "
					"sends "
					"requests for hosts of both on one HTTP/2 connection may get 404",
					other->ns, other->name);
				break;
			}
}

static void conflicts(struct world *w, const struct object *o, const struct object *other)
{
	const Cfg__Gateway *x = spec_of(o), *y = spec_of(other);

	if (!same_selector(x, y))
		return;
	for (size_t i = 0; i < x->n_servers; i++)
		for (size_t k = 0; k < y->n_servers; k++) {
			const char *host = same_address(x->servers[i], y->servers[k])
						   ? common_host(x->servers[i], y->servers[k])
						   : NULL;

			if (host)
				world_report(w, "IST0145", o, arena_printf(w->a, "spec.servers[%zu]", i),
					"Gateway %s/%s serves %s on port %u of the same workloads too", other->ns,
					other->name, host, x->servers[i]->port->number);
		}
}

/* ---- credentials */
static void credential(struct world *w, const struct object *o, const char *name, const char *pod_ns, const char *path)
{
	struct credential_ref r;
	const char *problem, *key;
	char *sds = credential_with_scheme(w->a, str_of(name));

	if (!credential_parse(str_of(sds), &r) || r.source != CREDENTIAL_SECRET || r.ca)
		return;
	key = arena_printf(w->a, STR_FMT "/" STR_FMT, STR_ARG(r.ns.len ? r.ns : str_of(pod_ns)), STR_ARG(r.name));
	problem = w->in->credential_problem(w->in->ctx, w->a, key);
	if (!problem)
		world_report(w, "IST0101", o, path,
			"Secret %s does not exist; it has to be in the namespace of the gateway's workload", key);
	else if (*problem)
		world_report(w, "IST0161", o, path, "Secret %s %s: no client gets a connection that it trusts", key,
			problem);
}

/* Where no Secret is known at all, as in most folders, nobody's is missed. */
static void credentials(struct world *w, const struct object *o, const char *pod_ns)
{
	for (size_t i = 0; w->in->of[KIND_SECRET].n && i < spec_of(o)->n_servers; i++) {
		const Cfg__ServerTLSSettings *t = spec_of(o)->servers[i]->tls;

		if (t && !str_empty(t->credential_name))
			credential(w, o, t->credential_name, pod_ns,
				arena_printf(w->a, "spec.servers[%zu].tls.credentialName", i));
		for (size_t k = 0; t && k < t->n_credential_names; k++)
			credential(w, o, t->credential_names[k], pod_ns,
				arena_printf(w->a, "spec.servers[%zu].tls.credentialNames[%zu]", i, k));
	}
}

/* ---- workloads */
static bool selects(const Cfg__Gateway *g, const struct object *pod)
{
	const Kube__Pod *p = (const void *)pod->message;

	return labels_match(LABELS(g, selector), LABELS(p->metadata, labels));
}

static bool service_of(const struct object *service, const struct object *pod)
{
	const Kube__Service *s = (const void *)service->message;
	const Kube__Pod *p = (const void *)pod->message;

	return streq(service->ns, pod->ns) && s->spec && s->spec->n_selector &&
	       labels_match(LABELS(s->spec, selector), LABELS(p->metadata, labels));
}

static bool offers(const struct object *service, uint32_t port)
{
	const Kube__Service *s = (const void *)service->message;

	for (size_t i = 0; i < s->spec->n_ports; i++)
		if ((uint32_t)s->spec->ports[i]->port == port)
			return true;
	return false;
}

static void ports(struct world *w, const struct object *o, const struct object *pod)
{
	struct object_list services = w->in->of[KIND_SERVICE];

	for (size_t i = 0; i < spec_of(o)->n_servers; i++) {
		const Cfg__Server *server = spec_of(o)->servers[i];
		size_t n = 0, offered = 0;

		for (size_t k = 0; server->port && k < services.n; k++) {
			if (!service_of(services.items[k], pod))
				continue;
			n++;
			offered += offers(services.items[k], server->port->number);
		}
		if (n && !offered)
			world_report(w, "IST0162", o, arena_printf(w->a, "spec.servers[%zu].port", i),
				"no Service of the selected pods (%s/%s) offers port %u", pod->ns, pod->name,
				server->port->number);
	}
}

static void workloads(struct world *w, const struct object *o)
{
	struct object_list pods = w->in->of[KIND_POD];

	if (!spec_of(o)->n_selector || !pods.n)
		return;
	for (size_t i = 0; i < pods.n; i++)
		if (selects(spec_of(o), pods.items[i])) {
			ports(w, o, pods.items[i]);
			credentials(w, o, pods.items[i]->ns);
			return;
		}
	world_report(w, "IST0101", o, "spec.selector", "no pod has the labels of the selector");
}

void analyze_gateways(struct world *w)
{
	struct object_list list = w->in->of[KIND_GATEWAY];

	for (size_t i = 0; i < list.n; i++) {
		workloads(w, list.items[i]);
		for (size_t k = 0; k < list.n; k++)
			if (k != i) {
				conflicts(w, list.items[i], list.items[k]);
				certificates(w, list.items[i], list.items[k]);
			}
	}
}
