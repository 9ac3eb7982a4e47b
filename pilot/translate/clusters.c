/*
 * DOC: CDS. One cluster for each port of each visible service and for each of its subsets; the blackhole and passthrough clusters.
 * Clusters of a workload's own ports are in inbound_cluster.c.
 *
 * Mutual TLS is chosen for each endpoint (auto mTLS): the endpoint's metadata says tlsMode=istio, and a transport socket match picks
 * TLS for it and plaintext for the others. The SANs are asked as "accounts of the service", so that an endpoint that comes or goes
 * changes no cluster unless it brings an account of its own.
 */
#include "common/mesh/host.h"
#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/cluster_build.h"
#include "pilot/translate/connection_manager.h"
#include "pilot/translate/credentials.h"
#include "pilot/translate/dynamic_dns.h"
#include "pilot/translate/endpoint_build.h"
#include "pilot/translate/inbound.h"
#include "pilot/translate/listeners.h"
#include "pilot/translate/names.h"
#include "pilot/translate/translate.h"

static const char passthrough[] = "PassthroughCluster";
static const char any_host[] = "AllowAnyDynamicDNSCluster";
static const char blackhole[] = "BlackHoleCluster";

/* ---- names */
/* For gateways of other networks' traffic: the same cluster by the server name that clients send. */
static void add_names(
	struct arena *a, struct name_list *l, const Fl__Service *s, uint32_t port, const char *subset, bool by_sni)
{
	name_list_add(a, l, cluster_name_outbound(a, port, str_of(subset), str_of(s->hostname)));
	if (by_sni && !s->mesh_external)
		name_list_add(a, l, tls_sni(a, port, subset, s->hostname));
}

static void add_service_names(struct view *v, struct arena *a, const Fl__Service *s, struct name_list *l, bool by_sni)
{
	struct rule rule = view_rule(v, Q_DR_SUBSETS, str_of(s->hostname), str_of(s->namespace_));

	for (size_t i = 0; i < s->n_ports; i++) {
		uint32_t port = s->ports[i]->number;

		if (protocol_of(s->ports[i]->protocol) == PROTOCOL_UDP)
			continue;
		add_names(a, l, s, port, "", by_sni);
		for (size_t j = 0; j < rule.n_subsets; j++)
			add_names(a, l, s, port, rule.subsets[j]->name, by_sni);
	}
}

static void cds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	struct name_list list = {0};
	struct service_list services;
	bool by_sni = v->scope->attributes->type == PROXY_ROUTER && v->scope->kind == SCOPE_MESH &&
		      gateway_has_auto_passthrough(v);

	if (v->scope->kind == SCOPE_OWN) {
		inbound_cluster_names(v, a, &list);
	} else if (v->scope->kind == SCOPE_MESH) {
		name_list_add(a, &list, blackhole);
		if (v->scope->attributes->type == PROXY_SIDECAR)
			name_list_add(a, &list, passthrough);
		if (v->scope->attributes->type == PROXY_SIDECAR && view_unknown(v, NULL) == UNKNOWN_DNS)
			name_list_add(a, &list, any_host);
		view_services(v, &services);
		for (size_t i = 0; i < services.n; i++)
			add_service_names(v, a, services.items[i], &list, by_sni);
	}
	name_list_finish(&list, out, n);
}

static enum scope_kind cds_scope(struct str name)
{
	return inbound_is_cluster(name) ? SCOPE_OWN : SCOPE_MESH;
}

/* ---- fixed clusters */
static Cds__Cluster *build_passthrough(struct view *v, struct str name, struct arena *a)
{
	Cds__Cluster *c = cluster_original_dst(v, name, a, NULL);

	cluster_labels(a, c, "unknown", passthrough, "unknown");
	return c;
}

static Cds__Cluster *build_blackhole(struct view *v, struct str name, struct arena *a)
{
	Cds__Cluster *c = cluster_new(a, name, CDS__CLUSTER__DISCOVERY_TYPE__STATIC);
	const Wkt__Duration *timeout = view_mesh(v)->connect_timeout;

	c->connect_timeout = timeout ? build_duration(a, timeout) : build_ms(a, 10000);
	cluster_labels(a, c, "unknown", blackhole, "unknown");
	return c;
}

/* Any host that nobody knows, by its name. */
static Cds__Cluster *build_any_host(struct view *v, struct str name, struct arena *a)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);
	const Mesh__MeshConfig__DefaultTrafficPolicy *defaults = mesh->default_traffic_policy;
	struct traffic_policy p = {.pool = defaults ? defaults->connection_pool : NULL,
		.tls = mesh->outbound_traffic_policy ? mesh->outbound_traffic_policy->tls : NULL};
	Cds__Cluster *c;

	if (view_unknown(v, NULL) != UNKNOWN_DNS)
		return NULL;
	c = cluster_new(a, name, CDS__CLUSTER__DISCOVERY_TYPE__STATIC);
	dynamic_dns_cluster(v, a, c);
	policy_apply(a, &p, mesh, c);
	cluster_http_options(v, a, c, UPSTREAM_AS_DOWNSTREAM, &p);
	if (p.tls && p.tls->mode != CFG__CLIENT_TLSSETTINGS__TLSMODE__DISABLE)
		c->transport_socket = tls_client(v, a, p.tls, ALPN_HTTP_ANY, NULL);
	cluster_labels(a, c, "unknown", any_host, "unknown");
	return c;
}

/* ---- outbound */
static void set_discovery(struct view *v, struct arena *a, Cds__Cluster *c, const Fl__Service *s, const Fl__Port *port,
	const struct rule *r, const Cfg__Subset *subset)
{
	const struct proxy *own = v->scope->attributes;
	const Mesh__MeshConfig *mesh = view_mesh(v);

	switch (service_discovery(v, s)) {
	case DISCOVERY_EDS:
		c->type = CDS__CLUSTER__DISCOVERY_TYPE__EDS;
		c->eds_cluster_config = PB_NEW(a, Cds__Cluster__EdsClusterConfig, cds__cluster__eds_cluster_config);
		c->eds_cluster_config->eds_config = build_ads_source(a);
		c->eds_cluster_config->service_name = c->name;
		return;
	case DISCOVERY_ORIGINAL_DST:
		c->type = CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST;
		return;
	case DISCOVERY_BY_NAME:
		dynamic_dns_cluster(v, a, c);
		return;
	case DISCOVERY_DNS:
		c->type = CDS__CLUSTER__DISCOVERY_TYPE__STRICT_DNS;
		break;
	case DISCOVERY_DNS_LOGICAL:
		c->type = CDS__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS;
		break;
	}
	c->dns_lookup_family = !own->ipv6  ? CDS__CLUSTER__DNS_LOOKUP_FAMILY__V4_ONLY
			       : own->ipv4 ? CDS__CLUSTER__DNS_LOOKUP_FAMILY__ALL
					   : CDS__CLUSTER__DNS_LOOKUP_FAMILY__V6_ONLY;
	c->respect_dns_ttl = true;
	c->dns_refresh_rate = mesh->dns_refresh_rate ? build_duration(a, mesh->dns_refresh_rate) : build_ms(a, 60000);
	c->load_assignment = endpoints_for(v, a, c->name, s, port, r, subset);
}

/* On a port of unknown protocol requests say themselves that they are HTTP (features/sniffed_alpn.c). */
static enum alpn alpn_of(const char *protocol, enum upstream_http http)
{
	if (http == UPSTREAM_HTTP2 && protocol_of(protocol) != PROTOCOL_SNIFF)
		return ALPN_HTTP2;
	if (http != UPSTREAM_DEFAULT)
		return ALPN_HTTP_ANY;
	return protocol_of(protocol) == PROTOCOL_HTTP ? ALPN_HTTP1 : ALPN_TCP;
}

static void add_match(
	struct arena *a, Cds__Cluster *c, const char *name, const char *mode, Core__TransportSocket *socket)
{
	Cds__Cluster__TransportSocketMatch *m = PB_NEW(
		a, Cds__Cluster__TransportSocketMatch, cds__cluster__transport_socket_match);

	m->name = arena_strdup(a, name);
	m->match = build_struct(a);
	if (mode)
		struct_put(a, m->match, "tlsMode", mode);
	m->transport_socket = socket;
	pb_add(a, c, transport_socket_matches, m);
}

/* The endpoints of an ORIGINAL_DST cluster carry no metadata: TLS only if every workload of the service can. */
static bool all_mutual(struct view *v, const Fl__Service *s)
{
	const Fl__EndpointSet *set = view_endpoints(v, s);

	for (size_t i = 0; set && i < set->n_endpoints; i++)
		if (!set->endpoints[i]->tls_istio)
			return false;
	return set && set->n_endpoints;
}

static void set_auto_tls(
	struct view *v, struct arena *a, Cds__Cluster *c, const Fl__Service *s, enum alpn alpn, const char *sni)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);
	Core__TransportSocket *tls;
	struct str *sans;
	size_t n;

	if (s->mesh_external || cluster_is_by_name(c) || !bool_or(mesh->enable_auto_mtls, true))
		return;
	if (c->type == CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST && !all_mutual(v, s))
		return;
	view_accounts(v, s, &sans, &n);
	tls = tls_mutual_client(v, a, alpn, sni, sans, n);
	if (c->type == CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST) {
		c->transport_socket = tls;
		return;
	}
	add_match(a, c, "tlsMode-istio", "istio", tls);
	add_match(a, c, "tlsMode-disabled", NULL, tls_raw_buffer(a));
}

static void set_tls(struct view *v, struct arena *a, Cds__Cluster *c, const Fl__Service *s,
	const struct traffic_policy *p, enum alpn alpn, const struct cluster_name *name)
{
	const char *sni = tls_sni(a, name->port, arena_cstr(a, name->subset), s->hostname);
	struct str *sans;
	size_t n;

	if (!p->tls) {
		set_auto_tls(v, a, c, s, alpn, sni);
		return;
	}
	switch (p->tls->mode) {
	case CFG__CLIENT_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL:
		view_accounts(v, s, &sans, &n);
		if (p->tls->n_subject_alt_names) {
			n = p->tls->n_subject_alt_names;
			sans = arena_array(v->scratch, n, sizeof(*sans));
			for (size_t i = 0; i < n; i++)
				sans[i] = str_of(p->tls->subject_alt_names[i]);
		}
		c->transport_socket = tls_mutual_client(
			v, a, alpn, str_empty(p->tls->sni) ? sni : p->tls->sni, sans, n);
		return;
	case CFG__CLIENT_TLSSETTINGS__TLSMODE__SIMPLE:
	case CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL:
		c->transport_socket = tls_client(v, a, p->tls, alpn, s);
		return;
	case CFG__CLIENT_TLSSETTINGS__TLSMODE__DISABLE:
	default:
		return;
	}
}

/* A Secret that the rule names (not a ConfigMap) is for gateways, and for the sidecars that it selects; the others call without TLS. */
static void keep_credential(const struct view *v, const struct rule *r, struct traffic_policy *p)
{
	static const Cfg__ClientTLSSettings none = CFG__CLIENT_TLSSETTINGS__INIT;
	const Cfg__DestinationRule *dr = r->entry ? r->entry->value : NULL;

	if (v->scope->attributes->type == PROXY_SIDECAR && p->tls && !str_empty(p->tls->credential_name) &&
		!credential_is_public(p->tls->credential_name) && !(dr && dr->workload_selector) &&
		p->tls->mode != CFG__CLIENT_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL)
		p->tls = &none;
}

/* A rule's word holds for ports of unknown protocol, too; the mesh's only where HTTP is known to be spoken. */
static bool upgrades_to_http2(const char *protocol, const struct traffic_policy *p, const Mesh__MeshConfig *mesh)
{
	const Cfg__ConnectionPoolSettings__HTTPSettings *http = p->pool ? p->pool->http : NULL;

	if (http && http->h2_upgrade_policy != CFG__CONNECTION_POOL_SETTINGS__HTTPSETTINGS__H2_UPGRADE_POLICY__DEFAULT)
		return upstream_speaks_http(protocol) &&
		       http->h2_upgrade_policy ==
			       CFG__CONNECTION_POOL_SETTINGS__HTTPSETTINGS__H2_UPGRADE_POLICY__UPGRADE;
	return protocol_of(protocol) == PROTOCOL_HTTP &&
	       mesh->h2_upgrade_policy == MESH__MESH_CONFIG__H2_UPGRADE_POLICY__UPGRADE;
}

static enum upstream_http upstream_of(
	const Fl__Port *port, const struct traffic_policy *p, const Mesh__MeshConfig *mesh)
{
	enum upstream_http http = upstream_http_of(port->protocol, p->pool);

	return !pool_keeps_protocol(p->pool) && upgrades_to_http2(port->protocol, p, mesh) ? UPSTREAM_HTTP2 : http;
}

/* A session goes on at an endpoint that takes no new ones. */
static void keep_sessions(struct arena *a, Cds__Cluster *c, const Fl__Service *s)
{
	static const Core__HealthStatus statuses[] = {CORE__HEALTH_STATUS__UNKNOWN, CORE__HEALTH_STATUS__HEALTHY,
		CORE__HEALTH_STATUS__DRAINING, CORE__HEALTH_STATUS__DEGRADED};
	Core__HealthStatusSet *set;

	if (!c->common_lb_config || !service_has_sessions(s))
		return;
	set = PB_NEW(a, Core__HealthStatusSet, core__health_status_set);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		pb_add(a, set, statuses, statuses[i]);
	c->common_lb_config->override_host_status = set;
}

static Cds__Cluster *build_outbound(struct view *v, struct str name, struct arena *a)
{
	struct cluster_name parsed;
	bool by_sni = tls_sni_parse(name, &parsed);
	const Fl__Service *s = by_sni || cluster_name_parse(name, &parsed) ? view_service(v, parsed.host) : NULL;
	const Fl__Port *port = s ? service_port(s, parsed.port) : NULL;
	const Cfg__Subset *subset = NULL;
	struct traffic_policy policy;
	enum upstream_http http;
	Cds__Cluster *c;
	struct rule rule;

	if (!port || !str_eqc(parsed.direction, "outbound") || protocol_of(port->protocol) == PROTOCOL_UDP)
		return NULL;
	rule = view_rule(v, Q_DR_HOST, parsed.host, str_of(s->namespace_));
	if (parsed.subset.len && !(subset = rule_subset(&rule, parsed.subset)))
		return NULL;
	c = cluster_new(a, name, CDS__CLUSTER__DISCOVERY_TYPE__EDS);
	set_discovery(v, a, c, s, port, &rule, subset);
	policy = policy_resolve(view_mesh(v), rule.policy, subset, parsed.port);
	keep_credential(v, &rule, &policy);
	if (upstream_speaks_http(port->protocol))
		policy.by_host = tls_by_host(v, policy.tls, s);
	policy_apply(a, &policy, view_mesh(v), c);
	/* By server name, bytes pass as they are. */
	if (!by_sni) {
		http = upstream_of(port, &policy, view_mesh(v));
		cluster_http_options(v, a, c, http, &policy);
		set_tls(v, a, c, s, &policy, alpn_of(port->protocol, http), &parsed);
		policy_proxy_protocol(a, &policy, c);
	}
	keep_sessions(a, c, s);
	cluster_describe(a, c, s, parsed.port, &rule, parsed.subset);
	cluster_stat_name(a, c, view_mesh(v)->outbound_cluster_stat_name, s, port, arena_cstr(a, parsed.subset));
	return c;
}

static const ProtobufCMessage *cds_build(struct view *v, struct str name, struct arena *a)
{
	Cds__Cluster *c;

	if (str_eqc(name, passthrough))
		c = build_passthrough(v, name, a);
	else if (str_eqc(name, blackhole))
		c = build_blackhole(v, name, a);
	else if (str_eqc(name, any_host))
		c = build_any_host(v, name, a);
	else if (inbound_is_cluster(name))
		c = inbound_cluster(v, name, a);
	else
		c = build_outbound(v, name, a);
	if (c)
		cluster_settings(v, a, c);
	return c ? &c->base : NULL;
}

const struct translator cds_translator = {.names = cds_names, .build = cds_build, .scope = cds_scope};
