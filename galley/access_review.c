#include "galley/access_review.h"

#include <jansson.h>

/*
 * DOC: SubjectAccessReview. A service account is asked about with the groups that it has at the API server, so that a right which is given to
 * all accounts of a namespace counts. What is not clearly allowed is refused.
 */

#define USER "system:serviceaccount:"
#define GROUP "system:serviceaccounts"
#define REASON_MAX 300

char *access_review_question(struct str ns, struct str account)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const char *user = arena_printf(a, USER STR_FMT ":" STR_FMT, STR_ARG(ns), STR_ARG(account));
	const char *group = arena_printf(a, GROUP ":" STR_FMT, STR_ARG(ns));
	json_t *j = json_pack("{s:s, s:s, s:{s:s, s:[s, s, s], s:{s:s%, s:s, s:s}}}", "apiVersion",
		"authorization.k8s.io/v1", "kind", "SubjectAccessReview", "spec", "user", user, "groups", GROUP, group,
		"system:authenticated", "resourceAttributes", "namespace", ns.ptr, ns.len, "verb", "list", "resource",
		"secrets");
	char *text = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	assert(text);
	return text;
}

static const char *reason(struct arena *a, const json_t *status)
{
	static const char *const names[] = {"reason", "evaluationError"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *text = json_string_value(json_object_get(status, names[i]));
		if (!str_empty(text))
			return arena_cstr(a, str_n(text, min_size(strlen(text), REASON_MAX)));
	}
	return "the account may not list the Secrets of its namespace";
}

bool access_review_answer(struct arena *a, struct str json, bool *allowed, const char **why)
{
	json_t *j = json_loadb(json.ptr ? json.ptr : "", json.len, 0, NULL);
	const json_t *status = json_object_get(j, "status");
	const bool answered = json_is_boolean(json_object_get(status, "allowed"));
	if (answered) {
		*allowed = json_is_true(json_object_get(status, "allowed")) &&
			   !json_is_true(json_object_get(status, "denied"));
		*why = *allowed ? "" : reason(a, status);
	}
	json_decref(j);
	return answered;
}
