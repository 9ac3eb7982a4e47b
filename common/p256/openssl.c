/*
 * DOC: P-256 by OpenSSL's libcrypto. Its constant-time code for this curve (nistz256 on x86-64 and arm64) is under the calls for groups,
 * points and keys. EVP, which OpenSSL 3 would rather have called, costs 54 us more for a verification out of 137, because it imports each
 * key into a provider (docs/decisions/crypto.md). One group is made per process, and is only read after that. OpenSSL reads no
 * configuration file here. Nonces are its own: from its generator, hashed with key and message (BN_generate_dsa_nonce), so that not even
 * a broken generator would repeat one for two messages.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "common/p256/p256_internal.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <pthread.h>

#include "common/base/util.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const EC_GROUP *shared_group; /* made once, then constant */

static void make_group(void)
{
	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS, NULL);
	shared_group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	assert(shared_group); /* memory only: the curve is compiled in */
}

static const EC_GROUP *group(void)
{
	(void)pthread_once(&once, make_group);
	return shared_group;
}

static void wipe_number(BIGNUM **n)
{
	BN_clear_free(*n);
}

static void free_point(EC_POINT **p)
{
	EC_POINT_clear_free(*p);
}

static void free_key(EC_KEY **k)
{
	EC_KEY_free(*k); /* wipes */
}

static void free_signature(ECDSA_SIG **s)
{
	ECDSA_SIG_free(*s);
}

/* OpenSSL keeps a queue of reasons for each thread, which nobody here reads. */
static bool done(bool ok)
{
	if (!ok)
		ERR_clear_error();
	return ok;
}

static BIGNUM *secret_number(const uint8_t *key)
{
	BIGNUM *n = BN_bin2bn(key, P256_KEY_BYTES, NULL);
	if (n)
		BN_set_flags(n, BN_FLG_CONSTTIME);
	return n;
}

/* NULL unless it is a point of the curve. */
static EC_POINT *point_of(const uint8_t *bytes)
{
	cleanup(free_point) EC_POINT *p = EC_POINT_new(group());
	return p && EC_POINT_oct2point(group(), p, bytes, P256_POINT_BYTES, NULL) ? take(p) : NULL;
}

static EC_KEY *new_key(void)
{
	cleanup(free_key) EC_KEY *k = EC_KEY_new();
	return k && EC_KEY_set_group(k, group()) ? take(k) : NULL;
}

bool p256_backend_multiply(const uint8_t *key, const uint8_t *peer, uint8_t *out)
{
	cleanup(wipe_number) BIGNUM *n = secret_number(key);
	cleanup(free_point) EC_POINT *from = peer ? point_of(peer) : NULL;
	cleanup(free_point) EC_POINT *to = EC_POINT_new(group());
	bool ready = n && to && (from || !peer);
	/* The first number is for the generator, which has a table of its own. */
	return done(ready && EC_POINT_mul(group(), to, peer ? NULL : n, from, peer ? n : NULL, NULL) &&
		    EC_POINT_point2oct(group(), to, POINT_CONVERSION_UNCOMPRESSED, out, P256_POINT_BYTES, NULL) ==
			    P256_POINT_BYTES);
}

bool p256_backend_sign(const uint8_t *key, const uint8_t *hash, size_t len, uint8_t *out)
{
	cleanup(wipe_number) BIGNUM *n = secret_number(key);
	cleanup(free_key) EC_KEY *k = new_key();
	cleanup(free_signature) ECDSA_SIG *s = n && k && EC_KEY_set_private_key(k, n) ? ECDSA_do_sign(hash, (int)len, k)
										      : NULL;
	return done(s && BN_bn2binpad(ECDSA_SIG_get0_r(s), out, 32) == 32 &&
		    BN_bn2binpad(ECDSA_SIG_get0_s(s), out + 32, 32) == 32);
}

bool p256_backend_verify(const uint8_t *point, const uint8_t *hash, size_t len, const uint8_t *signature)
{
	cleanup(free_point) EC_POINT *p = point_of(point);
	cleanup(free_key) EC_KEY *k = new_key();
	cleanup(free_signature) ECDSA_SIG *s = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(signature, 32, NULL), *t = BN_bin2bn(signature + 32, 32, NULL);
	if (!p || !k || !s || !r || !t || !ECDSA_SIG_set0(s, r, t)) {
		BN_free(r);
		BN_free(t);
		return done(false);
	}
	return done(EC_KEY_set_public_key(k, p) && ECDSA_do_verify(hash, (int)len, s, k) == 1);
}

const char *p256_library(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}
