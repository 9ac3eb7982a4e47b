/* The traffic policy of a destination rule, resolved for one port and subset, and its effect on a cluster. */
#pragma once

#include "pilot/translate/build.h"
#include "pilot/translate/tls.h"
#include "xds/cluster.pb-c.h"

struct traffic_policy {
	const Cfg__LoadBalancerSettings *balancer;
	const Cfg__ConnectionPoolSettings *pool;
	const Cfg__OutlierDetection *outlier;
	const Cfg__ClientTLSSettings *tls;
	const Cfg__TrafficPolicy__TunnelSettings *tunnel;
	const Cfg__TrafficPolicy__ProxyProtocol *proxy_protocol;
	const Cfg__TrafficPolicy__RetryBudget *retry_budget;
	struct tls_by_host by_host; /* set by who knows the service */
};

/* The rule, then the subset over it; in each the settings of the port replace the four that a port has. Last the mesh's defaults. */
struct traffic_policy policy_resolve(
	const Mesh__MeshConfig *mesh, const Cfg__TrafficPolicy *rule, const Cfg__Subset *subset, uint32_t port);
/* Load balancer, connection pool, circuit breakers, outlier detection. Discovery type and name are set already. */
void policy_apply(struct arena *a, const struct traffic_policy *p, const Mesh__MeshConfig *mesh, Cds__Cluster *c);
/* Its hosts are looked up on demand (dynamic_dns.h). `type` and `cluster_type` are one union: ask this before either. */
bool cluster_is_by_name(const Cds__Cluster *c);
/* Wraps the transport sockets, which are set already, when the rule asks for the PROXY header. */
void policy_proxy_protocol(struct arena *a, const struct traffic_policy *p, Cds__Cluster *c);
/* How the places of caller and endpoints count. One setting holds: the rule's before the mesh's, zone-aware before locality. */
struct places {
	const Cfg__ZoneAwareLoadBalancerSetting *zones; /* Envoy balances between zones itself */
	const Cfg__LocalityLoadBalancerSetting *locality; /* NULL: nothing is said */
	bool weights; /* localities have the weights of `distribute` */
	bool failover; /* priorities: nearer ones first, others when these fail */
};
struct places policy_places(const struct traffic_policy *p, const Mesh__MeshConfig *mesh);

/* typed_extension_protocol_options of a cluster; nothing when Envoy's defaults are right. */
enum upstream_http { UPSTREAM_DEFAULT, UPSTREAM_HTTP2, UPSTREAM_AS_DOWNSTREAM };
void cluster_http_options(
	struct view *v, struct arena *a, Cds__Cluster *c, enum upstream_http http, const struct traffic_policy *p);
void cluster_no_limits(struct arena *a, Cds__Cluster *c);
