/*
 * DOC: Project Wycheproof's cases for P-256 (vectors/README.md): signatures in DER and as r and s, key agreement. Every case must come out
 * as it says there. Compressed points, which one case calls acceptable, are not of our format and never get this far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <mbedtls/sha256.h>

#include "common/p256/p256.h"
#include "tests/unit/hex.h"

#define BYTES 8192 /* the longest signature, which is a very wrong one, has 4 kB */

static char text[4][2 * BYTES + 1];

/* "-" stands for nothing. */
static size_t bytes_of(const char *hex, uint8_t *out, size_t cap)
{
	return strcmp(hex, "-") == 0 ? 0 : unhex(hex, out, cap);
}

static FILE *open_vectors(const char *name)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s.txt", VECTORS, name);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("%s: cannot be read", path);
	return f;
}

struct score {
	size_t valid, invalid;
};

static void judge(struct score *s, const char *file, int id, bool got)
{
	bool want = strcmp(text[0], "valid") == 0;
	if (got != want)
		fail_msg("%s: case %d is %s", file, id, text[0]);
	*(want ? &s->valid : &s->invalid) += 1;
}

/* key <point>, then lines of: number result message signature. */
static struct score verify_all(const char *name, bool der)
{
	static uint8_t msg[BYTES], sig[BYTES];
	uint8_t point[P256_POINT_BYTES], raw[P256_SIGNATURE_BYTES], hash[32];
	struct score score = {0};
	char first[16];
	FILE *f = open_vectors(name);
	while (fscanf(f, "%15s %16384s", first, text[0]) == 2) {
		if (strcmp(first, "key") == 0) {
			assert_int_equal(unhex(text[0], point, sizeof(point)), sizeof(point));
			continue;
		}
		assert_int_equal(fscanf(f, "%16384s %16384s", text[1], text[2]), 2);
		size_t msg_len = bytes_of(text[1], msg, sizeof(msg)), len = bytes_of(text[2], sig, sizeof(sig));
		assert_int_equal(mbedtls_sha256_ret(msg, msg_len, hash, 0), 0);
		bool read = der ? p256_der_read(sig, len, raw) : len == sizeof(raw);
		if (read && !der)
			memcpy(raw, sig, sizeof(raw));
		judge(&score, name, atoi(first), read && p256_verify(point, hash, 32, raw));
	}
	(void)fclose(f);
	return score;
}

static void wycheproof_signatures_in_der(void **state)
{
	(void)state;
	struct score s = verify_all("ecdsa_der", true);
	assert_int_equal(s.valid, 174);
	assert_int_equal(s.invalid, 310);
}

static void wycheproof_signatures_as_r_and_s(void **state)
{
	(void)state;
	struct score s = verify_all("ecdsa_raw", false);
	assert_int_equal(s.valid, 173);
	assert_int_equal(s.invalid, 89);
}

/* A private key of any length as it stands in the file, into 32 bytes. */
static void key_of(const char *hex, uint8_t key[P256_KEY_BYTES])
{
	uint8_t all[64];
	size_t len = bytes_of(hex, all, sizeof(all)), skip = len > P256_KEY_BYTES ? len - P256_KEY_BYTES : 0;
	memset(key, 0, P256_KEY_BYTES);
	memcpy(key + P256_KEY_BYTES - (len - skip), all + skip, len - skip);
}

static void wycheproof_key_agreement(void **state)
{
	struct score score = {0};
	char first[16];
	FILE *f = open_vectors("ecdh");
	(void)state;
	while (fscanf(f, "%15s %16384s %16384s %16384s %16384s", first, text[0], text[1], text[2], text[3]) == 5) {
		uint8_t key[P256_KEY_BYTES], point[P256_POINT_BYTES], out[P256_POINT_BYTES], want[32];
		key_of(text[1], key);
		size_t len = bytes_of(text[2], point, sizeof(point));
		bool ok = len == sizeof(point) && p256_multiply(key, point, out);
		if (ok) {
			assert_int_equal(unhex(text[3], want, sizeof(want)), sizeof(want));
			assert_memory_equal(out + 1, want, sizeof(want));
		}
		judge(&score, "ecdh", atoi(first), ok);
	}
	(void)fclose(f);
	assert_int_equal(score.valid, 330);
	assert_int_equal(score.invalid, 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wycheproof_signatures_in_der),
		cmocka_unit_test(wycheproof_signatures_as_r_and_s),
		cmocka_unit_test(wycheproof_key_agreement),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
