#include "galley/discovery/discovery.h"

#include "cfg/networking/workload_entry.pb-c.h"
#include "common/base/map.h"
#include "common/mesh/labels.h"

/*
 * DOC: What a workload says about itself as an endpoint: address, identity, the name of the workload it belongs to, locality, network,
 * whether a sidecar answers for it with mutual TLS, and whether it is ready. Rules are Istio's: the label topology.istio.io/locality
 * (dots for slashes) before the node's labels; the label security.istio.io/tlsMode before everything else.
 */

#define COPY_MAP(a, Type, lower, dst, dst_field, set) \
	do { \
		for (size_t i_ = 0; i_ < (set).n; i_++) { \
			struct label l_ = label_at((set), i_); \
			Type *e_ = pb_new((a), &lower##__descriptor); \
			e_->key = arena_strdup((a), l_.key); \
			e_->value = arena_strdup((a), l_.value); \
			pb_add((a), (dst), dst_field, e_); \
		} \
	} while (0)

static void copy_labels(struct arena *a, Fl__Endpoint *e, struct label_set labels)
{
	COPY_MAP(a, Fl__Endpoint__LabelsEntry, fl__endpoint__labels_entry, e, labels, labels);
}

void endpoint_add_port(struct arena *a, Fl__Endpoint *e, const char *name, uint32_t number)
{
	for (size_t i = 0; i < e->n_ports; i++)
		if (streq(e->ports[i]->name, name))
			return;
	Fl__PortNumber *p = PB_NEW(a, Fl__PortNumber, fl__port_number);
	p->name = arena_strdup(a, name ? name : "");
	p->number = number;
	pb_add(a, e, ports, p);
}

/* ---- names */

static bool strip_suffix(struct str *s, char sep, struct str suffix)
{
	if (suffix.len == 0 || s->len <= suffix.len + 1 || !str_ends(*s, suffix) ||
		s->ptr[s->len - suffix.len - 1] != sep)
		return false;
	s->len -= suffix.len + 1;
	return true;
}

/* The owner as people name it: a Deployment rather than its ReplicaSet, which carries the template's hash. */
static char *workload_name(struct arena *a, const struct object *pod)
{
	const char *label = object_label(pod, "service.istio.io/workload-name");
	if (!str_empty(label))
		return arena_strdup(a, label);
	const char *hash = object_label(pod, "pod-template-hash");
	for (size_t i = 0; i < pod->meta->n_owner_references; i++) {
		const Kube__OwnerReference *o = pod->meta->owner_references[i];
		if (!o->controller || !o->controller->value)
			continue;
		struct str name = str_of(o->name);
		if (streq(o->kind, "ReplicaSet"))
			(void)strip_suffix(&name, '-', str_of(hash ? hash : ""));
		return arena_cstr(a, name);
	}
	struct str generated = str_of(pod->meta->generate_name ? pod->meta->generate_name : "");
	if (generated.len > 1 && generated.ptr[generated.len - 1] == '-') {
		generated.len--;
		(void)strip_suffix(&generated, '-', str_of(hash ? hash : ""));
		return arena_cstr(a, generated);
	}
	return arena_strdup(a, pod->name);
}

/* ---- locality */

static const struct object *node_by_name(const struct discovery_input *in, const char *name)
{
	for (size_t i = 0; i < in->nodes.n; i++)
		if (streq(in->nodes.items[i]->name, name))
			return in->nodes.items[i];
	return NULL;
}

static const char *label_or(const struct object *o, const char *key, const char *old_key)
{
	const char *v = object_label(o, key);
	if (!v && old_key)
		v = object_label(o, old_key);
	return v ? v : "";
}

static char *join_locality(struct arena *a, const char *region, const char *zone, const char *subzone)
{
	if (str_empty(region) && str_empty(zone))
		return arena_strdup(a, "");
	return str_empty(subzone) ? arena_printf(a, "%s/%s", region, zone)
				  : arena_printf(a, "%s/%s/%s", region, zone, subzone);
}

static char *label_locality(struct arena *a, const char *text)
{
	char *out = arena_strdup(a, text);
	for (char *p = out; !strchr(text, '/') && *p; p++)
		if (*p == '.')
			*p = '/';
	return out;
}

static char *pod_locality(
	struct arena *a, const struct discovery_input *in, const struct object *pod, const char *node_name)
{
	const char *label = label_or(pod, "topology.istio.io/locality", "istio-locality");
	if (*label)
		return label_locality(a, label);
	const struct object *node = node_by_name(in, node_name);
	if (!node)
		return arena_strdup(a, "");
	return join_locality(a,
		label_or(node, "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
		label_or(node, "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
		label_or(node, "topology.istio.io/subzone", NULL));
}

/* ---- sidecar */

/* A gateway is an Envoy, but none that answers with mutual TLS for an application. */
static bool pod_is_gateway(const struct object *pod)
{
	const char *templates = object_annotation(pod, "inject.istio.io/templates");
	struct str rest = str_of(templates ? templates : ""), name;
	while (str_split(&rest, ',', &name))
		if (str_eqc(str_trim(name), "gateway"))
			return true;
	return false;
}

static bool pod_has_sidecar(const struct discovery_input *in, const struct object *pod)
{
	const char *mode = object_label(pod, "security.istio.io/tlsMode");
	if (mode)
		return streq(mode, "istio");
	if (pod_is_gateway(pod))
		return false;
	if (object_annotation(pod, "sidecar.istio.io/status"))
		return true;
	const char *inject = object_label(pod, "sidecar.istio.io/inject");
	if (!inject)
		inject = object_annotation(pod, "sidecar.istio.io/inject");
	const Kube__Pod *p = (const Kube__Pod *)pod->message;
	return in->assume_sidecars && !streq(inject, "false") && !(p->spec && p->spec->host_network);
}

static bool entry_has_sidecar(const Cfg__WorkloadEntry *w)
{
	const char *mode = label_get(LABELS(w, labels), "security.istio.io/tlsMode");
	return mode ? streq(mode, "istio") : !str_empty(w->service_account);
}

/* ---- endpoints */

static Fl__Health pod_health(const struct object *pod)
{
	const Kube__PodStatus *s = ((const Kube__Pod *)pod->message)->status;
	bool ready = true;
	for (size_t i = 0; s && i < s->n_conditions; i++)
		if (streq(s->conditions[i]->type, "Ready"))
			ready = streq(s->conditions[i]->status, "True");
	if (!str_empty(pod->meta->deletion_timestamp))
		return ready ? FL__HEALTH__DRAINING : FL__HEALTH__TERMINATING;
	return ready ? FL__HEALTH__HEALTHY : FL__HEALTH__UNHEALTHY;
}

char *endpoint_network(
	struct arena *a, const struct discovery_input *in, const char *said, const char *cluster, const char *address)
{
	if (str_empty(said) && !str_starts(str_of(address), STR("unix:")))
		said = network_find(in->networks, str_of(cluster), str_of(address));
	return arena_strdup(a, said ? said : "");
}

Fl__Endpoint *endpoint_of_pod(struct arena *a, const struct discovery_input *in, const struct object *pod)
{
	const Kube__Pod *p = (const Kube__Pod *)pod->message;
	if (!p->status || str_empty(p->status->podip) || streq(p->status->phase, "Succeeded") ||
		streq(p->status->phase, "Failed"))
		return NULL;
	const char *node = p->spec ? p->spec->node_name : "";
	const char *cluster = object_label(pod, "topology.istio.io/cluster");
	const char *account = p->spec ? p->spec->service_account_name : "";
	Fl__Endpoint *e = PB_NEW(a, Fl__Endpoint, fl__endpoint);
	e->address = arena_strdup(a, p->status->podip);
	copy_labels(a, e, LABELS(pod->meta, labels));
	e->service_account = arena_strdup(a, str_empty(account) ? "default" : account);
	e->namespace_ = arena_strdup(a, pod->ns);
	e->workload = workload_name(a, pod);
	e->pod = arena_strdup(a, pod->name);
	e->node = arena_strdup(a, node ? node : "");
	e->locality = pod_locality(a, in, pod, node);
	e->cluster = arena_strdup(a, cluster ? cluster : in->cluster);
	e->network = endpoint_network(a, in, object_label(pod, LABEL_NETWORK), e->cluster, e->address);
	e->tls_istio = pod_has_sidecar(in, pod);
	e->health = pod_health(pod);
	if (p->spec && !str_empty(p->spec->hostname) && !str_empty(p->spec->subdomain))
		e->host_name = arena_printf(a, "%s.%s", p->spec->hostname, p->spec->subdomain);
	return e;
}

static Fl__Endpoint *from_entry(struct arena *a, const struct discovery_input *in, const Cfg__WorkloadEntry *w,
	const struct object *o, bool outside)
{
	if (str_empty(w->address))
		return NULL;
	const char *workload = label_get(LABELS(w, labels), "service.istio.io/workload-name");
	const char *cluster = label_get(LABELS(w, labels), "topology.istio.io/cluster");
	const char *said = !str_empty(w->network) ? w->network : label_get(LABELS(w, labels), LABEL_NETWORK);
	Fl__Endpoint *e = PB_NEW(a, Fl__Endpoint, fl__endpoint);
	e->address = arena_strdup(a, w->address);
	copy_labels(a, e, LABELS(w, labels));
	e->service_account = arena_strdup(a, w->service_account);
	e->namespace_ = arena_strdup(a, o->ns);
	e->workload = arena_strdup(a, workload ? workload : o->name);
	e->pod = arena_strdup(a, o->name);
	e->locality = arena_strdup(a, w->locality);
	e->weight = w->weight;
	e->cluster = arena_strdup(a, cluster ? cluster : in->cluster);
	/* What is outside of the mesh is in no cluster of it: only its address may be in a network. */
	e->network = endpoint_network(a, in, said, outside ? "" : e->cluster, e->address);
	e->tls_istio = entry_has_sidecar(w);
	return e;
}

Fl__Endpoint *endpoint_of_workload(struct arena *a, const struct discovery_input *in, const struct object *o)
{
	const Cfg__WorkloadEntry *w = (const Cfg__WorkloadEntry *)o->message;
	const char *checked = object_annotation(o, "proxy.istio.io/health-checks-enabled");
	Fl__Endpoint *e = from_entry(a, in, w, o, false);
	/* Where an agent runs a probe, its word is waited for. */
	if (e && checked && streq(checked, "true") && o->health != HEALTH_TRUE)
		e->health = FL__HEALTH__UNHEALTHY;
	return e;
}

Fl__Endpoint *endpoint_of_inline(
	struct arena *a, const struct discovery_input *in, const struct object *entry, const Cfg__WorkloadEntry *w)
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)entry->message;
	return from_entry(a, in, w, entry, se->location == CFG__SERVICE_ENTRY__LOCATION__MESH_EXTERNAL);
}

const struct object *pod_by_name(const struct discovery_input *in, const char *name)
{
	return map_get(in->pod_names, str_of(name));
}

const struct object *pod_by_address(const struct discovery_input *in, const char *address)
{
	return map_get(in->pod_addresses, str_of(address));
}
