/* The objects that have a status: those of Istio's kinds, with what they became on the bus and how far that is distributed. */
#pragma once

#include "common/mesh/kinds.h"
#include "galley/galley.h"
#include "galley/status/distribution.h"

struct status_object {
	const char *key; /* "VirtualService/default/reviews" */
	const struct kind *kind;
	const char *ns, *name;
	bool newest; /* the newest version is the one in force */
	bool in_force; /* a version is */
	bool applied; /* pilots of this version read the kind */
	bool distributed; /* it becomes values of the bus: share says how far they are */
	const char *reason; /* why the newest version is not in force: the rule; "" */
	struct share share;
};

/* Of one (only: its key, in either case of letters) or all (NULL), in no order. The object is valid during the call. */
void status_each(const struct galley *g, const struct distribution *d, const char *only,
	void (*fn)(void *ctx, const struct status_object *o), void *ctx);
/* {"pilots", "proxies", "connecting", "refusal", "objects": [{"key", "newest", "in_force", "applied", "accepted", "rejected", "error"}]} */
/* generation: of an object by its key, NULL: nobody knows. */
void status_json(const struct galley *g, const struct distribution *d, const char *only,
	int64_t (*generation)(void *ctx, const char *key), void *ctx, struct strbuf *json);
