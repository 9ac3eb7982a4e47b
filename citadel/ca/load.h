/* The CA's key and certificates, as only the signer process loads them: from Istio's layout, cert-manager's, or made at first start. */
#pragma once

#include "common/pki/pki.h"

struct ca_options {
	const char *ca_dir; /* plugged in; NULL: our own root in state_dir */
	const char *state_dir;
	const char *root_key; /* "p256", "rsa2048", "rsa4096" */
	uint64_t root_ttl_ms;
	const char *trust_domain;
};

struct ca {
	struct pki_key *key;
	struct str cert; /* PEM, in the arena */
	struct str chain; /* PEM: the intermediates from the issuer upwards, without roots; may be empty */
	struct str roots; /* PEM */
	int64_t not_after_ms;
};

/* The parts of an own root, each only if it is not there yet: its key, and its certificate by that key. */
bool ca_make_key(const char *path, const struct ca_options *o, struct err *e) MUST_CHECK;
bool ca_make_cert(struct arena *a, const char *path, const struct ca_options *o, const struct pki_key *k,
	struct err *e) MUST_CHECK;
bool ca_load(struct arena *a, const struct ca_options *o, struct ca *out, struct err *e) MUST_CHECK;
