/* Parts of clusters that outbound and inbound ones share. */
#pragma once

#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/names.h"

Cds__Cluster *cluster_new(struct arena *a, struct str name, Cds__Cluster__DiscoveryType type);
/* To where the client dialled, in the protocol it speaks; pool NULL: the mesh's. */
Cds__Cluster *cluster_original_dst(
	struct view *v, struct str name, struct arena *a, const Cfg__ConnectionPoolSettings *pool);
/* The labels of the standard metrics that describe the destination service. */
void cluster_labels(struct arena *a, Cds__Cluster *c, const char *host, const char *name, const char *ns);
/* Istio's metadata of a service's cluster, and the labels. r NULL: no rule. */
void cluster_describe(
	struct arena *a, Cds__Cluster *c, const Fl__Service *s, uint32_t port, const struct rule *r, struct str subset);
bool upstream_speaks_http(const char *protocol); /* it does, or may */
bool pool_keeps_protocol(const Cfg__ConnectionPoolSettings *pool); /* useClientProtocol; NULL: no */
enum upstream_http upstream_http_of(const char *protocol, const Cfg__ConnectionPoolSettings *pool);
/* "%SERVICE%_%SERVICE_PORT%" of the mesh config; pattern empty: nothing. */
void cluster_stat_name(struct arena *a, Cds__Cluster *c, const char *pattern, const Fl__Service *s,
	const Fl__Port *port, const char *subset);
