/*
 * AdmissionReview, admission.k8s.io/v1: reading a request and writing its answer. Pure: text in, text out. A request that is not understood is an
 * error of the caller (HTTP 400), never a refusal of an object.
 */
#pragma once

#include <jansson.h>

#include "common/base/diag.h"
#include "common/base/err.h"
#include "common/base/str.h"

struct review {
	json_t *root; /* owns the rest */
	const char *uid, *operation, *ns, *kind, *group;
	json_t *object; /* NULL: none (DELETE) */
	bool dry_run;
};

struct review_answer {
	bool allowed;
	const char *message; /* of a refusal */
	const struct diags *warnings; /* those of severity warning are shown to the user; NULL: none */
	json_t *patch; /* a JSON patch, NULL: none; borrowed */
};

bool review_parse(struct str body, struct review *out, struct err *e) MUST_CHECK;
void review_done(struct review *r);
/* The caller frees it. */
char *review_answer(const struct review *r, const struct review_answer *a);
