/*
 * What others may use of citadel in their own process: minting join tokens for the machine-local mode (`citadel token`, `fairlead up`).
 * A join token is a JWT (ES256) that citadel's own key for tokens signs: issuer "fairlead", subject
 * "system:serviceaccount:<namespace>:<service account>", audience "istio-ca".
 */
#pragma once

#include "common/base/err.h"

struct citadel_token {
	const char
		*state_dir; /* citadel's --state-dir: jwt-key.pem and jwks.json live there and are made at first use */
	const char *ns;
	const char *service_account;
	const char *audience; /* NULL: "istio-ca" */
	uint64_t ttl_ms; /* 0: 24 h */
};

/* The caller wipes and frees *out with secret_free() (common/pki/pki.h). */
bool citadel_token_mint(const struct citadel_token *t, char **out, struct err *e) MUST_CHECK;
