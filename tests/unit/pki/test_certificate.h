/* Test help: a self-signed certificate. */
#pragma once

#include "common/base/arena.h"
#include "common/pki/pki.h"

/* PEM, the caller's to free; NULL: it could not be made. */
static inline char *test_certificate(const char *organization, bool ca)
{
	struct err e = {0};
	struct arena *a = arena_new();
	struct pki_key *k = pki_key_new(PKI_P256, &e);
	struct pki_cert_request r = {.organization = organization,
		.common_name = "",
		.ca = ca,
		.path_len = -1,
		.not_after_ms = 4000000000000};
	char *pem = NULL;
	bool ok = k && pki_spki_of(k, a, &r.spki_der, &e) && pki_issue(k, (struct str){0}, &r, &pem, &e);
	arena_free(a);
	pki_key_free(k);
	return ok ? pem : NULL;
}
