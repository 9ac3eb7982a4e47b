/*
 * JSON patch (RFC 6902) between two documents, for the mutating webhook: what an admission answer may hold. Lists whose items have been moved or
 * taken away are replaced whole; items that were added become single operations, so that what other webhooks did to the rest stays. Pure.
 */
#pragma once

#include <jansson.h>

/* The operations that make `to` out of `from`, in order; an empty array when both are equal. The caller owns it. */
json_t *json_patch(const json_t *from, const json_t *to);
