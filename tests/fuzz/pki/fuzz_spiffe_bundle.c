/* DOC: SPIFFE bundles of an endpoint. Oracle: what is taken reads as certificates, each of a CA; what is not says why. */
#include "common/pki/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_cert *certs = NULL;
	struct str pem = {0};
	struct err e = {0};
	size_t n = 0;
	if (!pki_spiffe_bundle(a, str_n((const char *)data, size), &pem, &e)) {
		assert(e.text[0]);
		return 0;
	}
	assert(pki_certs_parse(a, pem, &certs, &n, &e) && n);
	for (size_t i = 0; i < n; i++)
		assert(certs[i].ca);
	return 0;
}
