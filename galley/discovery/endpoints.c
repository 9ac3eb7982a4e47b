#include "galley/discovery/discovery.h"

#include "common/mesh/labels.h"

/*
 * DOC: Endpoints. A Service takes those of its EndpointSlices; where no slice names it (a directory has no endpoint controller) the pods
 * that its selector matches. WorkloadEntries that match the selector are endpoints of it in both cases. A ServiceEntry takes its inline
 * endpoints, or the WorkloadEntries and Pods that its selector matches, or, by DNS, its own host.
 *
 * A port of an endpoint is named after the service's port. A named targetPort is looked up in the pod's containers; an endpoint that
 * does not have it does not serve that port.
 */

static struct str as_str(const char *s)
{
	return str_of(s ? s : "");
}

static void add(struct arena *a, Fl__EndpointSet *set, Fl__Endpoint *e)
{
	pb_add(a, set, endpoints, e);
}

/* ---- ports */

static uint32_t container_port(const Kube__Container *const *containers, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < containers[i]->n_ports; k++) {
			const Kube__ContainerPort *p = containers[i]->ports[k];
			if (streq(p->name, name) && (str_empty(p->protocol) || streq(p->protocol, "TCP")))
				return (uint32_t)p->container_port;
		}
	return 0;
}

static uint32_t pod_port(const struct object *pod, const Kube__ServicePort *p)
{
	if (!p->target_port || (str_empty(p->target_port->str_val) && p->target_port->int_val == 0))
		return (uint32_t)p->port;
	if (str_empty(p->target_port->str_val))
		return (uint32_t)p->target_port->int_val;
	const Kube__PodSpec *spec = ((const Kube__Pod *)pod->message)->spec;
	if (!spec)
		return 0;
	uint32_t port = container_port(
		(const Kube__Container *const *)spec->containers, spec->n_containers, p->target_port->str_val);
	if (!port) /* native sidecars are init containers */
		port = container_port((const Kube__Container *const *)spec->init_containers, spec->n_init_containers,
			p->target_port->str_val);
	return port;
}

static bool is_tcp(const char *protocol)
{
	return str_empty(protocol) || streq(protocol, "TCP");
}

static uint32_t entry_port(const Cfg__WorkloadEntry *w, const char *name)
{
	for (size_t i = 0; i < w->n_ports; i++)
		if (streq(w->ports[i]->key, name))
			return w->ports[i]->value;
	return 0;
}

/* WorkloadEntry.ports by the service's port name, then by a named targetPort, then the numbers. */
static uint32_t workload_service_port(const Cfg__WorkloadEntry *w, const Kube__ServicePort *p)
{
	uint32_t port = entry_port(w, p->name);
	if (!port && p->target_port && !str_empty(p->target_port->str_val))
		port = entry_port(w, p->target_port->str_val);
	if (!port && p->target_port && str_empty(p->target_port->str_val))
		port = (uint32_t)p->target_port->int_val;
	return port ? port : (uint32_t)p->port;
}

/* ---- a Service */

static bool add_slices(struct arena *a, const struct discovery_input *in, const struct object *o, bool not_ready_too,
	Fl__EndpointSet *set);

static void add_pods(
	struct arena *a, const struct discovery_input *in, const Kube__ServiceSpec *spec, Fl__EndpointSet *set)
{
	for (size_t i = 0; i < in->pods.n; i++) {
		const struct object *pod = in->pods.items[i];
		if (!labels_match(LABELS(spec, selector), LABELS(pod->meta, labels)))
			continue;
		Fl__Endpoint *e = endpoint_of_pod(a, in, pod);
		if (!e)
			continue;
		for (size_t k = 0; k < spec->n_ports; k++) {
			uint32_t port = is_tcp(spec->ports[k]->protocol) ? pod_port(pod, spec->ports[k]) : 0;
			if (port)
				endpoint_add_port(a, e, spec->ports[k]->name, port);
		}
		if (spec->publish_not_ready_addresses)
			e->health = FL__HEALTH__HEALTHY;
		if (e->n_ports || spec->n_ports == 0)
			add(a, set, e);
	}
}

static void add_workloads(
	struct arena *a, const struct discovery_input *in, const Kube__ServiceSpec *spec, Fl__EndpointSet *set)
{
	for (size_t i = 0; i < in->workloads.n; i++) {
		const Cfg__WorkloadEntry *w = (const Cfg__WorkloadEntry *)in->workloads.items[i]->message;
		if (!labels_match(LABELS(spec, selector), LABELS(w, labels)))
			continue;
		Fl__Endpoint *e = endpoint_of_workload(a, in, in->workloads.items[i]);
		if (!e)
			continue;
		for (size_t k = 0; k < spec->n_ports; k++)
			if (is_tcp(spec->ports[k]->protocol))
				endpoint_add_port(a, e, spec->ports[k]->name, workload_service_port(w, spec->ports[k]));
		add(a, set, e);
	}
}

void discovery_service_endpoints(
	struct arena *a, const struct discovery_input *in, const struct object *o, Fl__EndpointSet *set)
{
	const Kube__ServiceSpec *spec = ((const Kube__Service *)o->message)->spec;
	if (!spec || streq(spec->type, "ExternalName"))
		return;
	bool sliced = add_slices(a, in, o, spec->publish_not_ready_addresses, set);
	if (spec->n_selector == 0)
		return;
	if (!sliced && !in->slices_only)
		add_pods(a, in, spec, set);
	add_workloads(a, in, spec, set);
}

/* ---- EndpointSlices */

static Fl__Health slice_health(const Kube__EndpointConditions *c, bool not_ready_too)
{
	bool ready = !c || !c->ready || c->ready->value;
	bool serving = !c || !c->serving ? ready : c->serving->value;
	bool terminating = c && c->terminating && c->terminating->value;
	if (ready || not_ready_too)
		return FL__HEALTH__HEALTHY;
	if (terminating)
		return serving ? FL__HEALTH__DRAINING : FL__HEALTH__TERMINATING;
	return FL__HEALTH__UNHEALTHY;
}

static Fl__Endpoint *slice_endpoint(
	struct arena *a, const struct discovery_input *in, const Kube__SliceEndpoint *s, const char *ns)
{
	const struct object *pod = NULL;
	if (s->target_ref && streq(s->target_ref->kind, "Pod"))
		pod = pod_by_name(in, s->target_ref->name);
	if (!pod)
		pod = pod_by_address(in, s->addresses[0]);
	Fl__Endpoint *e = pod ? endpoint_of_pod(a, in, pod) : NULL;
	if (!e) {
		e = PB_NEW(a, Fl__Endpoint, fl__endpoint);
		e->namespace_ = arena_strdup(a, ns);
		e->cluster = arena_strdup(a, in->cluster);
		e->network = endpoint_network(a, in, NULL, e->cluster, s->addresses[0]);
		if (s->target_ref)
			e->pod = e->workload = arena_strdup(a, s->target_ref->name);
	}
	e->address = arena_strdup(a, s->addresses[0]);
	if (str_empty(e->node))
		e->node = arena_strdup(a, s->node_name ? s->node_name : "");
	if (str_empty(e->locality) && !str_empty(s->zone))
		e->locality = arena_printf(a, "/%s", s->zone);
	if (!str_empty(s->hostname))
		e->host_name = arena_strdup(a, s->hostname);
	return e;
}

/* The same backend may be in several slices, with other ports. */
static Fl__Endpoint *known(Fl__EndpointSet *set, const char *address)
{
	for (size_t i = 0; i < set->n_endpoints; i++)
		if (streq(set->endpoints[i]->address, address))
			return set->endpoints[i];
	return NULL;
}

static void add_slice(struct arena *a, const struct discovery_input *in, const struct object *slice, bool not_ready_too,
	Fl__EndpointSet *set)
{
	const Kube__EndpointSlice *s = (const Kube__EndpointSlice *)slice->message;
	for (size_t i = 0; !streq(s->address_type, "FQDN") && i < s->n_endpoints; i++) {
		const Kube__SliceEndpoint *se = s->endpoints[i];
		if (se->n_addresses == 0)
			continue;
		Fl__Endpoint *e = known(set, se->addresses[0]);
		if (!e) {
			e = slice_endpoint(a, in, se, slice->ns);
			e->health = slice_health(se->conditions, not_ready_too);
			add(a, set, e);
		}
		for (size_t k = 0; k < s->n_ports; k++)
			if (s->ports[k]->port && is_tcp(s->ports[k]->protocol))
				endpoint_add_port(a, e, s->ports[k]->name, (uint32_t)s->ports[k]->port->value);
	}
}

static bool add_slices(struct arena *a, const struct discovery_input *in, const struct object *o, bool not_ready_too,
	Fl__EndpointSet *set)
{
	bool any = false;
	for (size_t i = 0; i < in->slices.n; i++) {
		if (!streq(object_label(in->slices.items[i], "kubernetes.io/service-name"), o->name))
			continue;
		any = true;
		add_slice(a, in, in->slices.items[i], not_ready_too, set);
	}
	return any;
}

/* ---- a ServiceEntry */

static void entry_ports(struct arena *a, const Cfg__ServiceEntry *se, const Cfg__WorkloadEntry *w, Fl__Endpoint *e)
{
	for (size_t i = 0; i < se->n_ports; i++) {
		const Cfg__ServicePort *p = se->ports[i];
		uint32_t port = w ? entry_port(w, p->name) : 0;
		if (!port)
			port = p->target_port ? p->target_port : p->number;
		endpoint_add_port(a, e, p->name, port);
	}
}

static void add_workload(struct arena *a, const struct discovery_input *in, const Cfg__ServiceEntry *se,
	const struct object *o, Fl__EndpointSet *set)
{
	const Cfg__WorkloadEntry *w = (const Cfg__WorkloadEntry *)o->message;
	if (!labels_match(LABELS(se->workload_selector, labels), LABELS(w, labels)))
		return;
	Fl__Endpoint *e = endpoint_of_workload(a, in, o);
	if (!e)
		return;
	entry_ports(a, se, w, e);
	add(a, set, e);
}

static void add_pod(struct arena *a, const struct discovery_input *in, const Cfg__ServiceEntry *se,
	const struct object *pod, Fl__EndpointSet *set)
{
	if (!labels_match(LABELS(se->workload_selector, labels), LABELS(pod->meta, labels)))
		return;
	Fl__Endpoint *e = endpoint_of_pod(a, in, pod);
	if (!e)
		return;
	entry_ports(a, se, NULL, e);
	add(a, set, e);
}

static void add_selected(
	struct arena *a, const struct discovery_input *in, const Cfg__ServiceEntry *se, Fl__EndpointSet *set)
{
	struct label_set selector = LABELS(se->workload_selector, labels);
	const size_t *some;
	size_t n;
	bool few = label_index_find(in->workload_index, selector, &some, &n);
	for (size_t i = 0; i < (few ? n : in->workloads.n); i++)
		add_workload(a, in, se, in->workloads.items[few ? some[i] : i], set);
	few = label_index_find(in->pod_index, selector, &some, &n);
	for (size_t i = 0; i < (few ? n : in->pods.n); i++)
		add_pod(a, in, se, in->pods.items[few ? some[i] : i], set);
}

void discovery_entry_endpoints(struct arena *a, const struct discovery_input *in, const struct object *o,
	const char *host, Fl__EndpointSet *set)
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	bool dns = se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__DNS ||
		   se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__DNS_ROUND_ROBIN;
	if (se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__NONE ||
		se->resolution == CFG__SERVICE_ENTRY__RESOLUTION__DYNAMIC_DNS)
		return;
	for (size_t i = 0; i < se->n_endpoints; i++) {
		Fl__Endpoint *e = endpoint_of_inline(a, in, o, se->endpoints[i]);
		if (!e)
			continue;
		if (!str_starts(as_str(e->address), STR("unix://")))
			entry_ports(a, se, se->endpoints[i], e);
		add(a, set, e);
	}
	if (se->workload_selector && se->n_endpoints == 0) {
		add_selected(a, in, se, set);
	} else if (dns && se->n_endpoints == 0 && host[0] != '*') {
		Fl__Endpoint *e = PB_NEW(a, Fl__Endpoint, fl__endpoint);
		e->address = arena_strdup(a, host);
		e->namespace_ = arena_strdup(a, o->ns);
		e->cluster = arena_strdup(a, in->cluster);
		entry_ports(a, se, NULL, e);
		add(a, set, e);
	}
}
