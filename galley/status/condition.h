/*
 * What an object's status says, as JSON: two conditions (Reconciled, as Istio writes it, and AcceptedByProxies), validationMessages from the
 * analysis, observedGeneration. Pure but for jansson's memory.
 */
#pragma once

#include <jansson.h>

#include "common/base/diag.h"
#include "galley/status/objects.h"

#define CONDITION_RECONCILED "Reconciled"
#define CONDITION_ACCEPTED "AcceptedByProxies"

struct status_input {
	const struct status_object *object;
	int64_t generation;
	const struct diag *const *messages; /* of the object, by their analysis codes */
	size_t n_messages;
};

/* {"conditions", "observedGeneration", "validationMessages"} without times; the caller decrefs. */
json_t *status_build(const struct status_input *in);
/* What of a status in a cluster is ours, in the same form; NULL: nothing. `foreign` gets the conditions of others, NULL when there are none. */
json_t *status_own(const json_t *status, json_t **foreign);
/* What an API server may have dropped (texts of messages) is left out of both; `urgent` is what must be told at once, without counts. */
struct status_hash {
	uint64_t all, urgent;
};
struct status_hash status_hash(const json_t *status);
/* The whole to write: times of what did not change come from `before` (NULL: none), foreign conditions are kept. */
json_t *status_complete(const json_t *wanted, const json_t *before, const json_t *foreign, const char *now);
