/*
 * One workload identity, kept fresh: makes a key and a CSR, asks a CA (IstioCertificateService/CreateCertificate) with a token or with
 * the current certificate, and again at half of the lifetime with jitter; retries with backoff; a reader always sees a matching
 * key + chain + roots. Used by the agent (for Envoy) and by pilot (for its own serving certificate). Owner thread: the loop's.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/io/tls.h"

struct identity;

struct identity_options {
	const char *ca_address; /* "host:port" or "unix:/path" */
	const char *
		ca_roots_file; /* PEM that verifies the CA's server certificate; read again before each attempt, and looked at for new roots of the mesh; NULL: plaintext (unix only) */
	const char *const *ca_names; /* accepted server names (DNS or SPIFFE URI), NULL-terminated */
	const char *token_file; /* JWT, read again before each attempt; NULL: none */
	const char *spiffe_id; /* asked for */
	const char *const *dns; /* extra DNS SANs (control-plane daemons only), or NULL */
	uint64_t ttl_ms; /* asked for; 0: 24 h */
	const char *key_type; /* a name of pki.h; NULL: p256 */
	const char *
		persist_dir; /* keeps key.pem, cert-chain.pem, root-cert.pem (0600) so that a restart needs no CA; NULL: none */
	double renew_at; /* fraction of the lifetime, 0: 0.5 */
	void (*on_change)(void *ctx); /* key, chain or roots changed */
	void (*on_attempt)(void *ctx, bool ok, uint64_t took_ms); /* a request to the CA has ended; NULL: not told */
	void *ctx;
};

struct identity_material {
	const char *key_pem;
	const char *chain_pem; /* leaf first */
	const char *roots_pem;
	int64_t not_after_ms;
	uint64_t generation; /* grows with every change */
};

struct identity *identity_new(struct loop *l, const struct identity_options *o, struct err *e) MUST_CHECK;
void identity_free(struct identity *i);
/* NULL until there is one (not expired). Borrowed until the next on_change. */
const struct identity_material *identity_get(const struct identity *i);
const char *identity_last_error(const struct identity *i); /* "" when the last attempt was fine */
void identity_renew_now(struct identity *i);
void identity_debug(const struct identity *i, struct strbuf *json);
