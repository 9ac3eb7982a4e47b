/*
 * The curve P-256 (FIPS 186-4, D.1.2.3) on plain bytes: the one seam through which the project signs, verifies and agrees on keys.
 * Which library does the arithmetic is chosen when building (meson option crypto; docs/decisions/crypto.md); mbedTLS's TLS and
 * X.509 get it by the wrapped functions of wrap.c. Constant time in what is secret. Buffers are the caller's, and so is wiping
 * keys and shared secrets; copies made inside are wiped. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define P256_KEY_BYTES 32 /* private key: big-endian, 1 .. n-1 */
#define P256_POINT_BYTES 65 /* public key: 04 x y (SEC 1, 2.3.3); other forms are refused */
#define P256_SIGNATURE_BYTES 64 /* r s, 32 bytes each (RFC 7518, 3.4) */
#define P256_DER_MAX 72 /* SEQUENCE { INTEGER r, INTEGER s } (RFC 3279, 2.2.3) */

/* A private key from the kernel's generator, and its public key. */
bool p256_generate(uint8_t key[P256_KEY_BYTES], uint8_t point[P256_POINT_BYTES]);
/* False: the key is 0 or not below the order. */
bool p256_public(const uint8_t key[P256_KEY_BYTES], uint8_t point[P256_POINT_BYTES]);
/* key * peer; x, the bytes 1..32 of it, is the secret of ECDH (SEC 1, 3.3.1). False also when peer is not on the curve. */
bool p256_multiply(
	const uint8_t key[P256_KEY_BYTES], const uint8_t peer[P256_POINT_BYTES], uint8_t out[P256_POINT_BYTES]);
/* Of a hash of any length; what is beyond 32 bytes does not count (FIPS 186-4, 6.4). */
bool p256_sign(const uint8_t key[P256_KEY_BYTES], const uint8_t *hash, size_t len, uint8_t out[P256_SIGNATURE_BYTES]);
bool p256_verify(const uint8_t point[P256_POINT_BYTES], const uint8_t *hash, size_t len,
	const uint8_t signature[P256_SIGNATURE_BYTES]);

/* Strict DER: what p256_der_write() would not have written is refused. Whether r and s are in range is for p256_verify(). */
bool p256_der_read(const uint8_t *der, size_t len, uint8_t out[P256_SIGNATURE_BYTES]);
size_t p256_der_write(const uint8_t signature[P256_SIGNATURE_BYTES], uint8_t out[P256_DER_MAX]);

const char *p256_library(void); /* "OpenSSL 3.0.19 27 Jan 2026" */
void p256_wipe(void *secret, size_t len);
