/* DOC: Envoy's dynamic forward proxy. The cache's settings are the same everywhere: Envoy refuses two caches of one name that differ. */
#include "pilot/translate/dynamic_dns.h"

#include "pilot/translate/listeners.h"
#include "xds/dynamic_forward_proxy_cluster.pb-c.h"
#include "xds/sni_dynamic_forward_proxy.pb-c.h"

bool dynamic_dns_used(struct view *v)
{
	bool sidecar = v->scope->attributes->type == PROXY_SIDECAR;

	return view_has_dynamic(v) || (sidecar && view_unknown(v, NULL) == UNKNOWN_DNS);
}

Dfp__DnsCacheConfig *dynamic_dns_cache(struct view *v, struct arena *a)
{
	const struct proxy *own = v->scope->attributes;
	Dfp__DnsCacheConfig *d = PB_NEW(a, Dfp__DnsCacheConfig, dfp__dns_cache_config);

	d->name = arena_strdup(a, "dynamic_dns");
	d->dns_lookup_family = own->ipv6 && !own->ipv4 ? CDS__CLUSTER__DNS_LOOKUP_FAMILY__V6_ONLY
						       : CDS__CLUSTER__DNS_LOOKUP_FAMILY__V4_PREFERRED;
	d->dns_refresh_rate = build_duration(a, view_mesh(v)->dns_refresh_rate);
	return d;
}

void dynamic_dns_cluster(struct view *v, struct arena *a, Cds__Cluster *c)
{
	DfpCluster__ClusterConfig *config = PB_NEW(a, DfpCluster__ClusterConfig, dfp_cluster__cluster_config);

	config->dns_cache_config = dynamic_dns_cache(v, a);
	config->allow_insecure_cluster_options = true; /* cluster_http_options() decides */
	config->cluster_implementation_specifier_case =
		DFP_CLUSTER__CLUSTER_CONFIG__CLUSTER_IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG;
	c->cluster_type = PB_NEW(a, Cds__Cluster__CustomClusterType, cds__cluster__custom_cluster_type);
	c->cluster_type->name = arena_strdup(a, "envoy.clusters.dynamic_forward_proxy");
	c->cluster_type->typed_config = pb_any(a, config);
	c->cluster_discovery_type_case = CDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE;
}

void dynamic_dns_by_sni(struct view *v, struct arena *a, Lds__FilterChain *chain, uint32_t port)
{
	SniDfp__FilterConfig *config = PB_NEW(a, SniDfp__FilterConfig, sni_dfp__filter_config);

	config->dns_cache_config = dynamic_dns_cache(v, a);
	config->port_value = port;
	config->port_specifier_case = SNI_DFP__FILTER_CONFIG__PORT_SPECIFIER_PORT_VALUE;
	chain_prepend(a, chain, "envoy.filters.network.sni_dynamic_forward_proxy", config);
}
