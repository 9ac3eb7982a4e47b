/* The ports of a workload's own services, or those that the ingress listeners of its Sidecar declare, with their clusters. */
#pragma once

#include "pilot/translate/cluster_build.h"
#include "pilot/translate/names.h"

/* Istio's: on what is sent in a client's name. Capture (agent/capture_rules.c) brings the answers to packets with it back to Envoy. */
#define TPROXY_MARK 1337

struct inbound_port {
	uint32_t number; /* 0: all that have no chains of their own */
	const Fl__Service *service; /* NULL: passed through, or an ingress listener that no service claims */
	const Fl__Port *port; /* of the service */
	enum protocol protocol;
	const char *cluster;
	const char *label; /* prefix of chain names */
	const Cfg__IstioIngressListener *ingress; /* NULL: known from services */
};

/* Ingress listeners replace what services say. Sorted by number. Arena: a. */
void inbound_ports(struct view *v, struct arena *a, struct inbound_port **out, size_t *n);
int inbound_port_cmp(const void *x, const void *y); /* by number, for qsort */
bool inbound_has_port(const struct inbound_port *list, size_t n, uint32_t number);
/* An ingress listener that Envoy binds: traffic to it is not captured. */
bool inbound_is_bound(const struct view *v, const struct inbound_port *p);
char *inbound_bound_name(struct arena *a, const struct inbound_port *p);

void inbound_cluster_names(struct view *v, struct arena *a, struct name_list *l);
bool inbound_is_cluster(struct str name);
Cds__Cluster *inbound_cluster(struct view *v, struct str name, struct arena *a); /* NULL: no such port */
