/* DOC: SPIFFE IDs in Istio's path format: what parses, what is refused, round trip. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/mesh/spiffe.h"

static void an_identity_is_taken_apart_and_put_together(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct spiffe_id id;
	struct err e = {0};

	assert_true(spiffe_parse(STR("spiffe://cluster.local/ns/bookinfo/sa/Reviews_1"), &id, &e));
	assert_true(str_eqc(id.trust_domain, "cluster.local"));
	assert_true(str_eqc(id.ns, "bookinfo"));
	assert_true(str_eqc(id.service_account, "Reviews_1"));
	assert_string_equal(spiffe_format(a, id.trust_domain, id.ns, id.service_account),
		"spiffe://cluster.local/ns/bookinfo/sa/Reviews_1");
}

static void other_uris_are_refused(void **state)
{
	static const char *const rows[] = {"", "spiffe://", "spiffe://td", "spiffe://td/", "http://td/ns/a/sa/b",
		"SPIFFE://td/ns/a/sa/b", "spiffe:///ns/a/sa/b", "spiffe://TD/ns/a/sa/b", "spiffe://td:80/ns/a/sa/b",
		"spiffe://u@td/ns/a/sa/b", "spiffe://td/ns//sa/b", "spiffe://td/ns/a/sa/", "spiffe://td/ns/a/sa/b/",
		"spiffe://td/ns/a/sa/b/c", "spiffe://td/sa/b/ns/a", "spiffe://td/ns/../sa/b", "spiffe://td/ns/a/sa/.",
		"spiffe://td/ns/a%2f/sa/b", "spiffe://td/ns/a/sa/b?x", "spiffe://td/ns/a/sa/b#x",
		"spiffe://td//ns/a/sa/b", " spiffe://td/ns/a/sa/b"};
	struct spiffe_id id = {.ns = STR("kept")};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = {0};

		if (spiffe_parse(str_of(rows[i]), &id, &e))
			fail_msg("\"%s\" was taken", rows[i]);
		assert_int_equal(e.kind, ERR_PEER);
		assert_true(e.text[0]);
	}
	assert_true(str_eqc(id.ns, "kept"));
}

static void a_nul_byte_does_not_end_an_identity(void **state)
{
	struct spiffe_id id;

	assert_false(spiffe_parse(STR("spiffe://td/ns/a/sa/admin\0x"), &id, NULL));
}

static void the_length_is_limited(void **state)
{
	static char uri[3000];
	struct spiffe_id id;
	struct err e = {0};
	static const char head[] = "spiffe://td/ns/a/sa/";

	memset(uri, 'x', sizeof(uri));
	memcpy(uri, head, sizeof(head) - 1);
	assert_true(spiffe_parse(str_n(uri, 2048), &id, &e));
	assert_false(spiffe_parse(str_n(uri, 2049), &id, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_identity_is_taken_apart_and_put_together),
		cmocka_unit_test(other_uris_are_refused),
		cmocka_unit_test(a_nul_byte_does_not_end_an_identity),
		cmocka_unit_test(the_length_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
