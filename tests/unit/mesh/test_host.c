/* DOC: Host names by Istio's rules: short names, wildcards, order, checks, aliases. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "common/mesh/host.h"

#define SUFFIX STR("cluster.local")

static void P01_short_names_are_of_the_objects_namespace(void **state)
{
	static const char *const rows[][2] = {
		{"reviews", "reviews.bookinfo.svc.cluster.local"},
		{"Reviews", "reviews.bookinfo.svc.cluster.local"},
		{"reviews.other", "reviews.other"},
		{"example.com", "example.com"},
		{"*", "*"},
		{"*.example.com", "*.example.com"},
		{"*-x", "*-x"},
		{"::1", "::1"},
		{"", ""},
	};
	cleanup(arena_free_p) struct arena *a = arena_new();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(host_resolve(a, str_of(rows[i][0]), STR("bookinfo"), SUFFIX).ptr, rows[i][1]);
}

static void P01_patterns_cover_hosts(void **state)
{
	static const struct {
		const char *pattern;
		const char *host;
		bool matches;
		bool overlaps;
	} rows[] = {
		{"a.com", "a.com", true, true},
		{"a.com", "A.COM", true, true},
		{"a.com", "b.com", false, false},
		{"*", "a.com", true, true},
		{"*", "*", true, true},
		{"*.com", "a.com", true, true},
		{"*.com", "a.b.com", true, true},
		{"*.com", "com", false, false},
		{"*.com", "xcom", false, false},
		{"*.com", "*.a.com", true, true},
		{"*.a.com", "*.com", false, true},
		{"*.a.com", "*.b.com", false, false},
		{"a.com", "*.com", false, true},
		{"a.com", "*", false, true},
		{"a.com", "*.org", false, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str pattern = str_of(rows[i].pattern);
		struct str host = str_of(rows[i].host);

		if (host_matches(pattern, host) != rows[i].matches)
			fail_msg("%s covers %s", rows[i].pattern, rows[i].host);
		if (host_overlaps(pattern, host) != rows[i].overlaps ||
			host_overlaps(host, pattern) != rows[i].overlaps)
			fail_msg("%s overlaps %s", rows[i].pattern, rows[i].host);
	}
}

static int by_specificity(const void *x, const void *y)
{
	return host_specificity(str_of(*(const char *const *)x), str_of(*(const char *const *)y));
}

static void P01_exact_beats_longest_wildcard(void **state)
{
	const char *hosts[] = {"*", "b.com", "*.com", "*.example.com", "longer.com", "a.com", "*.foo.com"};
	static const char *const wanted[] = {
		"longer.com", "a.com", "b.com", "*.example.com", "*.foo.com", "*.com", "*"};

	qsort(hosts, ARRAY_LEN(hosts), sizeof(hosts[0]), by_specificity);
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		assert_string_equal(hosts[i], wanted[i]);
	assert_int_equal(host_specificity(STR("A.com"), STR("a.com")), 0);
}

static void valid_names_are_accepted(void **state)
{
	static const char *const rows[] = {"a", "reviews", "a-b.c", "1a.b", "example.com.", "A.B",
		"123456789012345678901234567890123456789012345678901234567890123.x"};
	static const char *const wildcards[] = {"*", "*.com", "*.a.b", "*-x.com"};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_null(host_check(str_of(rows[i]), false));
		assert_null(host_check(str_of(rows[i]), true));
	}
	for (size_t i = 0; i < ARRAY_LEN(wildcards); i++) {
		assert_null(host_check(str_of(wildcards[i]), true));
		assert_non_null(host_check(str_of(wildcards[i]), false));
	}
}

static void invalid_names_are_refused_with_a_reason(void **state)
{
	static const char *const rows[] = {"", ".", "..", "a..b", ".a", "-a", "a-", "a_b", "a b", "a/b", "a.*", "a*",
		"*a", "**", "*.", "*..a", "*.*.a", "*-", "10.0.0.1", "a.1", "a:80", "gr\xc3\xbcn.de",
		"1234567890123456789012345678901234567890123456789012345678901234.x"};
	char long_name[300];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!host_check(str_of(rows[i]), true))
			fail_msg("\"%s\" was accepted", rows[i]);
	}
	for (size_t i = 0; i < sizeof(long_name); i++)
		long_name[i] = i % 2 ? '.' : 'a';
	assert_null(host_check(str_n(long_name, 255), false));
	assert_non_null(host_check(str_n(long_name, 257), false));
}

static void services_are_split_into_name_and_namespace(void **state)
{
	static const char *const others[] = {"example.com", "svc.cluster.local", ".ns.svc.cluster.local",
		"name..svc.cluster.local", "a.b.bookinfo.svc.cluster.local", "name.ns.svc.cluster.localx",
		"name.ns.svc.xcluster.local", "name.svc.cluster.local", "*.ns.svc.cluster.local", "cluster.local", ""};
	struct str name, ns;

	assert_true(host_split_service(STR("reviews.bookinfo.svc.cluster.local"), SUFFIX, &name, &ns));
	assert_true(str_eqc(name, "reviews") && str_eqc(ns, "bookinfo"));
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (host_split_service(str_of(others[i]), SUFFIX, &name, &ns))
			fail_msg("%s", others[i]);
	}
	assert_false(host_split_service(STR("a.b.svc."), STR(""), &name, &ns));
}

static void P01_a_service_is_called_by_its_aliases(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct str out[4];

	assert_int_equal(host_aliases(a, STR("reviews.bookinfo.svc.cluster.local"), STR("bookinfo"), SUFFIX, out), 4);
	assert_string_equal(out[0].ptr, "reviews.bookinfo.svc.cluster.local");
	assert_string_equal(out[1].ptr, "reviews.bookinfo.svc");
	assert_string_equal(out[2].ptr, "reviews.bookinfo");
	assert_string_equal(out[3].ptr, "reviews");
	assert_int_equal(host_aliases(a, STR("reviews.bookinfo.svc.cluster.local"), STR("other"), SUFFIX, out), 3);
	assert_int_equal(host_aliases(a, STR("example.com"), STR("bookinfo"), SUFFIX, out), 1);
	assert_string_equal(out[0].ptr, "example.com");
}

static bool owns(struct arena *a, const char *host, const char *client_ns, struct str alias)
{
	struct str out[3];
	size_t n = host_alias_owners(a, alias, str_of(client_ns), SUFFIX, out);

	for (size_t i = 0; i < n; i++)
		if (str_eqc(out[i], host))
			return true;
	return false;
}

static void P01_who_is_called_by_an_alias(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	static const char *const hosts[] = {"reviews.bookinfo.svc.cluster.local", "example.com", "short",
		"reviews.bookinfo", "a.b.bookinfo.svc.cluster.local"};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct str out[4];
		size_t n = host_aliases(a, str_of(hosts[i]), STR("bookinfo"), SUFFIX, out);

		for (size_t k = 0; k < n; k++)
			assert_true(owns(a, hosts[i], "bookinfo", out[k]));
	}
	assert_false(owns(a, "reviews.bookinfo.svc.cluster.local", "other", STR("reviews")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P01_short_names_are_of_the_objects_namespace),
		cmocka_unit_test(P01_patterns_cover_hosts),
		cmocka_unit_test(P01_exact_beats_longest_wildcard),
		cmocka_unit_test(valid_names_are_accepted),
		cmocka_unit_test(invalid_names_are_refused_with_a_reason),
		cmocka_unit_test(services_are_split_into_name_and_namespace),
		cmocka_unit_test(P01_a_service_is_called_by_its_aliases),
		cmocka_unit_test(P01_who_is_called_by_an_alias),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
