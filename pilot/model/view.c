/*
 * DOC: Scopes. A scope's key spells out everything that the resources of the scope may depend on besides the model, and the
 * attributes hold exactly that. Labels enter the key only if some object looks at labels of callers, the locality only if locality load
 * balancing is active, the namespace only if the mesh singles it out: so that, in most meshes, all sidecars of a namespace share their
 * routes, and those of most namespaces all else.
 */
#include "pilot/model/view.h"

#include <stdlib.h>

#include "common/base/hash.h"
#include "common/mesh/host.h"
#include "common/pb/pb.h"
#include "common/mesh/networks.h"
#include "cfg/networking/destination_rule.pb-c.h"
#include "pilot/model/ask.h"
#include "pilot/model/query.h"
#include "pilot/model/query_secret.h"
#include "pilot/model/singled.h"

/* ---- which labels of callers matter */
static bool in_map(struct label_set set, struct str key)
{
	return label_get(set, key.ptr) != NULL;
}

static bool vs_reads_label(const Cfg__VirtualService *vs, struct str key)
{
	for (size_t i = 0; i < vs->n_http; i++)
		for (size_t j = 0; j < vs->http[i]->n_match; j++)
			if (in_map(LABELS(vs->http[i]->match[j], source_labels), key))
				return true;
	for (size_t i = 0; i < vs->n_tcp; i++)
		for (size_t j = 0; j < vs->tcp[i]->n_match; j++)
			if (in_map(LABELS(vs->tcp[i]->match[j], source_labels), key))
				return true;
	for (size_t i = 0; i < vs->n_tls; i++)
		for (size_t j = 0; j < vs->tls[i]->n_match; j++)
			if (in_map(LABELS(vs->tls[i]->match[j], source_labels), key))
				return true;
	return false;
}

/* "key" of failoverPriority; "key=value" does not look at the caller. */
static bool settings_read_label(
	const Cfg__LocalityLoadBalancerSetting *s, const Cfg__ZoneAwareLoadBalancerSetting *zones, struct str key)
{
	for (size_t i = 0; s && i < s->n_failover_priority; i++)
		if (str_eqc(key, s->failover_priority[i]))
			return true;
	for (size_t i = 0; zones && i < zones->n_failover_priority; i++)
		if (str_eqc(key, zones->failover_priority[i]))
			return true;
	return false;
}

static bool balancer_reads_label(const Cfg__LoadBalancerSettings *b, struct str key)
{
	return b && settings_read_label(b->locality_lb_setting, b->zone_aware_lb_setting, key);
}

static bool policy_reads_label(const Cfg__TrafficPolicy *p, struct str key)
{
	bool reads = p && balancer_reads_label(p->load_balancer, key);

	for (size_t i = 0; p && i < p->n_port_level_settings; i++)
		reads |= balancer_reads_label(p->port_level_settings[i]->load_balancer, key);
	return reads;
}

static bool rule_reads_label(const Cfg__DestinationRule *dr, struct str key)
{
	if (dr->workload_selector && in_map(LABELS(dr->workload_selector, match_labels), key))
		return true;
	for (size_t i = 0; i < dr->n_subsets; i++)
		if (policy_reads_label(dr->subsets[i]->traffic_policy, key))
			return true;
	return policy_reads_label(dr->traffic_policy, key);
}

static bool label_is_read(struct rows vs, struct rows rules, struct str key)
{
	for (size_t i = 0; i < vs.n; i++)
		if (vs_reads_label(vs.items[i].entry->value, key))
			return true;
	for (size_t i = 0; i < rules.n; i++)
		if (rule_reads_label(rules.items[i].entry->value, key))
			return true;
	return false;
}

/* Labels that differ between the pods of one deployment, or change with each roll-out, and that no Gateway selects. */
static bool label_is_noise(struct str key)
{
	static const char *const noise[] = {"pod-template-hash", "controller-revision-hash", "pod-template-generation",
		"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"};

	for (size_t i = 0; i < ARRAY_LEN(noise); i++)
		if (str_eqc(key, noise[i]))
			return true;
	return false;
}

static void shared_labels(struct view *v, const struct proxy *p, struct proxy *out)
{
	struct rows vs = ask(v, TOPIC_VIRTUAL_SERVICE, Q_SOURCE_LABELS, STR(""));
	struct rows rules = ask(v, TOPIC_DESTINATION_RULE, Q_SOURCE_LABELS, STR(""));
	const Mesh__MeshConfig *mesh = view_mesh(v);

	out->labels = arena_array(v->scratch, p->n_labels + 1, sizeof(*out->labels));
	for (size_t i = 0; i < p->n_labels; i++) {
		struct str key = p->labels[i].key;
		bool wanted = p->type == PROXY_SIDECAR
				      ? label_is_read(vs, rules, key) || settings_read_label(mesh->locality_lb_setting,
										 mesh->zone_aware_lb_setting, key)
				      : !label_is_noise(key);

		if (wanted)
			out->labels[out->n_labels++] = p->labels[i];
	}
}

/* ---- locality */
static bool locality_active(struct view *v)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);
	const Cfg__LocalityLoadBalancerSetting *setting = mesh->locality_lb_setting;
	bool rules = ask(v, TOPIC_DESTINATION_RULE, Q_DR_LOCALITY, STR("")).n > 0;

	if (mesh->zone_aware_lb_setting)
		return true;
	if (setting && setting->enabled && !setting->enabled->value)
		return rules;
	return rules || (setting && (setting->n_distribute || setting->n_failover_priority)) ||
	       (mesh->default_traffic_policy && mesh->default_traffic_policy->outlier_detection);
}

/* ---- network: what the proxy says, else its label, else what the mesh says of where it is */
static struct str network_of(struct view *v, const struct proxy *p)
{
	const struct str *label = proxy_label(p, STR(LABEL_NETWORK));

	if (p->network.len || (label && label->len))
		return p->network.len ? p->network : *label;
	return view_network_of(v, p);
}

static bool is_own(const Fl__Endpoint *ep, const struct proxy *p, struct str ip)
{
	return str_eqc(ip, ep->address) && (str_empty(ep->namespace_) || str_eqc(p->ns, ep->namespace_)) &&
	       (str_empty(ep->network) || !p->network.len || str_eqc(p->network, ep->network));
}

/* Where the proxy says nothing of its place, discovery may know it, from the labels of its machine. */
static struct str locality_of(struct view *v, const struct proxy *p)
{
	struct rows rows;

	if (p->locality.len)
		return p->locality;
	rows = ask(v, TOPIC_ENDPOINTS, Q_INSTANCE, p->ip);
	for (size_t i = 0; i < rows.n; i++) {
		const Fl__EndpointSet *set = rows.items[i].entry->value;

		for (size_t k = 0; k < set->n_endpoints; k++)
			if (is_own(set->endpoints[k], p, p->ip) && !str_empty(set->endpoints[k]->locality))
				return str_of(set->endpoints[k]->locality);
	}
	return p->locality;
}

/* ---- Sidecar selection: workload, then namespace, then the root namespace's default */
static const struct entry *oldest_sidecar(struct rows rows, const struct proxy *p, bool selecting)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < rows.n; i++) {
		const struct entry *e = rows.items[i].entry;
		const Cfg__Sidecar *s = e->value;
		bool has = s->workload_selector && s->workload_selector->n_labels;
		bool fits = has == selecting;

		for (size_t j = 0; fits && has && j < s->workload_selector->n_labels; j++) {
			struct label l = label_at(LABELS(s->workload_selector, labels), j);
			const struct str *own = proxy_label(p, str_of(l.key));

			fits = own && str_eqc(*own, l.value);
		}
		if (fits && (!best || entry_by_age(&e, &best) < 0))
			best = e;
	}
	return best;
}

static struct str select_sidecar(struct view *v, const struct proxy *p)
{
	struct str root = view_root_namespace(v);
	struct rows own = ask(v, TOPIC_SIDECAR, Q_SIDECAR_NS, p->ns);
	struct rows mesh = ask(v, TOPIC_SIDECAR, Q_SIDECAR_NS, root);
	const struct entry *e = oldest_sidecar(own, p, true);

	if (!e)
		e = oldest_sidecar(own, p, false);
	if (!e)
		e = oldest_sidecar(mesh, p, false);
	return e ? arena_str(v->scratch, e->key) : (struct str){0};
}

/* An ingress listener whose default endpoint is 0.0.0.0 means the address of the instance. */
static bool ingress_needs_address(struct view *v)
{
	const Cfg__Sidecar *s = view_sidecar(v);

	for (size_t i = 0; s && i < s->n_ingress; i++)
		if (str_starts(str_of(s->ingress[i]->default_endpoint), STR("0.0.0.0:")) ||
			str_starts(str_of(s->ingress[i]->default_endpoint), STR("[::]:")))
			return true;
	return false;
}

/* ---- the services that the proxy's own address stands behind */
uint32_t endpoint_port(const Fl__Endpoint *ep, const Fl__Port *port)
{
	for (size_t i = 0; i < ep->n_ports; i++)
		if (streq(ep->ports[i]->name, port->name))
			return ep->ports[i]->number;
	/* A named targetPort that this endpoint does not have: the endpoint does not serve the port. */
	return ep->n_ports ? 0 : port->target_port ? port->target_port : port->number;
}

struct instances {
	struct instance *items;
	size_t n, cap;
};

static void add_instances(struct view *v, const struct entry *set, const Fl__Endpoint *ep, struct instances *out)
{
	const Fl__Service *s = view_service_by_key(v, set->key);

	for (size_t i = 0; s && i < s->n_ports; i++) {
		uint32_t target = endpoint_port(ep, s->ports[i]);
		struct instance *grown;

		if (!target)
			continue;
		if (out->n == out->cap) {
			out->cap = out->cap ? out->cap * 2 : 8;
			grown = arena_array(v->scratch, out->cap, sizeof(*grown));
			if (out->n)
				memcpy(grown, out->items, out->n * sizeof(*grown));
			out->items = grown;
		}
		out->items[out->n++] = (struct instance){arena_str(v->scratch, set->key), s->ports[i]->number, target};
	}
}

static int instance_cmp(const void *x, const void *y)
{
	const struct instance *a = x, *b = y;
	int c = str_cmp(a->service, b->service);

	if (c)
		return c;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return a->target_port < b->target_port ? -1 : a->target_port > b->target_port;
}

static void find_instances(struct view *v, const struct proxy *p, struct scope *out)
{
	struct instances list = {0};
	size_t n = 0;

	for (size_t i = 0; i < p->n_ips; i++) {
		struct rows rows = ask(v, TOPIC_ENDPOINTS, Q_INSTANCE, p->ips[i]);

		for (size_t j = 0; j < rows.n; j++) {
			const Fl__EndpointSet *set = rows.items[j].entry->value;

			for (size_t k = 0; k < set->n_endpoints; k++)
				if (is_own(set->endpoints[k], p, p->ips[i]))
					add_instances(v, rows.items[j].entry, set->endpoints[k], &list);
		}
	}
	if (list.n > 1)
		qsort(list.items, list.n, sizeof(*list.items), instance_cmp);
	for (size_t i = 0; i < list.n; i++)
		if (!n || instance_cmp(&list.items[n - 1], &list.items[i]))
			list.items[n++] = list.items[i];
	out->instances = list.items;
	out->n_instances = n;
}

/* ---- the namespace */
static bool namespace_matters(struct view *v, const struct proxy *p)
{
	unsigned why;

	/* "./" of a Sidecar, and versions that this very proxy refused, are not looked at. */
	if (p->type != PROXY_SIDECAR || v->scope->kind == SCOPE_OWN || v->scope->sidecar.len || p->n_hidden)
		return true;
	why = view_singled(v, p->ns);
	return v->scope->kind == SCOPE_SHARED ? why : why & SINGLED_VIEW;
}

static struct str domain_suffix(struct arena *a, const struct proxy *p)
{
	struct str prefix = str_of(arena_printf(a, STR_FMT ".svc.", STR_ARG(p->ns)));

	if (p->ns.len && str_starts(p->domain, prefix))
		return arena_str(a, str_from(p->domain, prefix.len));
	return STR("cluster.local");
}

/* ---- the key */
const char *scope_kind_name(enum scope_kind k)
{
	static const char *const names[SCOPE_KIND_COUNT] = {"mesh", "place", "shared", "own"};

	return names[k];
}

static uint64_t extensions_hash(const struct proxy *p)
{
	uint64_t h = 1;

	for (size_t i = 0; i < p->n_extensions; i++)
		h = hash64_seed(p->extensions[i], h);
	return p->n_extensions ? h : 0;
}

static void write_key(struct strbuf *b, const struct scope *s)
{
	static const char *const types[] = {"sidecar", "router", "waypoint"};
	const struct proxy *p = s->attributes;

	strbuf_addf(b, "%s|%s|" STR_FMT "|" STR_FMT "|" STR_FMT "|" STR_FMT "|%llx", scope_kind_name(s->kind),
		types[p->type], STR_ARG(p->ns), STR_ARG(s->domain_suffix), STR_ARG(p->cluster_id), STR_ARG(p->network),
		(unsigned long long)extensions_hash(p));
	strbuf_addf(b, "|ip=" STR_FMT "|verified=" STR_FMT, STR_ARG(p->ip), STR_ARG(p->verified_ns));
	strbuf_addf(b, "|locality=" STR_FMT "|sidecar=" STR_FMT "|%s", STR_ARG(p->locality), STR_ARG(s->sidecar),
		p->no_capture ? "nocapture" : "");
	if (p->transparent)
		strbuf_adds(b, "|transparent");
	if (p->vhds)
		strbuf_adds(b, "|vhds");
	if (p->lists_secrets)
		strbuf_adds(b, "|secrets");
	if (p->shadow_suffix)
		strbuf_adds(b, "|shadow");
	if (p->own_gateways)
		strbuf_adds(b, "|own-gateways");
	if (p->ipv6)
		strbuf_adds(b, p->ipv4 ? "|dual" : "|v6");
	if (p->self_discovery)
		strbuf_addf(b, "|self=" STR_FMT, STR_ARG(p->workload));
	if (p->config)
		strbuf_addf(b, "|config=%llx", (unsigned long long)pb_hash(p->config));
	for (size_t i = 0; i < p->n_network_view; i++)
		strbuf_addf(b, "|sees=" STR_FMT, STR_ARG(p->network_view[i]));
	for (size_t i = 0; i < p->n_labels; i++)
		strbuf_addf(b, "|" STR_FMT "=" STR_FMT, STR_ARG(p->labels[i].key), STR_ARG(p->labels[i].value));
	for (size_t i = 0; i < p->n_hidden; i++)
		strbuf_addf(b, "|hidden=%u:" STR_FMT ":%llx%s", p->hidden[i].topic, STR_ARG(p->hidden[i].key),
			(unsigned long long)p->hidden[i].hash, p->hidden[i].absent ? "-" : "");
	for (size_t i = 0; i < s->n_instances; i++)
		strbuf_addf(b, "|" STR_FMT ":%u:%u", STR_ARG(s->instances[i].service), s->instances[i].port,
			s->instances[i].target_port);
}

static void own_text(struct arena *a, struct str *s)
{
	*s = arena_str(a, *s);
}

/* The scope outlives the session that made it: nothing in it may belong to the session's proxy. */
static void own_attributes(struct arena *a, struct proxy *p)
{
	struct str *const texts[] = {
		&p->ns, &p->workload, &p->cluster_id, &p->network, &p->verified_ns, &p->locality, &p->ip};
	struct str *extensions = arena_array(a, p->n_extensions + 1, sizeof(*extensions));
	struct proxy_label *labels = arena_array(a, p->n_labels + 1, sizeof(*labels));
	struct hidden *hidden = arena_array(a, p->n_hidden + 1, sizeof(*hidden));
	struct str *networks = arena_array(a, p->n_network_view + 1, sizeof(*networks));

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		own_text(a, texts[i]);
	for (size_t i = 0; i < p->n_extensions; i++)
		extensions[i] = arena_str(a, p->extensions[i]);
	for (size_t i = 0; i < p->n_network_view; i++)
		networks[i] = arena_str(a, p->network_view[i]);
	for (size_t i = 0; i < p->n_labels; i++)
		labels[i] = (struct proxy_label){arena_str(a, p->labels[i].key), arena_str(a, p->labels[i].value)};
	for (size_t i = 0; i < p->n_hidden; i++) {
		hidden[i] = p->hidden[i];
		own_text(a, &hidden[i].key);
	}
	p->config = p->config ? pb_copy(a, p->config) : NULL;
	p->extensions = extensions;
	p->network_view = networks;
	p->labels = labels;
	p->hidden = hidden;
}

/* Clusters that are resolved by DNS hold their endpoints. With a Sidecar these may be there because a route leads to them. */
static bool has_endpoints(struct view *v)
{
	enum scope_kind k = v->scope->kind;

	return k == SCOPE_PLACE || (k == SCOPE_MESH && (v->scope->sidecar.len || view_has_dns(v)));
}

static bool place_matters(struct view *v)
{
	enum scope_kind k = v->scope->kind;

	return (k == SCOPE_PLACE || k == SCOPE_MESH) && locality_active(v) && has_endpoints(v);
}

static void set_networks(struct view *v, const struct proxy *p, struct proxy *out)
{
	if ((!p->network.len && !p->n_network_view) || (v->scope->kind != SCOPE_OWN && !has_endpoints(v)))
		return;
	out->network = p->network;
	out->network_view = p->network_view;
	out->n_network_view = p->n_network_view;
}

static void set_seen(struct view *v, const struct proxy *p, struct proxy *out)
{
	if (v->scope->kind == SCOPE_OWN) {
		out->labels = p->labels;
		out->n_labels = p->n_labels;
		if (p->self_discovery) {
			out->self_discovery = true;
			out->workload = p->workload;
			out->locality = locality_of(v, p);
		}
		return;
	}
	shared_labels(v, p, out);
	if (place_matters(v))
		out->locality = locality_of(v, p);
	/* A gateway's listeners have the servers whose Secrets are there; sidecars ask for Secrets only by themselves. */
	if (v->scope->kind == SCOPE_SHARED || p->type != PROXY_SIDECAR) {
		const Fl__Access *access = view_access(v, p);

		out->verified_ns = p->verified_ns;
		out->lists_secrets = access && access->allowed;
	}
}

const struct scope *scope_of(struct arena *a, const struct model *m, const struct proxy *given, enum scope_kind kind,
	struct read_keys *reads)
{
	struct proxy own = *given, *p = &own;
	struct proxy *attributes = ARENA_NEW(a, struct proxy);
	struct scope *s = ARENA_NEW(a, struct scope);
	struct view v = {.model = m, .scope = s, .reads = reads, .scratch = a};
	struct strbuf key cleanup(strbuf_done) = {0};

	*attributes = (struct proxy){.type = p->type,
		.cluster_id = p->cluster_id,
		.extensions = p->extensions,
		.n_extensions = p->n_extensions,
		.hidden = p->hidden,
		.n_hidden = p->n_hidden,
		.config = p->config,
		.ipv4 = p->ipv4,
		.ipv6 = p->ipv6,
		.no_capture = p->no_capture,
		.transparent = p->transparent,
		.own_gateways = p->own_gateways,
		.vhds = p->vhds,
		.shadow_suffix = p->shadow_suffix};
	s->kind = kind;
	s->attributes = attributes;
	s->domain_suffix = domain_suffix(a, p);
	own.network = network_of(&v, p);
	if (p->type == PROXY_SIDECAR)
		s->sidecar = select_sidecar(&v, p);
	if (namespace_matters(&v, p))
		attributes->ns = p->ns;
	set_seen(&v, p, attributes);
	set_networks(&v, p, attributes);
	if (kind == SCOPE_OWN && ingress_needs_address(&v))
		attributes->ip = p->ip;
	if (kind == SCOPE_OWN || p->type != PROXY_SIDECAR)
		find_instances(&v, p, s);
	own_attributes(a, attributes);
	write_key(&key, s);
	s->key = arena_str(a, strbuf_str(&key));
	return s;
}
