/* Endpoints of other networks: a proxy reaches them by the gateways of their networks, or not at all. */
#pragma once

#include "pilot/translate/cluster_policy.h"

/* A place in a load assignment: an endpoint, or a gateway that stands for endpoints of its network. */
struct member {
	const Fl__Endpoint *endpoint; /* NULL: a gateway */
	const Fl__Network__Gateway *gateway;
	uint32_t port, weight;
	struct str locality;
	uint32_t priority;
	bool ready; /* it takes new requests */
	size_t order; /* among those of one priority and locality */
};

struct calls {
	const Fl__Service *service;
	const struct traffic_policy *policy;
	bool by_sni; /* for a gateway that passes mutual TLS on: only what serves it counts */
};

/* Its workload serves mutual TLS: it has a proxy, and no policy disables it there. */
bool serves_mutual(struct view *v, const Fl__Endpoint *ep, uint32_t port);

/*
 * *list, in order of priority and locality, becomes what the scope's proxies can reach. True: it is another list now, and not in order; its
 * array is the view's.
 */
bool members_reach(struct view *v, const struct calls *c, struct member **list, size_t *n);
