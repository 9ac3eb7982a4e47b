/*
 * Diagnostics are data: what is wrong with the user's configuration, all of it at once, each with the object, the
 * place in its source and the rule. Errors reject the object; warnings keep it; infos are advice.
 * A list lives in an arena; every string is copied into it.
 */
#pragma once

#include "common/base/arena.h"

enum diag_severity { DIAG_ERROR, DIAG_WARNING, DIAG_INFO, DIAG_SEVERITY_COUNT };

struct diag {
	enum diag_severity severity;
	const char *rule; /* short stable id: "unknown-field", "IST0101", "weight-range" ... */
	const char *object; /* "VirtualService default/reviews", or "" when the document has no name yet */
	const char *file; /* "" when not from a file */
	unsigned line; /* 1-based line of the offending node, 0 = unknown */
	unsigned column;
	const char *path; /* "spec.http[1].route[0].weight" */
	const char *text; /* value, range, and the source of the rule */
	const char *source; /* citation: "api: HTTPRouteDestination.weight" or "" */
};

struct diags {
	struct arena *arena;
	struct diag *items;
	size_t len;
	size_t cap;
	size_t errors; /* how many of severity DIAG_ERROR */
};

void diags_init(struct diags *d, struct arena *a);
/* Copies the strings; `fmt` makes the text. The returned item may be completed by the caller (line, source ...). */
struct diag *diag_add(struct diags *d, enum diag_severity severity, const char *rule, const char *path, const char *fmt,
	...) PRINTF_LIKE(5, 6);
const char *diag_severity_name(enum diag_severity s); /* "error", "warning", "info" */
/* "samples/x.yaml:12: error: VirtualService default/reviews: spec.http[0].timeout: text [rule]" */
char *diag_format(const struct diag *d); /* the caller frees it */
