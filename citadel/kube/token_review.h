/*
 * Who is behind a token, by the API server's word (authentication.k8s.io/v1 TokenReview), remembered for a short while. Memory and work are
 * bounded: at most LIMIT_TOKEN_REVIEWS answers are kept, of which the oldest gives way; one question per token at a time, whoever asks; more
 * than LIMIT_TOKEN_REVIEWS_OPEN questions are not asked. Tokens are kept as SHA-256 only. Owner thread: the loop's.
 */
#pragma once

#include "citadel/authn/authn.h"
#include "common/kube/kube.h"

struct reviews;

enum review_result {
	REVIEW_GOOD, /* text: "system:serviceaccount:<namespace>:<name>" */
	REVIEW_BAD, /* text: why */
	REVIEW_NO_ANSWER, /* the API server is away, or does not let us ask; text: why */
	REVIEW_RESULT_COUNT
};
/* text and pod are borrowed for the call; the pod is that of a good token. */
typedef void (*review_done)(void *ctx, enum review_result result, struct str text, const struct authn_pod *pod);

/* audiences: NULL-terminated, borrowed for life; the token must be for one of them. */
struct reviews *reviews_new(struct kube *api, const char *const *audiences);
void reviews_free(struct reviews *r); /* who waits gets REVIEW_NO_ANSWER */
/* done() comes exactly once, perhaps at once. */
void reviews_ask(struct reviews *r, struct str token, review_done done, void *ctx);
void reviews_debug(const struct reviews *r, struct strbuf *json);

/*
 * The API server's answer. REVIEW_GOOD only for an authenticated service account whose token is for one of the audiences; a server that names no
 * audience did not look at them (Kubernetes API, TokenReviewStatus). *text and *pod, what a good token is bound to, are in the arena. Pure.
 */
enum review_result review_parse(
	struct arena *a, struct str json, const char *const *audiences, struct str *text, struct authn_pod *pod);
