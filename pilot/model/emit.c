/*
 * DOC: Which questions each kind of object answers, and which part of it each answer shows. This file decides how fine
 * a push is: a question whose aspect did not change is not touched, although the object was.
 */
#include "pilot/model/entry.h"

#include <stdlib.h>

#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/hash.h"
#include "common/mesh/host.h"
#include "common/pb/pb.h"
#include "pilot/model/destinations.h"
#include "pilot/model/query.h"

static uint64_t mix(uint64_t h, uint64_t more)
{
	return hash64_seed(str_n(&more, sizeof(more)), h);
}

static uint64_t mix_str(uint64_t h, const char *s)
{
	return hash64_seed(str_of(s ? s : ""), h);
}

static uint64_t mix_list(uint64_t h, char *const *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = mix_str(h, items[i]);
	return mix(h, n);
}

/* ---- services */

/* What listeners, virtual host domains and cluster names show of a service. */
static uint64_t service_shape(const Fl__Service *s, uint64_t h)
{
	h = mix_str(mix_str(h, s->hostname), s->namespace_);
	h = mix_str(mix(mix(h, (uint64_t)s->resolution), s->headless != 0), s->auto_address);
	h = mix_str(h, s->auto_address_v6);
	h = mix(mix(mix(h, s->mesh_external != 0), (uint64_t)s->created_ms), (uint64_t)s->registry);
	h = mix_list(h, s->addresses, s->n_addresses);
	for (size_t i = 0; i < s->n_ports; i++) {
		h = mix_str(mix(h, s->ports[i]->number), s->ports[i]->protocol);
		h = mix_str(h, s->ports[i]->name);
	}
	return h;
}

static void service_emit_name(
	struct entry *e, struct emitter *em, const char *visibility, const char *name, uint64_t shape)
{
	if (!str_empty(name))
		emit(em, Q_SERVICE_NAME, str_of(arena_printf(e->arena, "%s:%s", visibility, name)), shape, true);
}

static void service_emit_to(struct entry *e, struct emitter *em, const char *visibility, uint64_t shape)
{
	const Fl__Service *s = e->value;

	emit(em, Q_SERVICE_LIST, str_of(visibility), shape, true);
	if (s->resolution == FL__RESOLUTION__DNS || s->resolution == FL__RESOLUTION__DNS_ROUND_ROBIN ||
		s->resolution == FL__RESOLUTION__ALIAS)
		emit(em, Q_SERVICE_DNS, str_of(visibility), 1, true);
	if (s->resolution == FL__RESOLUTION__DYNAMIC_DNS)
		emit(em, Q_SERVICE_DYNAMIC, str_of(visibility), 1, true);
	if (service_has_sessions(s))
		emit(em, Q_SERVICE_SESSIONS, str_of(visibility), 1, true);
	service_emit_name(e, em, visibility, s->hostname, shape);
	for (size_t i = 0; i < s->n_addresses; i++)
		service_emit_name(e, em, visibility, s->addresses[i], shape);
	service_emit_name(e, em, visibility, s->auto_address, shape);
	service_emit_name(e, em, visibility, s->auto_address_v6, shape);
	for (size_t i = 0; i < s->n_ports; i++) {
		const char *text = arena_printf(e->arena, "%s:%u", visibility, s->ports[i]->number);

		emit(em, Q_SERVICE_PORT, str_of(text), shape, true);
	}
}

void service_emit(struct entry *e, struct emitter *em)
{
	const Fl__Service *s = e->value;
	uint64_t shape = service_shape(s, 1);

	emit(em, Q_SERVICE_HOST, str_of(s->hostname), e->hash, true);
	emit(em, Q_SERVICE_NS, str_of(s->namespace_), e->hash, true);
	if (!s->n_export_to)
		service_emit_to(e, em, "*", shape);
	for (size_t i = 0; i < s->n_export_to; i++) {
		const char *to = s->export_to[i];

		if (!streq(to, "~"))
			service_emit_to(e, em, streq(to, ".") ? s->namespace_ : to, shape);
	}
}

/* ---- endpoints */
static int text_cmp(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

/* Equal sets have equal hashes, whatever the order and the repetitions. */
static uint64_t set_hash(char **items, size_t n)
{
	uint64_t h = 1;

	if (n > 1)
		qsort(items, n, sizeof(*items), text_cmp);
	for (size_t i = 0; i < n; i++)
		if (!i || strcmp(items[i], items[i - 1]) != 0)
			h = mix_str(h, items[i]);
	return h;
}

void endpoints_emit(struct entry *e, struct emitter *em)
{
	const Fl__EndpointSet *set = e->value;
	struct arena *a cleanup(arena_free_p) = arena_new();
	char **accounts = xmalloc((set->n_endpoints + 1) * sizeof(*accounts));
	char **addresses = xmalloc((set->n_endpoints + 1) * sizeof(*addresses));
	uint64_t set_key = hash64(e->key);

	for (size_t i = 0; i < set->n_endpoints; i++) {
		const Fl__Endpoint *ep = set->endpoints[i];

		accounts[i] = arena_printf(a, "%s/%s", ep->namespace_, ep->service_account);
		addresses[i] = ep->address;
		emit(em, Q_INSTANCE, str_of(ep->address), mix(pb_hash(ep), set_key), true);
	}
	emit(em, Q_ENDPOINTS, e->key, e->hash, true);
	emit(em, Q_ACCOUNTS, e->key, set_hash(accounts, set->n_endpoints), true);
	emit(em, Q_ADDRESSES, e->key, set_hash(addresses, set->n_endpoints), true);
	free(accounts);
	free(addresses);
}

/* ---- single objects */
void namespace_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_NAMESPACE, e->key, e->hash, true);
}

void mesh_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_MESH, STR(""), e->hash, true);
}

void gateway_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_GATEWAY_LIST, STR(""), e->hash, true);
	emit(em, Q_GATEWAY, e->key, e->hash, true);
}

void sidecar_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_SIDECAR_NS, e->ns, e->hash, true);
	emit(em, Q_SIDECAR, e->key, e->hash, true);
}

void peer_authn_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_PEER_AUTHN_NS, e->ns, e->hash, true);
}

void secret_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_SECRET, e->key, e->hash, true);
}

/* Not by which process published them: its count of generations begins again with every start. */
void trust_emit(struct entry *e, struct emitter *em)
{
	const Fl__TrustBundle *b = e->value;

	emit(em, Q_TRUST, STR(""), mix_list(1, b->roots_pem, b->n_roots_pem), true);
}

/* Endpoints look at a network's gateways, proxies that do not say their network at who is in which. */
void network_emit(struct entry *e, struct emitter *em)
{
	Fl__Network members = *(const Fl__Network *)e->value;

	if (members.n_gateways)
		emit(em, Q_NETWORK, e->key, e->hash, true);
	members.n_gateways = 0;
	if (members.is_default || members.n_registries || members.n_cidrs)
		emit(em, Q_NETWORK_MEMBERS, STR(""), pb_hash(&members), true);
}

void config_map_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_CONFIG_MAP, e->key, e->hash, true);
}

void access_emit(struct entry *e, struct emitter *em)
{
	emit(em, Q_ACCESS, e->key, e->hash, true);
}

/* ---- virtual services */
static bool uses_source_labels(const Cfg__VirtualService *vs)
{
	for (size_t i = 0; i < vs->n_http; i++)
		for (size_t j = 0; j < vs->http[i]->n_match; j++)
			if (vs->http[i]->match[j]->n_source_labels)
				return true;
	for (size_t i = 0; i < vs->n_tcp; i++)
		for (size_t j = 0; j < vs->tcp[i]->n_match; j++)
			if (vs->tcp[i]->match[j]->n_source_labels)
				return true;
	for (size_t i = 0; i < vs->n_tls; i++)
		for (size_t j = 0; j < vs->tls[i]->n_match; j++)
			if (vs->tls[i]->match[j]->n_source_labels)
				return true;
	return false;
}

struct destinations {
	struct emitter *em;
	uint64_t shape;
};

static bool mix_destination(void *ctx, const char *host)
{
	struct destinations *d = ctx;

	d->shape = mix_str(d->shape, host);
	return false;
}

static bool emit_destination(void *ctx, const char *host)
{
	struct destinations *d = ctx;

	emit(d->em, Q_VS_DESTINATION, str_of(host), d->shape, true);
	return false;
}

/* Who imports the hosts of a VirtualService imports where it sends. `shape` is what decides about importing. */
static void emit_destinations(struct emitter *em, const Cfg__VirtualService *vs, uint64_t shape)
{
	struct destinations one = {em, shape}, all = {em, shape};

	(void)each_destination(vs, emit_destination, &one);
	(void)each_destination(vs, mix_destination, &all);
	emit(em, Q_VS_DESTINATION, STR(""), all.shape, true);
}

static void emit_mesh_hosts(struct entry *e, struct emitter *em, const Cfg__VirtualService *vs)
{
	uint64_t shape = mix(mix_list(2, vs->hosts, vs->n_hosts), (uint64_t)e->created_ms);

	shape = mix_list(shape, vs->export_to, vs->n_export_to);
	for (size_t i = 0; i < vs->n_hosts; i++) {
		struct str host = str_of(vs->hosts[i]);

		emit(em, Q_VS_HOST, host_is_wildcard(host) ? STR("*") : host, e->hash, true);
	}
	emit(em, Q_VS_LIST, STR(""), shape, true);
	emit_destinations(em, vs, shape);
}

void virtual_service_emit(struct entry *e, struct emitter *em)
{
	const Cfg__VirtualService *vs = e->value;
	bool mesh = vs->n_gateways == 0 && vs->n_hosts > 0;

	if (!vs->n_hosts)
		emit(em, Q_VS_DELEGATE, e->key, e->hash, true);
	for (size_t i = 0; i < vs->n_gateways; i++) {
		if (streq(vs->gateways[i], "mesh"))
			mesh = true;
		else
			emit(em, Q_VS_GATEWAY, str_of(vs->gateways[i]), e->hash, true);
	}
	if (mesh)
		emit_mesh_hosts(e, em, vs);
	if (uses_source_labels(vs))
		emit(em, Q_SOURCE_LABELS, STR(""), e->hash, true);
}

/* ---- destination rules */
/* What routes show of a rule is by what they hash; another balancer is seen as "none". */
static uint64_t hash_key(const Cfg__LoadBalancerSettings *b)
{
	return b && b->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH
		       ? pb_hash(b->consistent_hash)
		       : 1;
}

static uint64_t balancer_hash(const Cfg__TrafficPolicy *p, uint64_t h)
{
	if (!p)
		return mix(h, 0);
	h = mix(mix(h, p->load_balancer != NULL), hash_key(p->load_balancer));
	for (size_t i = 0; i < p->n_port_level_settings; i++) {
		const Cfg__TrafficPolicy__PortTrafficPolicy *port = p->port_level_settings[i];

		h = mix(mix(h, port->port ? port->port->number : 0), hash_key(port->load_balancer));
	}
	return h;
}

/* A subset that says nothing of balancing is for routes as if it were not there. */
static bool balances(const Cfg__TrafficPolicy *p)
{
	return p && (p->load_balancer || p->n_port_level_settings);
}

static bool balances_by_place(const Cfg__LoadBalancerSettings *b)
{
	return b && (b->locality_lb_setting || b->zone_aware_lb_setting);
}

static bool locality_matters(const Cfg__TrafficPolicy *p)
{
	if (!p)
		return false;
	if (p->outlier_detection || balances_by_place(p->load_balancer))
		return true;
	for (size_t i = 0; i < p->n_port_level_settings; i++)
		if (p->port_level_settings[i]->outlier_detection ||
			balances_by_place(p->port_level_settings[i]->load_balancer))
			return true;
	return false;
}

static bool balancer_reads_labels(const Cfg__LoadBalancerSettings *b)
{
	return b && ((b->locality_lb_setting && b->locality_lb_setting->n_failover_priority) ||
			    (b->zone_aware_lb_setting && b->zone_aware_lb_setting->n_failover_priority));
}

static bool policy_reads_labels(const Cfg__TrafficPolicy *p)
{
	bool reads = p && balancer_reads_labels(p->load_balancer);

	for (size_t i = 0; p && i < p->n_port_level_settings; i++)
		reads |= balancer_reads_labels(p->port_level_settings[i]->load_balancer);
	return reads;
}

static bool rule_reads_labels(const Cfg__DestinationRule *dr)
{
	bool reads = dr->workload_selector || policy_reads_labels(dr->traffic_policy);

	for (size_t i = 0; i < dr->n_subsets; i++)
		reads |= policy_reads_labels(dr->subsets[i]->traffic_policy);
	return reads;
}

void destination_rule_emit(struct entry *e, struct emitter *em)
{
	const Cfg__DestinationRule *dr = e->value;
	struct str host = host_is_wildcard(str_of(dr->host)) ? STR("*") : str_of(dr->host);
	uint64_t scope = mix_list(mix_str(3, dr->host), dr->export_to, dr->n_export_to);
	uint64_t subsets, balancers;
	bool locality = locality_matters(dr->traffic_policy);

	scope = mix(mix(scope, (uint64_t)e->created_ms), dr->workload_selector ? pb_hash(dr->workload_selector) : 0);
	subsets = scope;
	balancers = balancer_hash(dr->traffic_policy, scope);
	for (size_t i = 0; i < dr->n_subsets; i++) {
		subsets = mix_str(subsets, dr->subsets[i]->name);
		if (balances(dr->subsets[i]->traffic_policy))
			balancers = balancer_hash(
				dr->subsets[i]->traffic_policy, mix_str(balancers, dr->subsets[i]->name));
		locality |= locality_matters(dr->subsets[i]->traffic_policy);
	}
	emit(em, Q_DR_HOST, host, e->hash, true);
	emit(em, Q_DR_SUBSETS, host, subsets, false);
	emit(em, Q_DR_BALANCER, host, balancers, false);
	if (locality)
		emit(em, Q_DR_LOCALITY, STR(""), 1, true);
	if (rule_reads_labels(dr))
		emit(em, Q_SOURCE_LABELS, STR(""), e->hash, true);
}
