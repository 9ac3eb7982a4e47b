/*
 * DOC: AES-GCM as TLS asks mbedTLS for it (mbedtls_cipher_auth_*_ext), whoever does it: Wycheproof's cases, records of every length in place,
 * and nothing handed out when one bit is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <mbedtls/cipher.h>
#include <mbedtls/gcm.h>

#include "common/base/clock.h"
#include "tests/unit/hex.h"

#define CAP 2048

static char text[8][2 * CAP + 1]; /* result key iv aad msg ct tag */

struct message {
	uint8_t key[32], iv[12], aad[CAP], plain[CAP], sealed[CAP];
	size_t key_len, aad_len, len; /* sealed has len + 16 */
};

static size_t bytes_of(const char *hex, uint8_t *out, size_t cap)
{
	return strcmp(hex, "-") == 0 ? 0 : unhex(hex, out, cap);
}

static void keyed(mbedtls_cipher_context_t *c, const struct message *m, mbedtls_operation_t op)
{
	const int bits = (int)m->key_len * 8;
	mbedtls_cipher_init(c);
	assert_int_equal(
		mbedtls_cipher_setup(c, mbedtls_cipher_info_from_values(MBEDTLS_CIPHER_ID_AES, bits, MBEDTLS_MODE_GCM)),
		0);
	assert_int_equal(mbedtls_cipher_setkey(c, m->key, bits, op), 0);
}

static bool seal(const struct message *m, uint8_t *out)
{
	mbedtls_cipher_context_t c;
	size_t n = 0;
	keyed(&c, m, MBEDTLS_ENCRYPT);
	int rc = mbedtls_cipher_auth_encrypt_ext(
		&c, m->iv, 12, m->aad, m->aad_len, m->plain, m->len, out, m->len + 16, &n, 16);
	mbedtls_cipher_free(&c);
	return rc == 0 && n == m->len + 16;
}

/* In place, as TLS does it. */
static int open_in_place(const struct message *m, uint8_t *data)
{
	mbedtls_cipher_context_t c;
	size_t n = 0;
	keyed(&c, m, MBEDTLS_DECRYPT);
	int rc = mbedtls_cipher_auth_decrypt_ext(
		&c, m->iv, 12, m->aad, m->aad_len, data, m->len + 16, data, m->len + 16, &n, 16);
	mbedtls_cipher_free(&c);
	assert_true(rc || n == m->len);
	return rc;
}

static void wycheproof_cases(void **state)
{
	static struct message m;
	static uint8_t out[CAP];
	size_t valid = 0, invalid = 0;
	char number[16];
	(void)state;
	FILE *f = fopen(VECTORS "/aes_gcm.txt", "r");
	assert_non_null(f);
	while (fscanf(f, "%15s %4096s %4096s %4096s %4096s %4096s %4096s %4096s", number, text[0], text[1], text[2],
		       text[3], text[4], text[5], text[6]) == 8) {
		bool want = strcmp(text[0], "valid") == 0;
		m.key_len = unhex(text[1], m.key, sizeof(m.key));
		assert_int_equal(unhex(text[2], m.iv, sizeof(m.iv)), 12);
		m.aad_len = bytes_of(text[3], m.aad, sizeof(m.aad));
		m.len = bytes_of(text[4], m.plain, sizeof(m.plain));
		assert_int_equal(bytes_of(text[5], m.sealed, sizeof(m.sealed)), m.len);
		assert_int_equal(unhex(text[6], m.sealed + m.len, 16), 16);
		if (want) {
			assert_true(seal(&m, out));
			assert_memory_equal(out, m.sealed, m.len + 16);
		}
		memcpy(out, m.sealed, m.len + 16);
		if ((open_in_place(&m, out) == 0) != want)
			fail_msg("case %s is %s", number, text[0]);
		if (want)
			assert_memory_equal(out, m.plain, m.len);
		*(want ? &valid : &invalid) += 1;
	}
	(void)fclose(f);
	assert_int_equal(valid, 116);
	assert_int_equal(invalid, 81);
}

static void records_of_every_length_in_place(void **state)
{
	static struct message m = {.key_len = 16, .aad_len = 13};
	static uint8_t data[CAP];
	(void)state;
	for (m.len = 0; m.len < 600; m.len++) {
		random_bytes(m.key, sizeof(m.key));
		random_bytes(m.iv, sizeof(m.iv));
		random_bytes(m.plain, m.len);
		assert_true(seal(&m, m.sealed));
		memcpy(data, m.sealed, m.len + 16);
		assert_int_equal(open_in_place(&m, data), 0);
		assert_memory_equal(data, m.plain, m.len);
	}
}

static void one_wrong_bit_hands_nothing_out(void **state)
{
	static struct message m = {.key_len = 16, .aad_len = 13, .len = 40};
	static const uint8_t zeros[40];
	uint8_t data[56];
	(void)state;
	memset(m.plain, 'p', m.len);
	assert_true(seal(&m, m.sealed));
	for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
		memcpy(data, m.sealed, sizeof(data));
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(open_in_place(&m, data), MBEDTLS_ERR_CIPHER_AUTH_FAILED);
		assert_memory_equal(data, zeros, sizeof(zeros));
	}
	for (size_t i = 0; i < m.aad_len; i++) {
		memcpy(data, m.sealed, sizeof(data));
		m.aad[i] ^= 1;
		assert_int_equal(open_in_place(&m, data), MBEDTLS_ERR_CIPHER_AUTH_FAILED);
		m.aad[i] ^= 1;
	}
	m.iv[11] ^= 1;
	assert_int_equal(open_in_place(&m, m.sealed), MBEDTLS_ERR_CIPHER_AUTH_FAILED);
}

static void contexts_can_be_keyed_again_and_misused(void **state)
{
	mbedtls_gcm_context g;
	unsigned char key[32] = {1}, iv[12] = {2}, out[16], tag[16], first[16];
	(void)state;
	mbedtls_gcm_init(&g);
	mbedtls_gcm_free(&g); /* never keyed */
	mbedtls_gcm_init(&g);
	assert_int_not_equal(mbedtls_gcm_setkey(&g, MBEDTLS_CIPHER_ID_AES, key, 100), 0);
	assert_int_equal(mbedtls_gcm_setkey(&g, MBEDTLS_CIPHER_ID_AES, key, 128), 0);
	assert_int_equal(mbedtls_gcm_crypt_and_tag(&g, 1, 16, iv, 12, NULL, 0, key, out, 16, first), 0);
	assert_int_equal(mbedtls_gcm_setkey(&g, MBEDTLS_CIPHER_ID_AES, key, 256), 0);
	assert_int_equal(mbedtls_gcm_crypt_and_tag(&g, 1, 16, iv, 12, NULL, 0, key, out, 16, tag), 0);
	assert_memory_not_equal(first, tag, sizeof(tag));
	assert_int_not_equal(mbedtls_gcm_crypt_and_tag(&g, 1, 16, iv, 12, NULL, 0, key, out, 3, tag), 0);
	assert_int_not_equal(mbedtls_gcm_auth_decrypt(&g, 16, iv, 12, NULL, 0, tag, 17, key, out), 0);
#ifdef OPENSSL_GCM
	assert_null(g.cipher_ctx.cipher_info); /* mbedTLS's part is not in use: it went through the wrapped calls */
	assert_int_equal(mbedtls_gcm_starts(&g, 1, iv, 12, NULL, 0), MBEDTLS_ERR_GCM_BAD_INPUT);
	assert_int_equal(
		mbedtls_gcm_crypt_and_tag(&g, 0, 16, iv, 12, NULL, 0, key, out, 16, tag), MBEDTLS_ERR_GCM_BAD_INPUT);
	assert_int_equal(
		mbedtls_gcm_crypt_and_tag(&g, 1, 16, iv, 8, NULL, 0, key, out, 16, tag), MBEDTLS_ERR_GCM_BAD_INPUT);
#endif
	mbedtls_gcm_free(&g);
	mbedtls_gcm_free(&g); /* twice */
	mbedtls_gcm_init(&g);
	assert_int_equal(mbedtls_gcm_setkey(&g, MBEDTLS_CIPHER_ID_CAMELLIA, key, 128), 0); /* stays with mbedTLS */
	assert_int_equal(mbedtls_gcm_crypt_and_tag(&g, 1, 16, iv, 12, NULL, 0, key, out, 16, tag), 0);
	assert_int_equal(mbedtls_gcm_auth_decrypt(&g, 16, iv, 12, NULL, 0, tag, 16, out, out), 0);
	assert_memory_equal(out, key, sizeof(out));
	mbedtls_gcm_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wycheproof_cases),
		cmocka_unit_test(records_of_every_length_in_place),
		cmocka_unit_test(one_wrong_bit_hands_nothing_out),
		cmocka_unit_test(contexts_can_be_keyed_again_and_misused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
