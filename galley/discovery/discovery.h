/*
 * Service discovery of one namespace: Services, EndpointSlices, Pods, WorkloadEntries and ServiceEntries become services and endpoint
 * sets in the one form of protos/cfg/model.proto. Pure: a function of its input; results live in the given arena.
 */
#pragma once

#include "cfg/mesh.pb-c.h"
#include "cfg/model.pb-c.h"
#include "cfg/networking/service_entry.pb-c.h"
#include "common/mesh/networks.h"
#include "galley/discovery/label_index.h"
#include "galley/object.h"

struct object_list {
	const struct object *const *items; /* in order of name */
	size_t n;
};

struct discovery_input {
	const char *ns;
	const char *domain_suffix;
	bool assume_sidecars, slices_only;
	struct object_list services, slices, pods, workloads, entries;
	struct object_list nodes; /* of the cluster */
	const char *cluster; /* its name */
	const struct network_list *networks; /* of endpoints that do not say theirs */
	char *const *export_to; /* the mesh's default, n_export_to > 0 */
	size_t n_export_to;
	/* filled in by discovery_build(): positions in workloads and pods by label */
	const struct label_index *workload_index, *pod_index;
	const struct map *pod_names, *pod_addresses; /* -> const struct object * */
	Mesh__ServiceEntryVisibility__Visibility
		visibility; /* how far ServiceEntries may be seen at most; 0: anywhere */
};

struct discovered {
	Fl__Service *service; /* auto_address is still empty */
	Fl__EndpointSet *endpoints;
	const char *origin;
	bool wants_address;
};

struct discovery_output {
	struct discovered *items; /* one per host name, in order of host name */
	size_t n;
};

void discovery_build(struct arena *a, const struct discovery_input *in, struct discovery_output *out);

/* ---- parts, for each other */

/* Fills *service from a Service / one host of a ServiceEntry. */
Fl__Service *discovery_service(struct arena *a, const struct discovery_input *in, const struct object *o);
Fl__Service *discovery_entry(
	struct arena *a, const struct discovery_input *in, const struct object *o, const char *host);
void discovery_service_endpoints(
	struct arena *a, const struct discovery_input *in, const struct object *o, Fl__EndpointSet *set);
void discovery_entry_endpoints(struct arena *a, const struct discovery_input *in, const struct object *o,
	const char *host, Fl__EndpointSet *set);

/* An endpoint without ports for a pod, a WorkloadEntry; NULL when it cannot serve (no address, finished). */
Fl__Endpoint *endpoint_of_pod(struct arena *a, const struct discovery_input *in, const struct object *pod);
Fl__Endpoint *endpoint_of_workload(struct arena *a, const struct discovery_input *in, const struct object *o);
Fl__Endpoint *endpoint_of_inline(
	struct arena *a, const struct discovery_input *in, const struct object *entry, const Cfg__WorkloadEntry *w);
/* Its network: what it says itself, else where the mesh says that the cluster ("": none) or the address is. */
char *endpoint_network(
	struct arena *a, const struct discovery_input *in, const char *said, const char *cluster, const char *address);
void endpoint_add_port(struct arena *a, Fl__Endpoint *e, const char *name, uint32_t number);
const struct object *pod_by_name(const struct discovery_input *in, const char *name);
const struct object *pod_by_address(const struct discovery_input *in, const char *address);

/* Addresses for services that have none, in 240.240.0.0/16: a function of the set of keys alone. keys are sorted, out has n places. */
struct allocated {
	const char *v4, *v6;
};
void allocate_addresses(struct arena *a, const struct str *keys, size_t n, struct allocated *out);
