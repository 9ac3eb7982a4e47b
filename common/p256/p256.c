/*
 * DOC: What is the same for every library: ranges, counting, making keys. A private key is compared with the order of the group in constant
 * time; a candidate for a new key is thrown away unless it is in range (FIPS 186-4, B.4.2), which happens once in 2^32.
 */
#include "common/p256/p256_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/metric.h"

METRIC(operations, COUNTER, "fairlead_p256_operations_total", "Operations on the curve P-256", "operation");

/* The order n of the group. */
static const uint8_t order[P256_KEY_BYTES] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
	0x25, 0x51};

static bool in_range(const uint8_t key[P256_KEY_BYTES])
{
	unsigned borrow = 0, any = 0;
	for (size_t i = P256_KEY_BYTES; i-- > 0;) {
		any |= key[i];
		borrow = (unsigned)key[i] - order[i] - borrow;
		borrow = borrow >> 8 & 1;
	}
	return (borrow & ((any + 0xff) >> 8)) == 1;
}

bool p256_public(const uint8_t key[P256_KEY_BYTES], uint8_t point[P256_POINT_BYTES])
{
	metric_add(&operations, 1, "public");
	return in_range(key) && p256_backend_multiply(key, NULL, point);
}

bool p256_generate(uint8_t key[P256_KEY_BYTES], uint8_t point[P256_POINT_BYTES])
{
	do
		random_bytes(key, P256_KEY_BYTES);
	while (!in_range(key));
	return p256_public(key, point);
}

bool p256_multiply(
	const uint8_t key[P256_KEY_BYTES], const uint8_t peer[P256_POINT_BYTES], uint8_t out[P256_POINT_BYTES])
{
	metric_add(&operations, 1, "multiply");
	return peer[0] == 4 && in_range(key) && p256_backend_multiply(key, peer, out);
}

bool p256_sign(const uint8_t key[P256_KEY_BYTES], const uint8_t *hash, size_t len, uint8_t out[P256_SIGNATURE_BYTES])
{
	metric_add(&operations, 1, "sign");
	return in_range(key) && p256_backend_sign(key, hash, len < 32 ? len : 32, out);
}

bool p256_verify(const uint8_t point[P256_POINT_BYTES], const uint8_t *hash, size_t len,
	const uint8_t signature[P256_SIGNATURE_BYTES])
{
	metric_add(&operations, 1, "verify");
	return point[0] == 4 && in_range(signature) && in_range(signature + 32) &&
	       p256_backend_verify(point, hash, len < 32 ? len : 32, signature);
}

void p256_wipe(void *secret, size_t len)
{
	explicit_bzero(secret, len);
}
