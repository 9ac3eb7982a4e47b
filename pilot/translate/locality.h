/* Locality weights of DestinationRule.trafficPolicy.loadBalancer.localityLbSetting.distribute. */
#pragma once

#include "pilot/translate/endpoint_build.h"

/* The pattern may end in a star: all below. */
bool locality_covers(struct str pattern, struct str locality);
/* 0: region, 1: zone, 2: sub-zone; empty when it is not said. */
struct str locality_part(struct str locality, size_t index);
/* failoverPriority: how many labels of the list, from its end, an endpoint lacks; 0 is best. */
uint32_t failover_rank(struct view *v, const Cfg__LocalityLoadBalancerSetting *s, const Fl__Endpoint *ep);
/* Overwrites the weights of out's groups; localities without a weight get no traffic: their groups are dropped. */
void distribute_weights(
	struct arena *a, const Cfg__LocalityLoadBalancerSetting__Distribute *d, Eds__ClusterLoadAssignment *out);
