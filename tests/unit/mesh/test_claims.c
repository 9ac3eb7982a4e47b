/* DOC: Paths of JWT claims in the names of header conditions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/mesh/claims.h"

static void P07_claims_are_dotted_or_in_brackets(void **state)
{
	static const struct {
		const char *header;
		const char *path[4];
	} cases[] = {
		{"@request.auth.claims.key1", {"key1"}},
		{"@request.auth.claims.key1.KEY2", {"key1", "KEY2"}},
		{"@Request.Auth.Claims.a-b", {"a-b"}},
		{"@request.auth.claims[key.1]", {"key.1"}},
		{"@request.auth.claims[a][b][c]", {"a", "b", "c"}},
	};
	struct arena *a cleanup(arena_free_p) = arena_new();

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str *path = NULL;
		size_t n = 0;

		assert_true(claims_path(a, str_of(cases[i].header), &path, &n));
		for (size_t j = 0; j < n; j++)
			assert_true(str_eqc(path[j], cases[i].path[j]));
		assert_null(cases[i].path[n]);
	}
}

static void P07_what_is_not_well_formed_is_no_claim(void **state)
{
	static const char *const cases[] = {"", "x-header", "request.auth.claims.a", "@request.auth.claims",
		"@request.auth.claims.", "@request.auth.claims-a", "@request.auth.claims.a..b",
		"@request.auth.claims.a.", "@request.auth.claims[]", "@request.auth.claims[a",
		"@request.auth.claims[a]b", "@request.auth.claims[a].b", "@request.auth.claims[[a]",
		"@request.auth.claims.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17"};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str *path;
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_false(claims_path(a, str_of(cases[i]), &path, &n));
	assert_true(claims_is(STR("@request.auth.claims-a")));
	assert_false(claims_is(STR("x-header")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P07_claims_are_dotted_or_in_brackets),
		cmocka_unit_test(P07_what_is_not_well_formed_is_no_claim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
