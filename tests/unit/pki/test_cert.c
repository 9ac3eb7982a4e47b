/*
 * DOC: Issuing and verifying: a chain of three levels, what stands in each certificate, and every reason for which a chain does not hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/pki/pki.h"

#define NOW_MS 1780000000000
#define HOUR_MS 3600000

struct authority {
	struct pki_key *key;
	char *pem;
};

static struct authority authority_new(enum pki_key_type type, const struct authority *parent, const char *name)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct authority ca = {.key = pki_key_new(type, &e)};
	struct pki_cert_request r = {.common_name = name,
		.not_before_ms = NOW_MS - HOUR_MS,
		.not_after_ms = NOW_MS + 100 * HOUR_MS,
		.ca = true,
		.path_len = -1};
	r.organization = "cluster.local";
	assert_true(pki_spki_of(ca.key, a, &r.spki_der, &e));
	assert_true(pki_issue(
		parent ? parent->key : ca.key, parent ? str_of(parent->pem) : (struct str){0}, &r, &ca.pem, &e));
	arena_free(a);
	return ca;
}

static void authority_done(struct authority *ca)
{
	pki_key_free(ca->key);
	free(ca->pem);
}

static char *leaf_new(const struct authority *ca, int64_t from_ms, int64_t to_ms)
{
	static const char *const uris[] = {"spiffe://cluster.local/ns/a/sa/b", NULL};
	static const char *const dns[] = {"b.a.svc", NULL};
	struct arena *a = arena_new();
	struct err e = {0};
	struct pki_key *k = pki_key_new(PKI_P256, &e);
	struct pki_cert_request r = {
		.uris = uris, .dns = dns, .not_before_ms = from_ms, .not_after_ms = to_ms, .path_len = -1};
	char *pem = NULL;
	assert_true(pki_spki_of(k, a, &r.spki_der, &e));
	assert_true(pki_issue(ca->key, str_of(ca->pem), &r, &pem, &e));
	pki_key_free(k);
	arena_free(a);
	return pem;
}

static char *joined(const char *x, const char *y)
{
	return xasprintf("%s%s", x, y);
}

static void leaf_has_what_a_workload_needs(void **state)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct authority root = authority_new(PKI_P256, NULL, "");
	char *leaf = leaf_new(&root, NOW_MS - 120000, NOW_MS + HOUR_MS);
	struct pki_cert *c = NULL;
	size_t n = 0;
	assert_true(pki_certs_parse(a, str_of(leaf), &c, &n, &e));
	assert_int_equal(n, 1);
	assert_string_equal(c->subject, "");
	assert_string_equal(c->issuer, "O=cluster.local");
	assert_string_equal(c->uris[0], "spiffe://cluster.local/ns/a/sa/b");
	assert_null(c->uris[1]);
	assert_string_equal(c->dns[0], "b.a.svc");
	assert_false(c->ca);
	assert_int_equal(c->not_before_ms, NOW_MS - 120000);
	assert_int_equal(c->not_after_ms, NOW_MS + HOUR_MS);
	assert_string_equal(c->key_type, "EC P-256");
	assert_int_equal(strlen(c->serial_hex), 32);
	assert_int_equal(strlen(c->sha256_hex), 64);
	assert_true(pki_verify(str_of(leaf), str_of(root.pem), NOW_MS, &e));
	free(leaf);
	authority_done(&root);
	arena_free(a);
}

static void serials_do_not_repeat(void **state)
{
	struct arena *a = arena_new();
	struct authority root = authority_new(PKI_P256, NULL, "");
	struct pki_cert *c[2];
	size_t n;
	for (size_t i = 0; i < 2; i++) {
		char *leaf = leaf_new(&root, NOW_MS, NOW_MS + HOUR_MS);
		assert_true(pki_certs_parse(a, str_of(leaf), &c[i], &n, NULL));
		free(leaf);
	}
	assert_string_not_equal(c[0]->serial_hex, c[1]->serial_hex);
	authority_done(&root);
	arena_free(a);
}

static void chain_through_an_intermediate_verifies(void **state)
{
	struct err e = {0};
	struct authority root = authority_new(PKI_RSA2048, NULL, "root"), other = authority_new(PKI_P256, NULL, "root");
	struct authority middle = authority_new(PKI_P384, &root, "middle");
	char *leaf = leaf_new(&middle, NOW_MS, NOW_MS + HOUR_MS);
	char *chain = joined(leaf, middle.pem), *both = joined(other.pem, root.pem);
	assert_true(pki_verify(str_of(chain), str_of(root.pem), NOW_MS, &e));
	assert_true(pki_verify(str_of(chain), str_of(both), NOW_MS, &e)); /* several roots, of the same name */
	assert_false(pki_verify(str_of(leaf), str_of(root.pem), NOW_MS, &e)); /* the intermediate is missing */
	assert_int_equal(e.kind, ERR_DENIED);
	assert_false(pki_verify(str_of(chain), str_of(other.pem), NOW_MS, &e));
	free(both);
	free(chain);
	free(leaf);
	authority_done(&middle);
	authority_done(&other);
	authority_done(&root);
}

static void times_are_judged_by_the_callers_clock(void **state)
{
	struct err e = {0};
	struct authority root = authority_new(PKI_P256, NULL, "");
	char *leaf = leaf_new(&root, NOW_MS, NOW_MS + HOUR_MS);
	assert_true(pki_verify(str_of(leaf), str_of(root.pem), NOW_MS + HOUR_MS, &e));
	assert_false(pki_verify(str_of(leaf), str_of(root.pem), NOW_MS + HOUR_MS + 1000, &e));
	assert_non_null(strstr(e.text, "expired"));
	assert_false(pki_verify(str_of(leaf), str_of(root.pem), NOW_MS - 1000, &e));
	assert_non_null(strstr(e.text, "not valid before"));
	free(leaf);
	authority_done(&root);
}

static void a_leaf_cannot_issue(void **state)
{
	struct err e = {0};
	struct authority root = authority_new(PKI_P256, NULL, "");
	struct authority fake = {.key = pki_key_new(PKI_P256, &e)};
	struct arena *a = arena_new();
	struct pki_cert_request r = {
		.common_name = "fake", .not_before_ms = NOW_MS, .not_after_ms = NOW_MS + HOUR_MS, .path_len = -1};
	assert_true(pki_spki_of(fake.key, a, &r.spki_der, &e));
	assert_true(pki_issue(root.key, str_of(root.pem), &r, &fake.pem, &e));
	char *leaf = leaf_new(&fake, NOW_MS, NOW_MS + HOUR_MS), *chain = joined(leaf, fake.pem);
	assert_false(pki_verify(str_of(chain), str_of(root.pem), NOW_MS, &e));
	free(chain);
	free(leaf);
	arena_free(a);
	authority_done(&fake);
	authority_done(&root);
}

static void keys_survive_pem_and_fit_only_their_certificate(void **state)
{
	static const enum pki_key_type types[] = {PKI_P256, PKI_P384, PKI_RSA2048};
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct err e = {0};
		struct authority one = authority_new(types[i], NULL, "one"), two = authority_new(types[i], NULL, "two");
		char *pem = NULL;
		assert_true(pki_key_pem(one.key, &pem, &e));
		struct pki_key *again = pki_key_parse(str_of(pem), &e);
		assert_non_null(again);
		assert_true(pki_key_fits(again, str_of(one.pem), &e));
		assert_false(pki_key_fits(again, str_of(two.pem), &e));
		secret_free(pem);
		pki_key_free(again);
		authority_done(&one);
		authority_done(&two);
	}
}

/* Made with the openssl command: DC=com, DC=example, O="Fairlead, Inc", a subject key identifier that is no SHA-1 of the key. */
static const char foreign_ca_cert[] =
#include "foreign_ca_cert.inc"
	;
static const char foreign_ca_key[] =
#include "foreign_ca_key.inc"
	;

static bool contains(struct str hay, struct str needle)
{
	return memmem(hay.ptr, hay.len, needle.ptr, needle.len) != NULL;
}

static void C03_issuer_name_and_key_id_of_a_foreign_ca_are_kept(void **state)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct authority ca = {.key = pki_key_parse(STR(foreign_ca_key), &e), .pem = xstrdup(foreign_ca_cert)};
	assert_non_null(ca.key);
	struct pki_cert *root = NULL, *c = NULL;
	size_t n = 0;
	assert_true(pki_certs_parse(a, str_of(ca.pem), &root, &n, &e));
	char *leaf = leaf_new(&ca, root->not_before_ms, root->not_before_ms + HOUR_MS);
	assert_true(pki_certs_parse(a, str_of(leaf), &c, &n, &e));
	assert_string_equal(c->issuer, root->subject);
	assert_non_null(strstr(c->issuer, "DC=com"));
	assert_non_null(strstr(c->issuer, "DC=example"));
	assert_true(pki_verify(str_of(leaf), str_of(ca.pem), root->not_before_ms, &e));
	/* AuthorityKeyIdentifier { [0] 01020304...14 } */
	static const unsigned char aki[] = {
		0x30, 0x16, 0x80, 0x14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
	assert_true(contains(c->der, str_n(aki, sizeof(aki))));
	free(leaf);
	authority_done(&ca);
	arena_free(a);
}

static void bundles_that_do_not_parse_are_refused(void **state)
{
	static const char *const texts[] = {"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
	struct arena *a = arena_new();
	struct pki_cert *c = NULL;
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct err e = {0};
		assert_false(pki_certs_parse(a, str_of(texts[i]), &c, &n, &e));
		assert_int_equal(e.kind, ERR_PEER);
	}
	arena_free(a);
}

static void bundles_are_joined_each_certificate_once(void **state)
{
	struct arena *a = arena_new();
	struct authority one = authority_new(PKI_P256, NULL, "one"), two = authority_new(PKI_P256, NULL, "two");
	char *both = xasprintf("%s%s", two.pem, one.pem), *ordered = xasprintf("%s%s", one.pem, two.pem);
	struct str out = {0};
	struct err e = {0};
	assert_true(pki_bundle_join(a, str_of(one.pem), str_of(both), &out, &e));
	assert_true(str_eqc(out, ordered));
	assert_true(pki_bundle_join(a, str_of(both), str_of(one.pem), &out, &e));
	assert_true(str_eqc(out, both));
	assert_true(pki_bundle_join(a, str_of(one.pem), str_of(one.pem), &out, &e));
	assert_true(str_eqc(out, one.pem));
	assert_false(pki_bundle_join(a, str_of(one.pem), STR("no certificate"), &out, &e));
	free(both);
	free(ordered);
	authority_done(&one);
	authority_done(&two);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaf_has_what_a_workload_needs),
		cmocka_unit_test(serials_do_not_repeat),
		cmocka_unit_test(chain_through_an_intermediate_verifies),
		cmocka_unit_test(times_are_judged_by_the_callers_clock),
		cmocka_unit_test(a_leaf_cannot_issue),
		cmocka_unit_test(keys_survive_pem_and_fit_only_their_certificate),
		cmocka_unit_test(C03_issuer_name_and_key_id_of_a_foreign_ca_are_kept),
		cmocka_unit_test(bundles_that_do_not_parse_are_refused),
		cmocka_unit_test(bundles_are_joined_each_certificate_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
