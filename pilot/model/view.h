/*
 * A view is the model as one class of proxies sees it. Translators ask their questions through it and through nothing else; the view
 * records the read key of every question, also of those whose answer was "there is none".
 *
 * Proxies that see the same world share resources. There are four scopes. SCOPE_MESH holds what most sidecars of a mesh have in common:
 * clusters and listeners of outbound calls. SCOPE_PLACE holds endpoints, whose order may depend on where the caller is. SCOPE_SHARED holds what depends on short names or on a verified namespace as well:
 * routes, virtual hosts and Secrets. The namespace (and a Sidecar or a gateway's selection) is part of these scopes where it matters
 * (singled.h). SCOPE_OWN holds what depends on the workload itself (labels, its own services), i.e. inbound resources. A translator sees
 * the scope's attributes, not the proxy, so it cannot use what is not part of the scope's key.
 */
#pragma once

#include "pilot/model/model.h"
#include "pilot/model/proxy.h"

enum scope_kind { SCOPE_MESH, SCOPE_PLACE, SCOPE_SHARED, SCOPE_OWN, SCOPE_KIND_COUNT };
const char *scope_kind_name(enum scope_kind k);

/* One service port that the proxy's own workload serves: where its address stands among the service's endpoints. */
struct instance {
	struct str service; /* "ns/host" */
	uint32_t port;
	uint32_t target_port;
};

struct scope {
	enum scope_kind kind;
	struct str key; /* equal keys: equal resources */
	/* A proxy with only the fields that are part of the key; the rest is empty. Without a namespace: that of any that nothing singles out. */
	const struct proxy *attributes;
	struct str domain_suffix; /* "cluster.local"; part of the key */
	struct str sidecar; /* "ns/name" of the Sidecar object that applies, empty: none; part of the key */
	const struct instance *instances; /* OWN and gateways: part of the key; sorted */
	size_t n_instances;
};

/* Where a resource came from, for NACK reports and `explain`: "VirtualService default/reviews", "bookinfo.yaml:12". */
struct source_ref {
	const char *object;
	const char *origin;
	uint32_t topic;
	struct str key;
	uint64_t hash; /* of the content */
	uint64_t since; /* version of the model that brought this content */
};

struct view {
	const struct model *model;
	const struct scope *scope;
	struct read_keys *reads; /* where questions are recorded; NULL: not recorded */
	struct arena *scratch; /* for answers that must be computed */
	/* NULL, or gets every configuration object that an answer contained. */
	void (*on_source)(void *ctx, const struct source_ref *s);
	void *ctx;
};

/* The scopes of a proxy in this model; strings in the arena. The question is itself recorded (a Sidecar that appears changes the scope). */
const struct scope *scope_of(
	struct arena *a, const struct model *m, const struct proxy *p, enum scope_kind kind, struct read_keys *reads);
