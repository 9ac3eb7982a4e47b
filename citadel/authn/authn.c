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

const char *authn_caller(
	struct arena *a, const struct authn_context *c, const struct authn_request *r, const char **by, struct err *e)
{
	struct strbuf reasons cleanup(strbuf_done) = {0};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct err why = {0};
		const char *id = NULL;
		enum authn_result result = table[i]->check(a, c, r, &id, &why);
		if (result == AUTHN_GOOD) {
			*by = table[i]->name;
			return id;
		}
		if (result == AUTHN_BAD)
			strbuf_addf(&reasons, "%s%s: %s", reasons.len ? "; " : "", table[i]->name, why.text);
	}
	(void)err_set(
		e, ERR_DENIED, "the caller is not authenticated: %s", reasons.len ? reasons.ptr : "no credentials");
	return NULL;
}
