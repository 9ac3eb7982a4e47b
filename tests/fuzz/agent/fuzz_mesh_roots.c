/* DOC: Pilot's answer about the mesh's roots. Oracle: what is taken reads as just that many certificates, each of a CA. */
#include "agent/mesh_roots.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct err e = {0};
	const Ads__DeltaDiscoveryResponse *in = PB_UNPACK(
		a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, data, size, &e);
	struct pki_cert *certs = NULL;
	const char *pem = NULL;
	size_t n = 0, read = 0;
	if (!in)
		return 0;
	if (!mesh_roots_parse(a, in, &pem, &n, &e)) {
		assert(e.text[0]);
		return 0;
	}
	if (!pem || !*pem) {
		assert(!n);
		return 0;
	}
	assert(pki_certs_parse(a, str_of(pem), &certs, &read, &e) && read == n);
	for (size_t i = 0; i < read; i++)
		assert(certs[i].ca);
	return 0;
}
