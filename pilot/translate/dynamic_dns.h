/*
 * Hosts that are looked up when a request or a connection names them: wildcard hosts of ServiceEntries with resolution DYNAMIC_DNS, and
 * unknown hosts under ALLOW_ANY_DYNAMIC_DNS. All filters and clusters of a proxy share one DNS cache.
 */
#pragma once

#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/feature.h"
#include "xds/dynamic_forward_proxy.pb-c.h"

bool dynamic_dns_used(struct view *v);
Dfp__DnsCacheConfig *dynamic_dns_cache(struct view *v, struct arena *a);
/* Makes a cluster of hosts by name; call before policy_apply(). */
void dynamic_dns_cluster(struct view *v, struct arena *a, Cds__Cluster *c);
/* The name that TLS says is looked up before the last filter of the chain. */
void dynamic_dns_by_sni(struct view *v, struct arena *a, Lds__FilterChain *chain, uint32_t port);
