/*
 * What a proxy says of itself in its first request: Node id "type~ip~name.namespace~domain", cluster, locality and the metadata that
 * Istio's agents send (NAMESPACE, LABELS, SERVICE_ACCOUNT, WORKLOAD_NAME, CLUSTER_ID, NETWORK, REQUESTED_NETWORK_VIEW, INSTANCE_IPS, ISTIO_VERSION,
 * MESH_ID, PROXY_CONFIG, INTERCEPTION_MODE ...). Parsed once per stream into an arena; immutable afterwards.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "cfg/mesh.pb-c.h"
#include "xds/core.pb-c.h"

enum proxy_type { PROXY_SIDECAR, PROXY_ROUTER, PROXY_WAYPOINT, PROXY_TYPE_COUNT };

struct proxy_label {
	struct str key, value;
};

/* A version of an object that this very proxy refused: the version before answers in its place, or none when `absent`. */
struct hidden {
	uint32_t topic;
	struct str key;
	uint64_t hash;
	bool absent;
};

struct proxy {
	enum proxy_type type;
	struct str id; /* whole node id */
	struct str name; /* pod name */
	struct str ns;
	struct str domain; /* dns domain, "default.svc.cluster.local" */
	struct str ip; /* first */
	struct str *ips;
	size_t n_ips;
	bool ipv4, ipv6; /* families of its addresses */
	struct proxy_label *labels; /* sorted by key */
	size_t n_labels;
	struct str service_account;
	struct str workload;
	struct str cluster_id;
	struct str network; /* empty: it does not say */
	struct str *network_view; /* REQUESTED_NETWORK_VIEW: it sees endpoints of these alone, and of none; sorted */
	size_t n_network_view; /* 0: of all */
	struct str locality; /* region/zone/subzone */
	struct str version; /* ISTIO_VERSION */
	struct str *extensions; /* names Envoy offers, sorted; empty: unknown = all of stock Envoy's */
	size_t n_extensions;
	struct str verified_ns; /* its namespace, when its certificate proved it; empty: it gets no Secret */
	struct str verified_account; /* its service account, likewise */
	bool lists_secrets; /* of a scope: the account may list the Secrets of the namespace */
	const Mesh__ProxyConfig *config; /* of PROXY_CONFIG what decides about traffic; NULL: nothing is said */
	struct str register_group; /* AUTO_REGISTER_GROUP: the WorkloadGroup of a workload that registers itself */
	bool probed; /* its agent runs the readiness probe of its ProxyConfig */
	bool own_gateways; /* of its namespace alone: an option of pilot's */
	bool no_capture; /* INTERCEPTION_MODE NONE */
	bool transparent; /* INTERCEPTION_MODE TPROXY: connections keep their addresses on their way to it and from it */
	bool self_discovery; /* ENABLE_SELF_DISCOVERY: it has a cluster of its own instances, for zone-aware balancing */
	bool vhds; /* FAIRLEAD_VHDS: virtual hosts are resources of their own; delta only, Envoy 1.37 or later */
	bool shadow_suffix; /* FAIRLEAD_SHADOW_SUFFIX: "-shadow" is added to the Host of mirrored requests */
	const struct hidden *hidden; /* of the session (xds/trial.c) */
	size_t n_hidden;
};

/* Errors name what is missing: ERR_PEER. */
bool proxy_parse(struct arena *a, const Core__Node *node, struct proxy **out, struct err *e) MUST_CHECK;
const struct str *proxy_label(const struct proxy *p, struct str key); /* NULL: absent */
