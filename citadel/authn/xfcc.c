/*
 * DOC: x-forwarded-client-cert (Envoy's format) from a trusted forwarder that terminated the caller's mutual TLS. One element with one URI:
 * of several hops only the nearest could be believed, so a forwarder must replace the header, not append to it.
 */
#include "citadel/authn/authn.h"
#include "common/mesh/spiffe.h"

/* key=value pairs between semicolons; values may be quoted. */
static bool find_uri(struct str header, struct str *out, struct err *e)
{
	struct str part = {0}, key = {0}, value = {0};
	size_t found = 0;
	if (memchr(header.ptr, ',', header.len) || memchr(header.ptr, '\\', header.len))
		return err_set(e, ERR_DENIED, "x-forwarded-client-cert must have exactly one element");
	while (str_split(&header, ';', &part)) {
		if (!str_cut(part, '=', &key, &value) || !str_ieq(str_trim(key), STR("URI")))
			continue;
		if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
			value = str_sub(value, 1, value.len - 2);
		*out = value;
		found++;
	}
	return found == 1 || err_set(e, ERR_DENIED, "x-forwarded-client-cert has %zu URIs, one is needed", found);
}

static enum authn_result check(struct arena *a, const struct authn_context *c, const struct authn_request *r,
	struct authn_proof *out, struct err *e)
{
	struct spiffe_id parsed;
	struct str uri = {0};
	if (!r->xfcc.len)
		return AUTHN_ABSENT;
	if (!r->peer.len || !authn_listed(c->forwarders, r->peer)) {
		(void)err_set(e, ERR_DENIED, "x-forwarded-client-cert from a peer that is no trusted forwarder");
		return AUTHN_BAD;
	}
	if (!find_uri(r->xfcc, &uri, e) || !spiffe_parse(uri, &parsed, e))
		return AUTHN_BAD;
	if (!str_eqc(parsed.trust_domain, c->trust_domain)) {
		(void)err_set(e, ERR_DENIED, "the forwarded certificate is of another trust domain");
		return AUTHN_BAD;
	}
	out->id = arena_cstr(a, uri);
	return AUTHN_GOOD;
}

const struct authenticator xfcc_authenticator = {"xfcc", check};
