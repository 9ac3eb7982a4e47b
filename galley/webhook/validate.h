/*
 * The validating webhook's answer to one request: the same pipeline as for files, on this one object alone. What only the whole configuration
 * can show (conflicts, missing references) is not its business: that becomes a diagnostic, since the order of applies is the user's.
 */
#pragma once

#include "common/base/str.h"
#include "galley/webhook/review.h"

struct validate_options {
	const char *domain_suffix;
};
/* The answer's JSON; the caller frees it. *refused says which. */
char *validate_review(const struct review *r, const struct validate_options *o, bool *refused);
