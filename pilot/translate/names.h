/* Names of clusters, listeners and routes, as Istio gives them. */
#pragma once

#include "common/mesh/protocol.h"
#include "common/pb/pb.h"
#include "pilot/model/query.h"

bool protocol_is_http2(const char *name);

/* "outbound|9080|v1|reviews.default.svc.cluster.local" */
struct cluster_name {
	struct str direction;
	uint32_t port;
	struct str subset;
	struct str host;
};
/* Where connections (http: requests) to destinations that nobody knows go. */
char *cluster_name_unknown(struct view *v, struct arena *a, bool http);
bool cluster_name_parse(struct str name, struct cluster_name *out);
char *cluster_name_outbound(struct arena *a, uint32_t port, struct str subset, struct str host);
char *cluster_name_inbound(struct arena *a, uint32_t port);

/* "0.0.0.0_9080" */
char *listener_name(struct arena *a, struct str address, uint32_t port);
bool listener_name_parse(struct str name, struct str *address, uint32_t *port);

/* How a proxy reaches the endpoints of a service. */
enum discovery { DISCOVERY_EDS, DISCOVERY_DNS, DISCOVERY_DNS_LOGICAL, DISCOVERY_ORIGINAL_DST, DISCOVERY_BY_NAME };
enum discovery service_discovery(const struct view *v, const Fl__Service *s);

/* Addresses that clients dial: declared or allocated; "0.0.0.0" counts as none. */
void service_vips(const struct view *v, const Fl__Service *s, struct str **out, size_t *n);

/* Sorted names without repetition, for translator.names. */
struct name_list {
	struct str *items;
	size_t n;
};
void name_list_add(struct arena *a, struct name_list *l, const char *name);
void name_list_finish(struct name_list *l, struct str **out, size_t *n);
