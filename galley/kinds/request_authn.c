#include <stdlib.h>

#include "cfg/security.pb-c.h"
#include "common/pki/pki.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: RequestAuthentication. Each rule names an issuer and where its keys come from: a URI, or the keys themselves, which must be ones
 * that can be read, since Envoy refuses the whole listener when they can not. Places where tokens are looked for have names.
 */

static void check_jwks(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct jwks *keys = NULL;
	struct err e;
	if (!jwks_parse(place_str(p), &keys, &e))
		check_error(c, "jwks", r->source, p->path, "%s", e.text);
	jwks_free(keys);
}

static const struct rule rules[] = {
	{"jwtRules", check_length, .max = 4096, .source = "api: RequestAuthentication.jwtRules"},
	{"jwtRules[].issuer", NULL, .required = true, .source = "api: JWTRule.issuer"},
	{"jwtRules[].audiences[]", check_non_empty, .source = "api: JWTRule.audiences"},
	{"jwtRules[].jwksUri", check_key_uri, .source = "api: JWTRule.jwksUri"},
	{"jwtRules[].jwksUri", check_length, .max = 2048, .source = "api: JWTRule.jwksUri"},
	{"jwtRules[].jwks", check_jwks, .source = "api: JWTRule.jwks"},
	{"jwtRules[].fromHeaders[].name", check_header_name, .required = true, .source = "api: JWTHeader.name"},
	{"jwtRules[].fromParams[]", check_non_empty, .source = "api: JWTRule.fromParams"},
	{"jwtRules[].fromCookies[]", check_non_empty, .source = "api: JWTRule.fromCookies"},
	{"jwtRules[].outputPayloadToHeader", check_header_name, .source = "api: JWTRule.outputPayloadToHeader"},
	{"jwtRules[].outputClaimToHeaders[].header", check_header_name, .required = true,
		.source = "api: ClaimToHeader.header"},
	{"jwtRules[].outputClaimToHeaders[].claim", NULL, .required = true, .source = "api: ClaimToHeader.claim"},
	{"jwtRules[].timeout", check_duration, 1, 0, .source = "api: JWTRule.timeout"},
	{"jwtRules[].spaceDelimitedClaims", check_length, .max = 64, .source = "api: JWTRule.spaceDelimitedClaims"},
	{"jwtRules[].spaceDelimitedClaims[]", check_non_empty, .source = "api: JWTRule.spaceDelimitedClaims"},
};

static void validate(struct check *c, const void *message)
{
	const Sec__RequestAuthentication *p = message;
	const struct attachment a = ATTACHMENT(p);
	check_attachment(c, &a, "api: RequestAuthentication.selector");
	for (size_t i = 0; i < p->n_jwt_rules; i++)
		if (!str_empty(p->jwt_rules[i]->jwks) && !str_empty(p->jwt_rules[i]->jwks_uri))
			check_error(c, "jwks", "api: JWTRule.jwks", path_at(c, "spec.jwtRules[%zu].jwks", i),
				"cannot be with jwksUri: keys come from one place");
}

extern const struct kind_ops request_authn_ops;
const struct kind_ops request_authn_ops = {RULES(rules), .validate = validate, .not_applied = true};
