/*
 * Who calls? Each authenticator looks at one kind of proof and says: not there, not good (with the reason), or the caller's SPIFFE id. The
 * first that is good counts. A trusted forwarder (pilot, which relays CSRs) speaks for others: when it passes on somebody's credentials, or
 * says x-fairlead-relayed, its own certificate proves nothing about the caller. Pure: time and headers are arguments.
 */
#pragma once

#include "common/pki/pki.h"

struct authn_source {
	struct jwks *keys; /* NULL: not loaded */
	const char *const *issuers;
};

struct authn_context {
	const char *trust_domain;
	const char *const *audiences;
	const char *const *forwarders;
	struct authn_source sources[3]; /* our own tokens; --jwks with --jwt-issuer; the cluster's */
	int64_t now_ms;
};

struct authn_request {
	struct str authorization, xfcc, relayed; /* headers */
	struct str peer; /* verified SPIFFE id of the TLS peer, empty: none */
};

enum authn_result { AUTHN_ABSENT, AUTHN_BAD, AUTHN_GOOD };

struct authenticator {
	const char *name;
	enum authn_result (*check)(struct arena *a, const struct authn_context *c, const struct authn_request *r,
		const char **id, struct err *e);
};

#define AUTHENTICATOR(name) extern const struct authenticator name##_authenticator;
#include "citadel/authn/authn.def"
#undef AUTHENTICATOR

/* NULL and e with each reason when nobody vouches for the caller. */
const char *authn_caller(
	struct arena *a, const struct authn_context *c, const struct authn_request *r, const char **by, struct err *e);
bool authn_listed(const char *const *list, struct str name);
bool authn_forwards(const struct authn_context *c, const struct authn_request *r);
