/*
 * DOC: EDS. Endpoints are grouped by locality; the weight of a locality is the sum of its endpoints' weights. Priorities (own
 * locality first) are given only where locality load balancing is active: then, and only then, the scope knows the caller's locality.
 *
 * An endpoint's metadata: filter_metadata.istio.workload in Istio's form "name;namespace;canonical;revision;cluster";
 * filter_metadata.fairlead with the labels of the standard metrics; envoy.transport_socket_match.tlsMode=istio when its workload
 * serves mutual TLS (it has a proxy, and no policy disables it there).
 */
#include <stdlib.h>

#include "common/mesh/labels.h"
#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/endpoint_build.h"
#include "pilot/translate/locality.h"
#include "pilot/translate/names.h"
#include "pilot/translate/networks.h"
#include "pilot/translate/tls.h"
#include "pilot/translate/translate.h"

static const char own_cluster[] = "local_cluster"; /* Istio's name; it is in the agent's bootstrap */

/* ---- metadata */
static const char *label_or(const Fl__Endpoint *ep, const char *key, const char *fallback)
{
	const char *value = label_get(LABELS(ep, labels), key);

	return str_empty(value) ? fallback : value;
}

static void put_fairlead(
	struct arena *a, const Fl__Endpoint *ep, const char *canonical, const char *revision, Eds__LbEndpoint *out)
{
	Wkt__Struct *s = build_struct(a);

	struct_put(a, s, "app", label_or(ep, "app", canonical));
	struct_put(a, s, "canonical_revision", revision);
	struct_put(a, s, "canonical_service", canonical);
	struct_put(a, s, "cluster", str_empty(ep->cluster) ? "Kubernetes" : ep->cluster);
	struct_put(a, s, "namespace", ep->namespace_);
	struct_put(a, s, "version", label_or(ep, "version", "unknown"));
	struct_put(a, s, "workload", str_empty(ep->workload) ? "unknown" : ep->workload);
	metadata_put(a, &out->metadata, "fairlead", s);
}

static void put_istio(
	struct arena *a, const Fl__Endpoint *ep, const char *canonical, const char *revision, Eds__LbEndpoint *out)
{
	Wkt__Struct *s = build_struct(a);

	struct_put(a, s, "workload",
		arena_printf(a, "%s;%s;%s;%s;%s", ep->workload, ep->namespace_, canonical, revision, ep->cluster));
	metadata_put(a, &out->metadata, "istio", s);
}

static void put_mutual(struct arena *a, Eds__LbEndpoint *out)
{
	Wkt__Struct *match = build_struct(a);

	struct_put(a, match, "tlsMode", "istio");
	metadata_put(a, &out->metadata, "envoy.transport_socket_match", match);
}

/* In the order of the filter names. The workload's canonical name: its label, else app, else the workload's own (Istio's order). */
static void put_metadata(struct view *v, struct arena *a, const struct member *m, bool external, Eds__LbEndpoint *out)
{
	const Fl__Endpoint *ep = m->endpoint;
	const char *app = label_or(ep, "app.kubernetes.io/name", label_or(ep, "app", ep->workload));
	const char *canonical = label_or(ep, "service.istio.io/canonical-name", app);
	const char *version = label_or(ep, "app.kubernetes.io/version", label_or(ep, "version", "latest"));
	const char *revision = label_or(ep, "service.istio.io/canonical-revision", version);

	if (serves_mutual(v, ep, m->port))
		put_mutual(a, out);
	if (external && str_empty(ep->workload))
		return;
	put_fairlead(a, ep, canonical, revision, out);
	put_istio(a, ep, canonical, revision, out);
}

/* ---- localities */
static int u32_cmp(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

/* Envoy wants priorities without gaps. */
static void close_gaps(struct view *v, struct member *m, size_t n)
{
	uint32_t *seen = arena_array(v->scratch, n + 1, sizeof(*seen));
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		seen[i] = m[i].priority;
	if (n > 1)
		qsort(seen, n, sizeof(*seen), u32_cmp);
	for (size_t i = 0; i < n; i++)
		if (!len || seen[len - 1] != seen[i])
			seen[len++] = seen[i];
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < len; j++)
			if (m[i].priority == seen[j]) {
				m[i].priority = (uint32_t)j;
				break;
			}
}

static void set_priorities(struct view *v, const struct places *where, struct member *m, size_t n)
{
	if (!where->failover)
		return;
	for (size_t i = 0; i < n; i++)
		m[i].priority = locality_priority(v, where, m[i].endpoint);
	close_gaps(v, m, n);
}

/* ---- selection */
struct selection {
	const Fl__Port *port;
	const Cfg__Subset *subset; /* NULL: all */
	bool sessions; /* those go on at endpoints that take no new ones */
	bool unready; /* are told of, too */
};

static bool subset_has(const Cfg__Subset *subset, const Fl__Endpoint *ep)
{
	return !subset || labels_match(LABELS(subset, labels), LABELS(ep, labels));
}

static Fl__Health health_of(const Fl__Endpoint *ep)
{
	return ep->health != FL__HEALTH__TERMINATING && *label_or(ep, LABEL_DRAINING, "") ? FL__HEALTH__DRAINING
											  : ep->health;
}

/* An endpoint that goes counts for nothing: others are to be as healthy as they are without it. */
static bool is_told(const struct selection *x, const Fl__Endpoint *ep)
{
	switch (health_of(ep)) {
	case FL__HEALTH__TERMINATING:
		return false;
	case FL__HEALTH__DRAINING:
		return x->sessions;
	case FL__HEALTH__UNHEALTHY:
		return x->unready;
	case FL__HEALTH__HEALTHY:
	default:
		return true;
	}
}

static int member_cmp(const void *x, const void *y)
{
	const struct member *a = x, *b = y;
	int c;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	c = str_cmp(a->locality, b->locality);
	return c ? c : a->order < b->order ? -1 : a->order > b->order;
}

static size_t select_members(const Fl__EndpointSet *set, const struct selection *x, struct member *out)
{
	size_t n = 0;

	for (size_t i = 0; set && i < set->n_endpoints; i++) {
		const Fl__Endpoint *ep = set->endpoints[i];
		uint32_t number = endpoint_port(ep, x->port);

		if (number && subset_has(x->subset, ep) && is_told(x, ep)) {
			out[n] = (struct member){.endpoint = ep,
				.port = number,
				.weight = ep->weight ? ep->weight : 1,
				.locality = str_of(ep->locality),
				.ready = health_of(ep) == FL__HEALTH__HEALTHY,
				.order = n};
			n++;
		}
	}
	return n;
}

/* ---- messages */
static Core__Locality *build_locality(struct arena *a, struct str locality)
{
	Core__Locality *l = PB_NEW(a, Core__Locality, core__locality);

	l->region = arena_cstr(a, locality_part(locality, 0));
	l->zone = arena_cstr(a, locality_part(locality, 1));
	l->sub_zone = arena_cstr(a, locality_part(locality, 2));
	return l;
}

static Core__HealthStatus status_of(const Fl__Endpoint *ep)
{
	switch (health_of(ep)) {
	case FL__HEALTH__UNHEALTHY:
		return CORE__HEALTH_STATUS__UNHEALTHY;
	case FL__HEALTH__DRAINING:
		return CORE__HEALTH_STATUS__DRAINING;
	case FL__HEALTH__HEALTHY:
	default:
		return CORE__HEALTH_STATUS__HEALTHY;
	}
}

/* Of what is behind it only the cluster is known. */
static void put_gateway_metadata(struct arena *a, const Fl__Network__Gateway *gw, Eds__LbEndpoint *out)
{
	Wkt__Struct *istio = build_struct(a);

	put_mutual(a, out);
	if (str_empty(gw->cluster))
		return;
	struct_put(a, istio, "workload", arena_printf(a, ";;;;%s", gw->cluster));
	metadata_put(a, &out->metadata, "istio", istio);
}

static Eds__LbEndpoint *build_endpoint(struct view *v, struct arena *a, const struct member *m, bool external)
{
	Eds__LbEndpoint *e = PB_NEW(a, Eds__LbEndpoint, eds__lb_endpoint);

	e->endpoint = PB_NEW(a, Eds__Endpoint, eds__endpoint);
	e->endpoint->address = build_address(
		a, str_of(m->gateway ? m->gateway->address : m->endpoint->address), m->port);
	e->host_identifier_case = EDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
	e->health_status = m->gateway ? CORE__HEALTH_STATUS__HEALTHY : status_of(m->endpoint);
	e->load_balancing_weight = build_u32(a, m->weight);
	if (m->gateway)
		put_gateway_metadata(a, m->gateway, e);
	else
		put_metadata(v, a, m, external, e);
	return e;
}

static void add_members(struct view *v, struct arena *a, const struct member *m, size_t n, bool external,
	Eds__ClusterLoadAssignment *out)
{
	Eds__LocalityLbEndpoints *group = NULL;

	for (size_t i = 0; i < n; i++) {
		Eds__LbEndpoint *e = build_endpoint(v, a, &m[i], external);

		if (!i || m[i].priority != m[i - 1].priority || !str_eq(m[i].locality, m[i - 1].locality)) {
			group = PB_NEW(a, Eds__LocalityLbEndpoints, eds__locality_lb_endpoints);
			group->locality = build_locality(a, m[i].locality);
			group->priority = m[i].priority;
			group->load_balancing_weight = build_u32(a, 0);
			pb_add(a, out, endpoints, group);
		}
		pb_add(a, group, lb_endpoints, e);
		group->load_balancing_weight->value += e->load_balancing_weight->value;
	}
}

/* distribute: the weights of localities as the user said for the caller's own locality. */
static void distribute(struct view *v, struct arena *a, const struct places *where, Eds__ClusterLoadAssignment *out)
{
	struct str own = v->scope->attributes->locality;

	for (size_t i = 0; own.len && where->weights && i < where->locality->n_distribute; i++) {
		const Cfg__LocalityLoadBalancerSetting__Distribute *d = where->locality->distribute[i];

		if (!locality_covers(str_of(d->from), own))
			continue;
		distribute_weights(a, d, out);
		return;
	}
}

/* A DNS service without endpoints of its own is reached by its host name. */
static void add_host_itself(
	struct arena *a, const Fl__Service *s, const Fl__Port *port, Eds__ClusterLoadAssignment *out)
{
	const char *host = s->resolution == FL__RESOLUTION__ALIAS ? s->alias_of : s->hostname;
	Eds__LocalityLbEndpoints *group;
	Eds__LbEndpoint *e;

	if (str_empty(host) || host[0] == '*')
		return;
	group = PB_NEW(a, Eds__LocalityLbEndpoints, eds__locality_lb_endpoints);
	e = PB_NEW(a, Eds__LbEndpoint, eds__lb_endpoint);
	e->endpoint = PB_NEW(a, Eds__Endpoint, eds__endpoint);
	e->endpoint->address = build_address(a, str_of(host), port->target_port ? port->target_port : port->number);
	e->host_identifier_case = EDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
	e->load_balancing_weight = build_u32(a, 1);
	group->load_balancing_weight = build_u32(a, 1);
	pb_add(a, group, lb_endpoints, e);
	pb_add(a, out, endpoints, group);
}

Eds__ClusterLoadAssignment *endpoints_for(struct view *v, struct arena *a, const char *name, const Fl__Service *s,
	const Fl__Port *port, const struct rule *r, const Cfg__Subset *subset)
{
	Eds__ClusterLoadAssignment *out = PB_NEW(a, Eds__ClusterLoadAssignment, eds__cluster_load_assignment);
	struct traffic_policy p = policy_resolve(view_mesh(v), r->policy, subset, port->number);
	const struct places where = policy_places(&p, view_mesh(v));
	const Fl__EndpointSet *set = view_endpoints(v, s);
	struct member *m = arena_array(v->scratch, (set ? set->n_endpoints : 0) + 1, sizeof(*m));
	/* Where a share of bad endpoints makes Envoy use them all, it must not know of those that are not ready. */
	const struct selection x = {.port = port,
		.subset = subset,
		.sessions = service_has_sessions(s),
		.unready = !p.outlier || p.outlier->min_health_percent <= 0};
	size_t n = select_members(set, &x, m);
	const struct calls calls = {s, &p, str_starts(str_of(name), STR("outbound_."))};

	out->cluster_name = arena_strdup(a, name);
	set_priorities(v, &where, m, n);
	if (n > 1)
		qsort(m, n, sizeof(*m), member_cmp);
	if (members_reach(v, &calls, &m, &n)) {
		close_gaps(v, m, n);
		qsort(m, n, sizeof(*m), member_cmp);
	}
	add_members(v, a, m, n, s->mesh_external, out);
	distribute(v, a, &where, out);
	if (!n && !subset && (!set || !set->n_endpoints) && service_discovery(v, s) != DISCOVERY_EDS)
		add_host_itself(a, s, port, out);
	return out;
}

/* ---- the proxy's own instances (Istio's self-discovery) */
static bool same_label(struct view *v, const Fl__Endpoint *ep, const char *key)
{
	const struct str *own = proxy_label(v->scope->attributes, str_of(key));

	return str_eqc(own ? *own : STR(""), label_or(ep, key, ""));
}

/* Of one deployment and revision, as far as it is in the proxy's region: by these Envoy sees how callers spread over zones. */
static bool is_sibling(struct view *v, const Fl__Endpoint *ep)
{
	const struct proxy *p = v->scope->attributes;

	return str_eqc(p->workload, ep->workload) && same_label(v, ep, "pod-template-hash") &&
	       same_label(v, ep, "rollouts-pod-template-hash") &&
	       (!p->locality.len || str_eq(locality_part(p->locality, 0), locality_part(str_of(ep->locality), 0)));
}

static const ProtobufCMessage *own_instances(struct view *v, struct arena *a)
{
	Eds__ClusterLoadAssignment *out = PB_NEW(a, Eds__ClusterLoadAssignment, eds__cluster_load_assignment);
	const struct instance *x = v->scope->n_instances ? v->scope->instances : NULL;
	const Fl__Service *s = x ? view_service_by_key(v, x->service) : NULL;
	const Fl__EndpointSet *set = s ? view_endpoints(v, s) : NULL;
	struct member *m = arena_array(v->scratch, (set ? set->n_endpoints : 0) + 1, sizeof(*m));
	const struct selection all = {.port = set ? service_port(s, x->port) : NULL, .unready = true};
	size_t n = select_members(set, &all, m), kept = 0;

	for (size_t i = 0; i < n; i++)
		if (is_sibling(v, m[i].endpoint))
			m[kept++] = m[i];
	if (kept > 1)
		qsort(m, kept, sizeof(*m), member_cmp);
	out->cluster_name = arena_strdup(a, own_cluster);
	add_members(v, a, m, kept, false, out);
	return &out->base;
}

/* ---- translator */
static void eds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	struct name_list list = {0};
	struct service_list services = {0};

	if (v->scope->kind == SCOPE_PLACE)
		view_services(v, &services);
	else if (v->scope->kind == SCOPE_OWN && v->scope->attributes->self_discovery)
		name_list_add(a, &list, own_cluster);
	for (size_t i = 0; i < services.n; i++) {
		const Fl__Service *s = services.items[i];
		struct rule rule = view_rule(v, Q_DR_SUBSETS, str_of(s->hostname), str_of(s->namespace_));

		if (service_discovery(v, s) != DISCOVERY_EDS)
			continue;
		for (size_t j = 0; j < s->n_ports; j++) {
			uint32_t port = s->ports[j]->number;

			if (protocol_of(s->ports[j]->protocol) == PROTOCOL_UDP)
				continue;
			name_list_add(a, &list, cluster_name_outbound(a, port, STR(""), str_of(s->hostname)));
			for (size_t k = 0; k < rule.n_subsets; k++)
				name_list_add(a, &list,
					cluster_name_outbound(
						a, port, str_of(rule.subsets[k]->name), str_of(s->hostname)));
		}
	}
	name_list_finish(&list, out, n);
}

/*
 * A cluster by server name has endpoints under its own name: Envoy asks once for a name, so that a second cluster that shared the name of
 * another's would wait for ever.
 */
static const ProtobufCMessage *eds_build(struct view *v, struct str name, struct arena *a)
{
	struct cluster_name parsed;
	bool known = cluster_name_parse(name, &parsed) || tls_sni_parse(name, &parsed);
	const Fl__Service *s = known ? view_service(v, parsed.host) : NULL;
	const Fl__Port *port = s ? service_port(s, parsed.port) : NULL;
	const Cfg__Subset *subset = NULL;
	struct rule rule;

	if (str_eqc(name, own_cluster))
		return v->scope->attributes->self_discovery ? own_instances(v, a) : NULL;
	if (!port || !str_eqc(parsed.direction, "outbound") || service_discovery(v, s) != DISCOVERY_EDS)
		return NULL;
	rule = view_rule(v, Q_DR_HOST, parsed.host, str_of(s->namespace_));
	if (parsed.subset.len && !(subset = rule_subset(&rule, parsed.subset)))
		return NULL;
	return &endpoints_for(v, a, arena_cstr(a, name), s, port, &rule, subset)->base;
}

static enum scope_kind eds_scope(struct str name)
{
	return str_eqc(name, own_cluster) ? SCOPE_OWN : SCOPE_PLACE;
}

const struct translator eds_translator = {.names = eds_names, .build = eds_build, .scope = eds_scope};
