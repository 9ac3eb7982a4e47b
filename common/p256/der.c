/*
 * DOC: ECDSA signatures in DER. Read strictly, since one signature must have one form: lengths short, integers positive and without a zero
 * that they do not need, nothing behind. A signature of P-256 has at most 72 bytes, so every length is one byte.
 */
#include "common/p256/p256.h"

#include <string.h>

#define TAG_SEQUENCE 0x30
#define TAG_INTEGER 0x02
#define HALF 32

/* INTEGER at *at into 32 bytes. */
static bool read_integer(const uint8_t **at, const uint8_t *end, uint8_t out[HALF])
{
	const uint8_t *p = *at;
	if (end - p < 3 || p[0] != TAG_INTEGER || p[1] == 0 || p[1] > HALF + 1 || end - p - 2 < p[1])
		return false;
	size_t len = p[1];
	p += 2;
	*at = p + len;
	bool padded = p[0] == 0 && len > 1;
	if ((p[0] & 0x80) || (padded && !(p[1] & 0x80)) || (!padded && len > HALF))
		return false;
	p += padded;
	len -= padded;
	memset(out, 0, HALF - len);
	memcpy(out + HALF - len, p, len);
	return true;
}

bool p256_der_read(const uint8_t *der, size_t len, uint8_t out[P256_SIGNATURE_BYTES])
{
	uint8_t signature[P256_SIGNATURE_BYTES];
	if (len < 2 || len > P256_DER_MAX || der[0] != TAG_SEQUENCE || der[1] != len - 2)
		return false;
	const uint8_t *p = der + 2, *end = der + len;
	if (!read_integer(&p, end, signature) || !read_integer(&p, end, signature + HALF) || p != end)
		return false;
	memcpy(out, signature, sizeof(signature));
	return true;
}

static size_t write_integer(const uint8_t value[HALF], uint8_t *out)
{
	size_t zeros = 0;
	while (zeros < HALF - 1 && value[zeros] == 0)
		zeros++;
	size_t pad = value[zeros] >> 7, len = HALF - zeros;
	out[0] = TAG_INTEGER;
	out[1] = (uint8_t)(len + pad);
	out[2] = 0;
	memcpy(out + 2 + pad, value + zeros, len);
	return 2 + pad + len;
}

size_t p256_der_write(const uint8_t signature[P256_SIGNATURE_BYTES], uint8_t out[P256_DER_MAX])
{
	size_t len = write_integer(signature, out + 2);
	len += write_integer(signature + HALF, out + 2 + len);
	out[0] = TAG_SEQUENCE;
	out[1] = (uint8_t)len;
	return 2 + len;
}
