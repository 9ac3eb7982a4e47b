/* Locality weights of DestinationRule.trafficPolicy.loadBalancer.localityLbSetting.distribute. */
#pragma once

#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/endpoint_build.h"

/* The pattern may end in a star: all below. */
bool locality_covers(struct str pattern, struct str locality);
/* 0: region, 1: zone, 2: sub-zone; empty when it is not said. */
struct str locality_part(struct str locality, size_t index);
/* How far an endpoint is from the proxy: first by failoverPriority, then by the places. 0 is nearest; there may be gaps. */
uint32_t locality_priority(struct view *v, const struct places *where, const Fl__Endpoint *ep);
/* Overwrites the weights of out's groups; localities without a weight get no traffic: their groups are dropped. */
void distribute_weights(
	struct arena *a, const Cfg__LocalityLoadBalancerSetting__Distribute *d, Eds__ClusterLoadAssignment *out);
