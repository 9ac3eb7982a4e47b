/*
 * A view is the model as one class of proxies sees it. Translators ask their questions through it and through nothing else; the view
 * records the read key of every question, also of those whose answer was "there is none".
 *
 * Proxies that see the same world share resources. There are two scopes: SCOPE_SHARED holds what depends only on the namespace (and the
 * Sidecar or gateway selection), i.e. all outbound resources; SCOPE_OWN holds what depends on the workload itself (labels, its own services),
 * i.e. inbound resources. A translator sees the scope's attributes, not the proxy, so it cannot use what is not part of the scope's key.
 */
#pragma once

#include "pilot/model/model.h"
#include "pilot/model/proxy.h"

enum scope_kind { SCOPE_SHARED, SCOPE_OWN, SCOPE_KIND_COUNT };

/* One service port that the proxy's own workload serves: where its address stands among the service's endpoints. */
struct instance {
	struct str service; /* "ns/host" */
	uint32_t port;
	uint32_t target_port;
};

struct scope {
	enum scope_kind kind;
	struct str key; /* equal keys: equal resources */
	const struct proxy *attributes; /* a proxy with only the fields that are part of the key; the rest is empty */
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
