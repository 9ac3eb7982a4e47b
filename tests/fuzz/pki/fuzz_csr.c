/*
 * DOC: Certificate signing requests from anyone on the network. Oracle beyond not crashing: what is accepted can be issued, and the
 * certificate made of it parses and names the same key.
 */
#include <stdlib.h>

#include "common/pki/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pki_key *issuer_key;
static char *issuer_cert;

static void make_issuer(struct arena *a)
{
	struct pki_cert_request r = {.common_name = "issuer",
		.not_before_ms = 1700000000000,
		.not_after_ms = 1900000000000,
		.ca = true,
		.path_len = -1};
	issuer_key = pki_key_new(PKI_P256, NULL);
	bool ok = issuer_key && pki_spki_of(issuer_key, a, &r.spki_der, NULL) &&
		  pki_issue(issuer_key, (struct str){0}, &r, &issuer_cert, NULL);
	assert(ok);
}

static void issue(struct arena *a, const struct pki_csr *csr)
{
	static const char *const uris[] = {"spiffe://cluster.local/ns/a/sa/b", NULL};
	struct pki_cert_request r = {.spki_der = csr->spki_der,
		.uris = uris,
		.not_before_ms = 1700000000000,
		.not_after_ms = 1800000000000,
		.path_len = -1};
	char *pem = NULL;
	struct pki_cert *c = NULL;
	size_t n = 0;
	if (!issuer_key)
		make_issuer(a);
	bool ok = pki_issue(issuer_key, str_of(issuer_cert), &r, &pem, NULL);
	assert(ok);
	ok = pki_certs_parse(a, str_of(pem), &c, &n, NULL);
	assert(ok && n == 1 && streq(c->key_type, csr->key_type));
	free(pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_csr csr;
	struct err e = {0};
	if (pki_csr_parse(a, str_n(data, size), &csr, &e))
		issue(a, &csr);
	else
		assert(e.kind != ERR_NONE && e.text[0]);
	return 0;
}
