/* What may be signed. Checked by the daemon, for good answers, and again by the signer, which does not trust the daemon. Pure. */
#pragma once

#include "common/pki/pki.h"

struct policy {
	const char *trust_domain;
	const char *const *dns; /* names that control-plane certificates may carry; NULL-terminated */
};

/* CA bit, key strength, foreign SANs: the CSR may name nothing or exactly the identity, and DNS names of `dns`. ERR_PEER or ERR_DENIED. */
bool policy_csr(const struct pki_csr *csr, const char *identity, const char *const *dns, struct err *e) MUST_CHECK;
/* The names of a certificate: one SPIFFE id of the trust domain, DNS names only from the list. */
bool policy_names(const struct policy *p, const char *identity, const char *const *dns, struct err *e) MUST_CHECK;
