/* DOC: The table of authenticators, and the loop over it. */
#include "citadel/authn/authn.h"

static const struct authenticator *const table[] = {
#define AUTHENTICATOR(name) &name##_authenticator,
#include "citadel/authn/authn.def"
#undef AUTHENTICATOR
};

bool authn_listed(const char *const *list, struct str name)
{
	for (size_t i = 0; list && list[i]; i++)
		if (str_eqc(name, list[i]))
			return true;
	return false;
}

bool authn_forwards(const struct authn_context *c, const struct authn_request *r)
{
	return r->peer.len && authn_listed(c->forwarders, r->peer) &&
	       (r->authorization.len || r->xfcc.len || r->relayed.len);
}

bool authn_account(struct str subject, struct str *ns, struct str *name)
{
	static const struct str prefix = {"system:serviceaccount:", 22};
	return str_starts(subject, prefix) && str_cut(str_from(subject, prefix.len), ':', ns, name);
}

struct str authn_bearer(struct str authorization)
{
	static const struct str bearer = {"Bearer ", 7};
	if (!str_ieq(str_sub(authorization, 0, bearer.len), bearer))
		return (struct str){0};
	return str_trim(str_from(authorization, bearer.len));
}

bool authn_caller(struct arena *a, const struct authn_context *c, const struct authn_request *r,
	struct authn_proof *out, struct err *e)
{
	struct strbuf reasons cleanup(strbuf_done) = {0};
	*out = (struct authn_proof){0};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct err why = {0};
		enum authn_result result = table[i]->check(a, c, r, out, &why);
		if (result == AUTHN_GOOD) {
			out->by = table[i]->name;
			return true;
		}
		if (result == AUTHN_BAD)
			strbuf_addf(&reasons, "%s%s: %s", reasons.len ? "; " : "", table[i]->name, why.text);
	}
	return err_set(
		e, ERR_DENIED, "the caller is not authenticated: %s", reasons.len ? reasons.ptr : "no credentials");
}
