/* SPIFFE identities: spiffe://<trust domain>/ns/<namespace>/sa/<service account> (SPIFFE-ID and Istio's path format). */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"

struct spiffe_id {
	struct str trust_domain;
	struct str ns;
	struct str service_account;
};

bool spiffe_parse(struct str uri, struct spiffe_id *out, struct err *e) MUST_CHECK; /* views into uri */
char *spiffe_format(struct arena *a, struct str trust_domain, struct str ns, struct str service_account);
