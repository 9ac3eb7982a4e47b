/*
 * DOC: Certificate signing requests: what is read out of them, and that a CSR which proves nothing is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/limits.h"
#include "tests/unit/pki/csr_maker.h"

static const char *const one_uri[] = {"spiffe://cluster.local/ns/a/sa/b", NULL};
static const char *const two_dns[] = {"a.example.com", "b.example.com", NULL};

static bool parse(struct arena *a, const struct csr_recipe *r, struct pki_csr *out, struct err *e)
{
	char *pem = csr_make(r);
	bool ok = pki_csr_parse(a, str_of(pem), out, e);
	free(pem);
	return ok;
}

static void own_csr_is_read_back(void **state)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct pki_key *k = pki_key_new(PKI_P256, &e);
	struct str spki;
	char *pem = NULL;
	struct pki_csr csr;
	assert_true(pki_csr_new(k, one_uri, two_dns, &pem, &e));
	if (!pki_csr_parse(a, str_of(pem), &csr, &e))
		fail_msg("%s", e.text);
	assert_string_equal(csr.uris[0], one_uri[0]);
	assert_null(csr.uris[1]);
	assert_string_equal(csr.dns[0], "a.example.com");
	assert_string_equal(csr.dns[1], "b.example.com");
	assert_null(csr.dns[2]);
	assert_null(csr.other_sans[0]);
	assert_false(csr.wants_ca);
	assert_string_equal(csr.key_type, "EC P-256");
	assert_true(pki_spki_of(k, a, &spki, &e));
	assert_true(str_eq(spki, csr.spki_der));
	free(pem);
	assert_true(pki_csr_new(k, NULL, NULL, &pem, &e)); /* no SAN at all: no extension either */
	if (!pki_csr_parse(a, str_of(pem), &csr, &e))
		fail_msg("%s", e.text);
	assert_null(csr.uris[0]);
	free(pem);
	pki_key_free(k);
	arena_free(a);
}

static void C09_key_kinds_are_named_by_curve_and_size(void **state)
{
	static const struct {
		struct csr_recipe r;
		const char *name;
		unsigned bits;
	} cases[] = {
		{{.key = CSR_P256}, "EC P-256", 256},
		{{.key = CSR_P384}, "EC P-384", 384},
		{{.key = CSR_SECP256K1}, "EC", 256},
		{{.key = CSR_P521}, "EC", 521},
		{{.key = CSR_RSA1024}, "RSA", 1024},
		{{.key = CSR_RSA2048}, "RSA 2048", 2048},
	};
	struct arena *a = arena_new();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		struct pki_csr csr;
		assert_true(parse(a, &cases[i].r, &csr, &e));
		assert_string_equal(csr.key_type, cases[i].name);
		assert_int_equal(csr.key_bits, cases[i].bits);
	}
	arena_free(a);
}

static void C08_ca_bit_and_other_sans_are_seen(void **state)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct pki_csr csr;
	assert_true(parse(a, &(struct csr_recipe){.wants_ca = true, .uris = one_uri}, &csr, &e));
	assert_true(csr.wants_ca);
	assert_string_equal(csr.uris[0], one_uri[0]);
	assert_true(parse(a, &(struct csr_recipe){.email = "x@example.com"}, &csr, &e));
	assert_string_equal(csr.other_sans[0], "email");
	arena_free(a);
}

static void C08_csr_without_proof_of_possession_is_refused(void **state)
{
	struct arena *a = arena_new();
	struct err e = {0};
	struct pki_csr csr;
	assert_false(parse(a, &(struct csr_recipe){.break_signature = true}, &csr, &e));
	assert_int_equal(e.kind, ERR_PEER);
	assert_non_null(strstr(e.text, "signature"));
	assert_false(parse(a, &(struct csr_recipe){.sha1 = true}, &csr, &e));
	assert_int_equal(e.kind, ERR_PEER);
	assert_non_null(strstr(e.text, "digest"));
	arena_free(a);
}

static void malformed_csrs_are_errors_of_the_peer(void **state)
{
	static const char *const texts[] = {"", "x", "-----BEGIN CERTIFICATE REQUEST-----\n", "\x30\x03\x02\x01",
		"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
	struct arena *a = arena_new();
	struct pki_csr csr;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct err e = {0};
		assert_false(pki_csr_parse(a, str_of(texts[i]), &csr, &e));
		assert_int_equal(e.kind, ERR_PEER);
		assert_true(e.text[0]);
	}
	struct err e = {0};
	char *big = xzalloc(LIMIT_CSR_BYTES + 2);
	memset(big, 'A', LIMIT_CSR_BYTES + 1);
	assert_false(pki_csr_parse(a, str_of(big), &csr, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	free(big);
	arena_free(a);
}

/* Every truncation and every flipped byte: refused or read, never a crash; a changed signed part never verifies. */
static void C08_damaged_csrs_never_verify(void **state)
{
	struct arena *a = arena_new();
	struct csr_recipe r = {.uris = one_uri};
	char *pem = csr_make(&r);
	size_t len = strlen(pem), accepted = 0;
	for (size_t i = 30; i + 30 < len; i += 7) {
		struct pki_csr csr;
		char old = pem[i];
		pem[i] = old == 'A' ? 'B' : 'A';
		accepted += old != '\n' && pki_csr_parse(a, str_of(pem), &csr, NULL);
		pem[i] = old;
	}
	assert_int_equal(accepted, 0);
	free(pem);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_csr_is_read_back),
		cmocka_unit_test(C09_key_kinds_are_named_by_curve_and_size),
		cmocka_unit_test(C08_ca_bit_and_other_sans_are_seen),
		cmocka_unit_test(C08_csr_without_proof_of_possession_is_refused),
		cmocka_unit_test(malformed_csrs_are_errors_of_the_peer),
		cmocka_unit_test(C08_damaged_csrs_never_verify),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
