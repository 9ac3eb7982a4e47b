/* One AdmissionReview of a pod to its answer, with the JSON patch. Pure. */
#pragma once

#include "galley/webhook/inject.h"
#include "galley/webhook/review.h"

enum inject_result { INJECT_INJECTED, INJECT_SKIPPED, INJECT_UNCHANGED, INJECT_REFUSED, INJECT_RESULT_COUNT };

/* base: what is known of the namespace. path: /inject, /inject/cluster/x/net/y or /inject/:ENV:cluster=x:ENV:net=y. The answer's JSON; the caller frees it. *why gets the reason of a
 * refusal or of doing nothing. */
char *inject_review(const struct review *r, struct str path, const struct inject_options *o,
	const struct inject_request *base, enum inject_result *result, struct err *why);
