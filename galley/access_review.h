/* Whether a service account may list the Secrets of its own namespace: the API server's question and answer (authorization.k8s.io/v1). Pure. */
#pragma once

#include "common/base/arena.h"
#include "common/base/str.h"

#define ACCESS_REVIEW_PATH "/apis/authorization.k8s.io/v1/subjectaccessreviews"

/* The body of a SubjectAccessReview; the caller's to free. The names are those of objects of the API server. */
char *access_review_question(struct str ns, struct str account);
/* *why in the arena: of a refusal. false: that is no answer. */
bool access_review_answer(struct arena *a, struct str json, bool *allowed, const char **why) MUST_CHECK;
