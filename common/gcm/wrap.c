/*
 * DOC: AES-GCM of TLS records by OpenSSL's libcrypto, in the same way as the curve (common/p256/wrap.c): the linker sends mbedTLS's calls of
 * its module here. mbedTLS 2.28 multiplies block by block, 5.6 ns a byte; OpenSSL's takes 0.23 (docs/decisions/crypto.md), and 3 MB of
 * configuration go to each sidecar. A context with an AES key holds an OpenSSL one in the room of mbedTLS's tables and says so in `mode`,
 * which is zero or one otherwise; with any other cipher it stays mbedTLS's. Only what TLS asks for is there: a record at a time, a nonce of
 * 12 bytes. The key is wiped when the context is freed.
 */
#include <limits.h>
#include <mbedtls/gcm.h>
#include <mbedtls/platform_util.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "common/base/util.h"
#include "common/base/wrap.h"

WRAPPED(mbedtls_gcm_setkey);
WRAPPED(mbedtls_gcm_free);
WRAPPED(mbedtls_gcm_starts);
WRAPPED(mbedtls_gcm_crypt_and_tag);
WRAPPED(mbedtls_gcm_auth_decrypt);

#define MODE_OPENSSL 0x4f53 /* neither MBEDTLS_GCM_ENCRYPT nor _DECRYPT */
#define NONCE_BYTES 12

/* NULL: the context is mbedTLS's. */
static EVP_CIPHER_CTX *theirs(const mbedtls_gcm_context *ctx)
{
	return ctx->mode == MODE_OPENSSL ? (EVP_CIPHER_CTX *)(uintptr_t)ctx->HL[0] : NULL;
}

void __wrap_mbedtls_gcm_free(mbedtls_gcm_context *ctx)
{
	if (ctx && theirs(ctx))
		EVP_CIPHER_CTX_free(theirs(ctx)); /* wipes the key */
	__real_mbedtls_gcm_free(ctx);
}

int __wrap_mbedtls_gcm_setkey(
	mbedtls_gcm_context *ctx, mbedtls_cipher_id_t cipher, const unsigned char *key, unsigned int keybits)
{
	if (cipher != MBEDTLS_CIPHER_ID_AES)
		return __real_mbedtls_gcm_setkey(ctx, cipher, key, keybits);
	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS, NULL);
	const EVP_CIPHER *kind = keybits == 128   ? EVP_aes_128_gcm()
				 : keybits == 192 ? EVP_aes_192_gcm()
				 : keybits == 256 ? EVP_aes_256_gcm()
						  : NULL;
	if (!kind)
		return MBEDTLS_ERR_GCM_BAD_INPUT;
	__wrap_mbedtls_gcm_free(ctx);
	mbedtls_gcm_init(ctx);
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	if (!c || EVP_CipherInit_ex(c, kind, NULL, key, NULL, 1) != 1) {
		EVP_CIPHER_CTX_free(c);
		ERR_clear_error();
		return MBEDTLS_ERR_GCM_HW_ACCEL_FAILED;
	}
	ctx->HL[0] = (uintptr_t)c;
	ctx->mode = MODE_OPENSSL;
	return 0;
}

/* In pieces it is not there for AES: of what would be decrypted, some would be handed out before its tag was checked. */
int __wrap_mbedtls_gcm_starts(mbedtls_gcm_context *ctx, int mode, const unsigned char *iv, size_t iv_len,
	const unsigned char *add, size_t add_len)
{
	return theirs(ctx) ? MBEDTLS_ERR_GCM_BAD_INPUT : __real_mbedtls_gcm_starts(ctx, mode, iv, iv_len, add, add_len);
}

/* All but the tag. */
static bool record(EVP_CIPHER_CTX *c, int encrypt, const unsigned char *iv, const unsigned char *add, size_t add_len,
	const unsigned char *in, unsigned char *out, size_t len)
{
	int n = 0;
	return EVP_CipherInit_ex(c, NULL, NULL, NULL, iv, encrypt) == 1 &&
	       (!add_len || EVP_CipherUpdate(c, NULL, &n, add, (int)add_len) == 1) &&
	       (!len || EVP_CipherUpdate(c, out, &n, in, (int)len) == 1);
}

static bool fits(size_t iv_len, size_t add_len, size_t len, size_t tag_len)
{
	return iv_len == NONCE_BYTES && add_len <= INT_MAX && len <= INT_MAX && tag_len >= 4 && tag_len <= 16;
}

int __wrap_mbedtls_gcm_crypt_and_tag(mbedtls_gcm_context *ctx, int mode, size_t length, const unsigned char *iv,
	size_t iv_len, const unsigned char *add, size_t add_len, const unsigned char *input, unsigned char *output,
	size_t tag_len, unsigned char *tag)
{
	EVP_CIPHER_CTX *c = theirs(ctx);
	unsigned char none[16];
	int n = 0;
	if (!c)
		return __real_mbedtls_gcm_crypt_and_tag(
			ctx, mode, length, iv, iv_len, add, add_len, input, output, tag_len, tag);
	if (mode != MBEDTLS_GCM_ENCRYPT || !fits(iv_len, add_len, length, tag_len))
		return MBEDTLS_ERR_GCM_BAD_INPUT;
	if (record(c, 1, iv, add, add_len, input, output, length) && EVP_CipherFinal_ex(c, none, &n) == 1 &&
		EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, (int)tag_len, tag) == 1)
		return 0;
	ERR_clear_error();
	mbedtls_platform_zeroize(output, length);
	return MBEDTLS_ERR_GCM_HW_ACCEL_FAILED;
}

int __wrap_mbedtls_gcm_auth_decrypt(mbedtls_gcm_context *ctx, size_t length, const unsigned char *iv, size_t iv_len,
	const unsigned char *add, size_t add_len, const unsigned char *tag, size_t tag_len, const unsigned char *input,
	unsigned char *output)
{
	EVP_CIPHER_CTX *c = theirs(ctx);
	unsigned char none[16];
	int n = 0;
	if (!c)
		return __real_mbedtls_gcm_auth_decrypt(
			ctx, length, iv, iv_len, add, add_len, tag, tag_len, input, output);
	if (!fits(iv_len, add_len, length, tag_len))
		return MBEDTLS_ERR_GCM_BAD_INPUT;
	if (record(c, 0, iv, add, add_len, input, output, length) &&
		EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, (int)tag_len, (void *)tag) == 1 &&
		EVP_CipherFinal_ex(c, none, &n) == 1)
		return 0;
	ERR_clear_error();
	mbedtls_platform_zeroize(output, length); /* what is not authentic is not handed out */
	return MBEDTLS_ERR_GCM_AUTH_FAILED;
}
