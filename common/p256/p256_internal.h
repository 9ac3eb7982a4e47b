/* What a library must do for p256.c; one of openssl.c and mbedtls.c is built. Keys are in range and points begin with 04 already. */
#pragma once

#include "common/p256/p256.h"

bool p256_backend_multiply(const uint8_t *key, const uint8_t *peer /* NULL: the generator */, uint8_t *out);
bool p256_backend_sign(const uint8_t *key, const uint8_t *hash, size_t len, uint8_t *out);
bool p256_backend_verify(const uint8_t *point, const uint8_t *hash, size_t len, const uint8_t *signature);
