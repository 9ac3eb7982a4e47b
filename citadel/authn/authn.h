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

/* Which of the context's sources has verified a token. */
enum authn_source_index { AUTHN_OWN, AUTHN_JWKS, AUTHN_CLUSTER, AUTHN_SOURCE_COUNT };

struct authn_context {
	const char *trust_domain;
	const char *const *audiences;
	const char *const *forwarders;
	struct authn_source sources[AUTHN_SOURCE_COUNT]; /* our own tokens; --jwks with --jwt-issuer; the cluster's */
	int64_t now_ms;
};

struct authn_request {
	struct str authorization, xfcc, relayed; /* headers */
	struct str peer; /* verified SPIFFE id of the TLS peer, empty: none */
};

/* What a token of the cluster is bound to; empty: nothing. */
struct authn_pod {
	struct str name, uid;
};

struct authn_proof {
	const char *id; /* NULL: nobody vouches for the caller */
	const char *by; /* the authenticator's name */
	bool by_cluster; /* by the cluster's keys */
	struct authn_pod pod; /* by the cluster's keys, in the arena */
	bool unverified; /* there is a token that no key known here verifies */
};

enum authn_result { AUTHN_ABSENT, AUTHN_BAD, AUTHN_GOOD };

struct authenticator {
	const char *name;
	enum authn_result (*check)(struct arena *a, const struct authn_context *c, const struct authn_request *r,
		struct authn_proof *out, struct err *e); /* AUTHN_GOOD: with the id */
};

#define AUTHENTICATOR(name) extern const struct authenticator name##_authenticator;
#include "citadel/authn/authn.def"
#undef AUTHENTICATOR

/* False, and e with each reason, when nobody vouches for the caller. `unverified` is told in any case. */
bool authn_caller(struct arena *a, const struct authn_context *c, const struct authn_request *r,
	struct authn_proof *out, struct err *e) MUST_CHECK;
/* "system:serviceaccount:<namespace>:<name>" */
bool authn_account(struct str subject, struct str *ns, struct str *name) MUST_CHECK;
/* The Bearer token of an authorization header; empty: there is none. */
struct str authn_bearer(struct str authorization);
bool authn_listed(const char *const *list, struct str name);
bool authn_forwards(const struct authn_context *c, const struct authn_request *r);
