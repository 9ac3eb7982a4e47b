/* DOC: What the API server is asked about an account's right to list Secrets, and how its answers are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "galley/access_review.h"

static void P98_the_question_names_the_account_its_groups_and_its_namespace(void **state)
{
	char *text = access_review_question(STR("edge"), STR("gateway"));

	(void)state;
	assert_string_equal(text,
		"{\"apiVersion\":\"authorization.k8s.io/v1\",\"kind\":\"SubjectAccessReview\",\"spec\":"
		"{\"user\":\"system:serviceaccount:edge:gateway\",\"groups\":[\"system:serviceaccounts\","
		"\"system:serviceaccounts:edge\",\"system:authenticated\"],\"resourceAttributes\":"
		"{\"namespace\":\"edge\",\"verb\":\"list\",\"resource\":\"secrets\"}}}");
	free(text);
}

static void P98_only_a_clear_yes_is_one(void **state)
{
	static const struct {
		const char *json;
		bool answered, allowed;
		const char *why;
	} rows[] = {
		{"{\"status\":{\"allowed\":true,\"reason\":\"RBAC: allowed\"}}", true, true, ""},
		{"{\"status\":{\"allowed\":false,\"reason\":\"no rule\"}}", true, false, "no rule"},
		{"{\"status\":{\"allowed\":false,\"evaluationError\":\"role not found\"}}", true, false,
			"role not found"},
		{"{\"status\":{\"allowed\":false}}", true, false,
			"the account may not list the Secrets of its namespace"},
		{"{\"status\":{\"allowed\":true,\"denied\":true,\"reason\":\"both\"}}", true, false, "both"},
		{"{\"status\":{\"allowed\":\"true\"}}", false, false, NULL},
		{"{\"status\":{}}", false, false, NULL},
		{"{\"kind\":\"Status\"}", false, false, NULL},
		{"[true]", false, false, NULL},
		{"", false, false, NULL},
	};
	struct arena *a = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool allowed = false;
		const char *why = NULL;

		assert_int_equal(access_review_answer(a, str_of(rows[i].json), &allowed, &why), rows[i].answered);
		assert_int_equal(allowed, rows[i].allowed);
		if (rows[i].why)
			assert_string_equal(why, rows[i].why);
		else
			assert_null(why);
	}
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P98_the_question_names_the_account_its_groups_and_its_namespace),
		cmocka_unit_test(P98_only_a_clear_yes_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
