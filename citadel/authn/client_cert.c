/* DOC: The caller's current certificate. TLS has verified the chain; the identity must be a workload's of our trust domain. */
#include "citadel/authn/authn.h"
#include "common/mesh/spiffe.h"

static enum authn_result check(struct arena *a, const struct authn_context *c, const struct authn_request *r,
	struct authn_proof *out, struct err *e)
{
	struct spiffe_id parsed;
	if (!r->peer.len || authn_forwards(c, r))
		return AUTHN_ABSENT;
	if (!spiffe_parse(r->peer, &parsed, e))
		return AUTHN_BAD;
	if (!str_eqc(parsed.trust_domain, c->trust_domain)) {
		(void)err_set(e, ERR_DENIED, "the certificate is of another trust domain");
		return AUTHN_BAD;
	}
	out->id = arena_cstr(a, r->peer);
	return AUTHN_GOOD;
}

const struct authenticator client_cert_authenticator = {"client-certificate", check};
