/* The networks of the mesh as far as whole clusters and ranges of addresses are in them, for workloads that do not say their network. */
#pragma once

#include "cfg/model.pb-c.h"
#include "common/base/str.h"

#define LABEL_NETWORK "topology.istio.io/network"
/* Annotation of a NodePort Service that is a gateway: labels of the nodes by which it is reached. */
#define ANNOTATION_NODES "traffic.istio.io/nodeSelector"
#define LABEL_GATEWAY_PORT "networking.istio.io/gatewayPort" /* of a gateway's Service */

/* The port that the label says, Istio's 15443 without one (NULL); false: it says no port, and 15443 is taken. */
bool network_gateway_port(const char *label, uint32_t *port);

struct network_list {
	Fl__Network *const *items; /* in order of name */
	size_t n;
};

/*
 * NULL: in none. As Istio orders it: the network of the root namespace's label, then that with the cluster, then that with the address; of
 * several blocks the longest. cluster "": something outside of the mesh, for which only its address counts.
 */
const char *network_find(const struct network_list *list, struct str cluster, struct str address);
