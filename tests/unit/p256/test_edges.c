/*
 * DOC: Published examples (RFC 6979, A.2.5; NIST CAVP, KAS ECC CDH) and what must be refused: keys and signatures out of range, points that
 * are none, damaged signatures, every DER that is not the one form.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <mbedtls/sha256.h>

#include "common/p256/p256.h"
#include "tests/unit/hex.h"

#define X "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"
#define U \
	"0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6" \
	"7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
#define ZERO "0000000000000000000000000000000000000000000000000000000000000000"
#define N "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551"
#define N_MINUS_1 "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632550"
#define N_PLUS_1 "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632552"
#define ALL "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
#define ONE "0000000000000000000000000000000000000000000000000000000000000001"

static void sha256(const char *text, uint8_t out[32])
{
	assert_int_equal(mbedtls_sha256_ret((const unsigned char *)text, strlen(text), out, 0), 0);
}

static void rfc_6979_examples(void **state)
{
	static const struct {
		const char *text, *signature;
	} rows[] = {
		{"sample", "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
			   "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"},
		{"test", "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
			 "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"},
	};
	uint8_t key[32], point[65], want[65], hash[32], raw[64], made[64];
	(void)state;
	(void)unhex(X, key, sizeof(key));
	(void)unhex(U, want, sizeof(want));
	assert_true(p256_public(key, point));
	assert_memory_equal(point, want, sizeof(want));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		sha256(rows[i].text, hash);
		(void)unhex(rows[i].signature, raw, sizeof(raw));
		assert_true(p256_verify(point, hash, 32, raw));
		assert_true(p256_sign(key, hash, 32, made));
		assert_true(p256_verify(point, hash, 32, made));
		/* OpenSSL's nonces are random; mbedTLS's are those of the RFC. */
		if (strncmp(p256_library(), "mbed", 4) == 0)
			assert_memory_equal(made, raw, sizeof(raw));
	}
}

static void cavp_key_agreement(void **state)
{
	static const struct {
		const char *peer, *key, *secret;
	} rows[] = {
		{"04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287"
		 "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac",
			"7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534",
			"46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b"},
		{"04809f04289c64348c01515eb03d5ce7ac1a8cb9498f5caa50197e58d43a86a7ae"
		 "b29d84e811197f25eba8f5194092cb6ff440e26d4421011372461f579271cda3",
			"38f65d6dce47676044d58ce5139582d568f64bb16098d179dbab07741dd5caf5",
			"057d636096cb80b67a8c038c890e887d1adfa4195e9b3ce241c8a778c59cda67"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t peer[65], key[32], want[32], out[65];
		(void)unhex(rows[i].peer, peer, sizeof(peer));
		(void)unhex(rows[i].key, key, sizeof(key));
		(void)unhex(rows[i].secret, want, sizeof(want));
		assert_true(p256_multiply(key, peer, out));
		assert_memory_equal(out + 1, want, sizeof(want));
	}
}

static void keys_out_of_range_are_refused(void **state)
{
	static const struct {
		const char *key;
		bool ok;
	} rows[] = {{ZERO, false}, {ONE, true}, {N_MINUS_1, true}, {N, false}, {N_PLUS_1, false}, {ALL, false}};
	uint8_t point[65], key[32], out[65], hash[32] = {1}, raw[64];
	(void)state;
	(void)unhex(U, point, sizeof(point));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		(void)unhex(rows[i].key, key, sizeof(key));
		assert_int_equal(p256_public(key, out), rows[i].ok);
		assert_int_equal(p256_multiply(key, point, out), rows[i].ok);
		assert_int_equal(p256_sign(key, hash, 32, raw), rows[i].ok);
	}
	/* 1 * P = P, (n - 1) * P = -P: the same x. */
	(void)unhex(ONE, key, sizeof(key));
	assert_true(p256_multiply(key, point, out));
	assert_memory_equal(out, point, sizeof(point));
	(void)unhex(N_MINUS_1, key, sizeof(key));
	assert_true(p256_multiply(key, point, out));
	assert_memory_equal(out, point, 33);
	assert_memory_not_equal(out + 33, point + 33, 32);
}

static void points_that_are_none_are_refused(void **state)
{
	uint8_t good[65], bad[65], out[65], key[32], hash[32], raw[64];
	(void)state;
	(void)unhex(U, good, sizeof(good));
	(void)unhex(X, key, sizeof(key));
	sha256("sample", hash);
	assert_true(p256_sign(key, hash, 32, raw) && p256_verify(good, hash, 32, raw));
	for (size_t i = 0; i < sizeof(good); i++) {
		memcpy(bad, good, sizeof(bad));
		bad[i] ^= 2; /* of the form byte too: 4 -> 6, the hybrid form of an even y */
		assert_false(p256_multiply(key, bad, out));
		assert_false(p256_verify(bad, hash, 32, raw));
	}
	static const uint8_t forms[] = {0, 2, 3, 5, 6, 7};
	for (size_t i = 0; i < sizeof(forms); i++) {
		memcpy(bad, good, sizeof(bad));
		bad[0] = forms[i];
		assert_false(p256_multiply(key, bad, out));
		assert_false(p256_verify(bad, hash, 32, raw));
	}
	memset(bad, 0, sizeof(bad)); /* what some write for infinity */
	bad[0] = 4;
	assert_false(p256_multiply(key, bad, out));
	assert_false(p256_verify(bad, hash, 32, raw));
}

static void signatures_out_of_range_and_damaged_are_refused(void **state)
{
	static const char *const bounds[] = {ZERO, N, N_PLUS_1, ALL};
	uint8_t point[65], key[32], hash[32], good[64], bad[64];
	(void)state;
	(void)unhex(U, point, sizeof(point));
	(void)unhex(X, key, sizeof(key));
	sha256("sample", hash);
	assert_true(p256_sign(key, hash, 32, good));
	for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
		for (size_t half = 0; half < 64; half += 32) {
			memcpy(bad, good, sizeof(bad));
			(void)unhex(bounds[i], bad + half, 32);
			assert_false(p256_verify(point, hash, 32, bad));
		}
	}
	for (size_t bit = 0; bit < 512; bit++) {
		memcpy(bad, good, sizeof(bad));
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(p256_verify(point, hash, 32, bad));
	}
	hash[31] ^= 1;
	assert_false(p256_verify(point, hash, 32, good));
}

static void hashes_of_other_lengths(void **state)
{
	uint8_t point[65], key[32], hash[64], raw[64];
	(void)state;
	(void)unhex(U, point, sizeof(point));
	(void)unhex(X, key, sizeof(key));
	memset(hash, 0xa5, sizeof(hash));
	for (size_t len = 20; len <= sizeof(hash); len += 4) {
		assert_true(p256_sign(key, hash, len, raw));
		assert_true(p256_verify(point, hash, len, raw));
		assert_int_equal(p256_verify(point, hash, 32, raw), len >= 32); /* the left-most 256 bits count */
	}
}

static void generated_keys_agree_and_sign(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		uint8_t a[32], b[32], pa[65], pb[65], ab[65], ba[65], hash[32], raw[64];
		assert_true(p256_generate(a, pa) && p256_generate(b, pb));
		assert_memory_not_equal(a, b, sizeof(a));
		assert_true(p256_multiply(a, pb, ab) && p256_multiply(b, pa, ba));
		assert_memory_equal(ab, ba, sizeof(ab));
		sha256("message", hash);
		assert_true(p256_sign(a, hash, 32, raw));
		assert_true(p256_verify(pa, hash, 32, raw));
		assert_false(p256_verify(pb, hash, 32, raw));
	}
}

static void der_has_one_form(void **state)
{
	static const struct {
		const char *der;
		bool ok;
	} rows[] = {
		{"3006020101020102", true},
		{"3006020100020100", true}, /* zero has a form; p256_verify() refuses it */
		{"3008020200ff0202008f", true},
		{"", false},
		{"30", false},
		{"3000", false},
		{"3003020101", false}, /* one integer */
		{"30060201010201", false}, /* cut */
		{"300602010102010200", false}, /* a byte behind */
		{"300702010102010200", false}, /* a byte behind, inside */
		{"3009020101020102020103", false}, /* three integers */
		{"308106020101020102", false}, /* long form of a short length */
		{"30800201010201020000", false}, /* indefinite length */
		{"3106020101020102", false}, /* SET */
		{"3006030101020102", false}, /* BIT STRING */
		{"3006020181020102", false}, /* negative */
		{"300702020001020102", false}, /* a zero too many */
		{"30050200020102", false}, /* an integer without bytes */
		{"3026022101" ZERO "020101", false}, /* 33 bytes that are no sign byte and 32 */
		{"302702220000" ALL "020101", false},
		{"3026022100" ALL "020101", true},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t der[128], raw[64], back[P256_DER_MAX];
		size_t len = unhex(rows[i].der, der, sizeof(der));
		if (p256_der_read(der, len, raw) != rows[i].ok)
			fail_msg("row %zu: %s", i, rows[i].der);
		if (!rows[i].ok)
			continue;
		assert_int_equal(p256_der_write(raw, back), len);
		assert_memory_equal(back, der, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc_6979_examples),
		cmocka_unit_test(cavp_key_agreement),
		cmocka_unit_test(keys_out_of_range_are_refused),
		cmocka_unit_test(points_that_are_none_are_refused),
		cmocka_unit_test(signatures_out_of_range_and_damaged_are_refused),
		cmocka_unit_test(hashes_of_other_lengths),
		cmocka_unit_test(generated_keys_agree_and_sign),
		cmocka_unit_test(der_has_one_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
