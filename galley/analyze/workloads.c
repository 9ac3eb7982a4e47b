/*
 * DOC: What several objects say about one workload: services that send the same port of a pod under different numbers; Telemetries of which
 * only the oldest is used; routes by claims of tokens that nobody checks at the gateway.
 */
#include "cfg/security.pb-c.h"
#include "cfg/telemetry.pb-c.h"
#include "common/mesh/claims.h"
#include "common/mesh/labels.h"
#include "galley/analyze/world.h"
#include "kube/kube.pb-c.h"

static struct label_set labels_of(const struct object *o)
{
	return LABELS(o->meta, labels);
}

/* ---- services that share a workload's port */

static const Kube__ServiceSpec *spec_of(const struct object *service)
{
	return ((const Kube__Service *)service->message)->spec;
}

static bool selects(const struct object *service, const struct object *pod)
{
	const Kube__ServiceSpec *s = spec_of(service);
	return s && s->n_selector && streq(service->ns, pod->ns) && labels_match(LABELS(s, selector), labels_of(pod));
}

static const char *target_of(struct world *w, const Kube__ServicePort *p)
{
	if (p->target_port && !str_empty(p->target_port->str_val))
		return p->target_port->str_val;
	return arena_printf(w->a, "%lld",
		p->target_port && p->target_port->int_val ? (long long)p->target_port->int_val : (long long)p->port);
}

/* Pods of one workload have the same owner and are told of once. */
static bool told_before(struct world *w, struct map *owners, const struct object *pod)
{
	const Kube__ObjectMeta *m = pod->meta;
	if (!m->n_owner_references)
		return false;
	const char *owner = arena_printf(
		w->a, "%s/%s/%s", pod->ns, m->owner_references[0]->kind, m->owner_references[0]->name);
	return map_put(owners, str_of(owner), owners) != NULL;
}

static const char *transport_of(const Kube__ServicePort *p)
{
	return str_empty(p->protocol) ? "TCP" : p->protocol;
}

static void compare_port(struct world *w, const struct object *pod, const struct object *x, const Kube__ServicePort *a,
	const struct object *y, const Kube__ServicePort *b)
{
	const char *target = target_of(w, a);

	if (a->port != b->port && streq(target, target_of(w, b)))
		world_report(w, "IST0137", pod, "metadata.labels",
			"services %s (port %d) and %s (port %d) lead to its port %s under different numbers", x->name,
			a->port, y->name, b->port, target);
	if (a->port == b->port && !streq(transport_of(a), transport_of(b)))
		world_report(w, "IST0116", pod, "metadata.labels",
			"services %s (%s) and %s (%s) are on the same port %d with different protocols", x->name,
			transport_of(a), y->name, transport_of(b), a->port);
}

static void compare_ports(struct world *w, const struct object *pod, const struct object *x, const struct object *y)
{
	for (size_t i = 0; i < spec_of(x)->n_ports; i++)
		for (size_t k = 0; k < spec_of(y)->n_ports; k++)
			compare_port(w, pod, x, spec_of(x)->ports[i], y, spec_of(y)->ports[k]);
}

static void shared_ports(struct world *w)
{
	struct object_list services = w->in->of[KIND_SERVICE], pods = w->in->of[KIND_POD];
	cleanup(map_free_p) struct map *owners = map_new();
	for (size_t p = 0; p < pods.n; p++) {
		if (told_before(w, owners, pods.items[p]))
			continue;
		for (size_t i = 0; i < services.n; i++)
			for (size_t k = i + 1; selects(services.items[i], pods.items[p]) && k < services.n; k++)
				if (selects(services.items[k], pods.items[p]))
					compare_ports(w, pods.items[p], services.items[i], services.items[k]);
	}
}

/* ---- routes by claims */

static const char *claim_in(const Cfg__VirtualService *vs, struct world *w, const char **path)
{
	for (size_t i = 0; i < vs->n_http; i++)
		for (size_t k = 0; k < vs->http[i]->n_match; k++) {
			const Cfg__HTTPMatchRequest *m = vs->http[i]->match[k];
			*path = arena_printf(w->a, "spec.http[%zu].match[%zu]", i, k);
			for (size_t h = 0; h < m->n_headers; h++)
				if (claims_is(str_of(m->headers[h]->key)))
					return m->headers[h]->key;
			for (size_t h = 0; h < m->n_without_headers; h++)
				if (claims_is(str_of(m->without_headers[h]->key)))
					return m->without_headers[h]->key;
		}
	return NULL;
}

/* A RequestAuthentication of the namespace, or of the root namespace, that is for these labels. */
static bool is_checked(const struct world *w, const char *ns, struct label_set labels)
{
	struct object_list list = w->in->of[KIND_REQUEST_AUTHN];
	const char *root = str_empty(w->in->mesh->root_namespace) ? "istio-system" : w->in->mesh->root_namespace;
	for (size_t i = 0; i < list.n; i++) {
		const Sec__RequestAuthentication *r = (const void *)list.items[i]->message;
		if ((streq(list.items[i]->ns, ns) || streq(list.items[i]->ns, root)) && r->n_jwt_rules &&
			(!r->selector || labels_match(LABELS(r->selector, match_labels), labels)))
			return true;
	}
	return false;
}

/* Pods that the gateway is on, each; where none is known, its own selector says what they would be labelled. */
static void claims_at(
	struct world *w, const struct object *vs, const struct object *gateway, const char *claim, const char *path)
{
	const Cfg__Gateway *g = (const void *)gateway->message;
	struct object_list pods = w->in->of[KIND_POD];
	size_t found = 0;
	for (size_t i = 0; g->n_selector && i < pods.n; i++) {
		if (!labels_match(LABELS(g, selector), labels_of(pods.items[i])))
			continue;
		found++;
		if (!is_checked(w, pods.items[i]->ns, labels_of(pods.items[i])))
			world_report(w, "IST0149", vs, path,
				"routes by %s, but no RequestAuthentication checks tokens at pod %s/%s of gateway "
				"%s/%s",
				claim, pods.items[i]->ns, pods.items[i]->name, gateway->ns, gateway->name);
	}
	if (!found && !is_checked(w, gateway->ns, LABELS(g, selector)))
		world_report(w, "IST0149", vs, path,
			"routes by %s, but no RequestAuthentication checks tokens at gateway %s/%s", claim, gateway->ns,
			gateway->name);
}

static void claims(struct world *w, const struct object *vs)
{
	const Cfg__VirtualService *spec = (const void *)vs->message;
	const char *path = "", *claim = claim_in(spec, w, &path);
	for (size_t i = 0; claim && i < spec->n_gateways; i++) {
		const struct object *g = streq(spec->gateways[i], "mesh") ? NULL : world_gateway(w, spec->gateways[i]);
		if (g)
			claims_at(w, vs, g, claim, path);
	}
}

/* ---- telemetries */

static bool is_attached(const Tele__Telemetry *t)
{
	return t->targetref || t->n_targetrefs;
}

static struct label_set chosen_by(const struct object *o)
{
	const Tele__Telemetry *t = (const void *)o->message;
	return t->selector ? LABELS(t->selector, match_labels) : (struct label_set){0};
}

static const struct object *common_pod(const struct world *w, const struct object *x, const struct object *y)
{
	struct object_list pods = w->in->of[KIND_POD];
	for (size_t i = 0; i < pods.n; i++)
		if (streq(pods.items[i]->ns, x->ns) && labels_match(chosen_by(x), labels_of(pods.items[i])) &&
			labels_match(chosen_by(y), labels_of(pods.items[i])))
			return pods.items[i];
	return NULL;
}

static void compare_telemetries(struct world *w, const struct object *o, const struct object *other)
{
	bool selecting = chosen_by(o).n > 0;
	if (!streq(o->ns, other->ns) || selecting != (chosen_by(other).n > 0) ||
		is_attached((const void *)o->message) || is_attached((const void *)other->message))
		return;
	const struct object *pod = selecting ? common_pod(w, o, other) : NULL;
	if (!selecting)
		world_report(w, "IST0160", o, "spec.selector", "%s/%s has no selector either; only the oldest is used",
			other->ns, other->name);
	else if (pod)
		world_report(w, "IST0159", o, "spec.selector", "%s/%s selects pod %s/%s too; only the oldest is used",
			other->ns, other->name, pod->ns, pod->name);
}

void analyze_workloads(struct world *w)
{
	struct object_list services = w->in->of[KIND_VIRTUAL_SERVICE], telemetries = w->in->of[KIND_TELEMETRY];
	shared_ports(w);
	for (size_t i = 0; i < services.n; i++)
		claims(w, services.items[i]);
	for (size_t i = 0; i < telemetries.n; i++)
		for (size_t k = 0; k < telemetries.n; k++)
			if (k != i)
				compare_telemetries(w, telemetries.items[i], telemetries.items[k]);
}
