/*
 * Certificate signing requests that no honest client makes, for the tests of everything that must refuse them: weak keys, foreign
 * curves, CA bits, weak digests, SANs of any kind, broken signatures. The caller frees what is returned.
 */
#pragma once

#include <mbedtls/md.h>

#include "common/pki/pki.h"

struct csr_recipe {
	enum { CSR_P256, CSR_P384, CSR_SECP256K1, CSR_P521, CSR_RSA1024, CSR_RSA2048 } key;
	const char *const *uris; /* NULL-terminated, or NULL */
	const char *const *dns;
	const char *email; /* one rfc822Name, or NULL */
	bool wants_ca;
	bool sha1;
	bool break_signature;
};
char *csr_make(const struct csr_recipe *r);
