/* DOC: Names of certificates: which scheme, whose namespace, key or CA; and what is no such name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/mesh/credential.h"

static void P49_P98_schemes_of_certificates(void **state)
{
	static const struct {
		const char *text;
		enum credential_source source;
		const char *ns, *name;
		bool ca;
	} rows[] = {
		{"kubernetes://web", CREDENTIAL_SECRET, "", "web", false},
		{"kubernetes://web-cacert", CREDENTIAL_SECRET, "", "web-cacert", true},
		{"kubernetes://edge/web", CREDENTIAL_SECRET, "edge", "web", false},
		{"kubernetes-gateway://edge/web", CREDENTIAL_GATEWAY_SECRET, "edge", "web", false},
		{"kubernetes-gateway://edge/web-cacert", CREDENTIAL_GATEWAY_SECRET, "edge", "web-cacert", true},
		{"configmap://edge/roots", CREDENTIAL_CONFIG_MAP, "edge", "roots", true},
		{"configmap://edge/roots-cacert", CREDENTIAL_CONFIG_MAP, "edge", "roots", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct credential_ref r;

		assert_true(credential_parse(str_of(rows[i].text), &r));
		assert_int_equal(r.source, rows[i].source);
		assert_true(str_eqc(r.ns, rows[i].ns) && str_eqc(r.name, rows[i].name));
		assert_int_equal(r.ca, rows[i].ca);
	}
}

static void P49_what_is_no_name_of_a_certificate(void **state)
{
	static const char *const rows[] = {"", "web", "ROOTCA", "kubernetes://", "kubernetes:///web",
		"kubernetes://edge/", "kubernetes://a/b/c", "kubernetes-gateway://web", "kubernetes-gateway:///web",
		"configmap://roots", "configmap://edge/", "configmap://edge/-cacert", "configmap://a/b/c",
		"file://edge/web", "Kubernetes://web"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct credential_ref r = {.name = STR("untouched")};

		assert_false(credential_parse(str_of(rows[i]), &r));
		assert_true(str_eqc(r.name, "untouched"));
	}
}

static void P49_a_name_without_a_scheme_is_a_secret(void **state)
{
	struct arena *a = arena_new();

	(void)state;
	assert_string_equal(credential_with_scheme(a, STR("web")), "kubernetes://web");
	assert_string_equal(credential_with_scheme(a, STR("configmap://edge/roots")), "configmap://edge/roots");
	assert_string_equal(credential_with_scheme(a, STR("kubernetes-gateway://e/w")), "kubernetes-gateway://e/w");
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P49_P98_schemes_of_certificates),
		cmocka_unit_test(P49_what_is_no_name_of_a_certificate),
		cmocka_unit_test(P49_a_name_without_a_scheme_is_a_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
