/* DOC: ECDSA signatures in DER from anyone. Oracle: what is read is written back byte for byte, and nothing else is ever read as the same. */
#include <stdlib.h>
#include <string.h>

#include "common/base/util.h"
#include "common/p256/p256.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t raw[P256_SIGNATURE_BYTES], back[P256_DER_MAX], again[P256_SIGNATURE_BYTES];
	if (p256_der_read(data, size, raw)) {
		size_t len = p256_der_write(raw, back);
		assert(len == size && memcmp(back, data, len) == 0);
	}
	/* The other way round: any 64 bytes have a form, which is read as what it was. */
	if (size >= sizeof(raw)) {
		size_t len = p256_der_write(data, back);
		bool ok = p256_der_read(back, len, again);
		assert(ok && memcmp(again, data, sizeof(again)) == 0);
	}
	return 0;
}
