/*
 * DOC: Conformance of the authenticators: one table of calls, and for each who the caller is, or why not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "citadel/authn/authn.h"

#define PILOT "spiffe://cluster.local/ns/istio-system/sa/istiod"
#define CART "spiffe://cluster.local/ns/shop/sa/cart"
#define NOW_S 1780000000

static const char *const issuers[] = {"iss", NULL}, *const audiences[] = {"istio-ca", NULL},
			 *const forwarders[] = {PILOT, NULL};

static const struct {
	const char *payload, *peer, *xfcc, *relayed;
	const char *id, *by; /* NULL: refused */
	const char *why;
} cases[] = {
	{NULL, NULL, NULL, NULL, NULL, NULL, "no credentials"},
	{NULL, CART, NULL, NULL, CART, "client-certificate", NULL},
	{NULL, "spiffe://other/ns/a/sa/b", NULL, NULL, NULL, NULL, "another trust domain"},
	{NULL, PILOT, NULL, NULL, PILOT, "client-certificate", NULL},
	{NULL, PILOT, NULL, "true", NULL, NULL, "no credentials"},
	{NULL, PILOT, "URI=" CART, NULL, CART, "xfcc", NULL},
	{NULL, PILOT, "Hash=ab;URI=\"" CART "\"", NULL, CART, "xfcc", NULL},
	{NULL, PILOT, "URI=" CART ",URI=" CART, NULL, NULL, NULL, "exactly one element"},
	{NULL, PILOT, "URI=" CART ";URI=" CART, NULL, NULL, NULL, "2 URIs"},
	{NULL, PILOT, "Hash=ab", NULL, NULL, NULL, "0 URIs"},
	{NULL, PILOT, "URI=spiffe://other/ns/a/sa/b", NULL, NULL, NULL, "another trust domain"},
	{NULL, NULL, "URI=" CART, NULL, NULL, NULL, "no trusted forwarder"},
	{"'sub':'system:serviceaccount:shop:cart','exp':1780000060", NULL, NULL, NULL, CART, "jwt", NULL},
	{"'sub':'system:serviceaccount:shop:cart','exp':1780000060", PILOT, NULL, "true", CART, "jwt", NULL},
	{"'sub':'system:serviceaccount:shop:cart','exp':1779999999", PILOT, NULL, NULL, NULL, NULL, "expired"},
	{"'sub':'system:serviceaccount:shop:cart'", NULL, NULL, NULL, NULL, NULL, "no expiry"},
	{"'sub':'system:serviceaccount:shop:cart','exp':1780009000,'nbf':1780000600", NULL, NULL, NULL, NULL, NULL,
		"not valid yet"},
	{"'sub':'somebody','exp':1780000060", NULL, NULL, NULL, NULL, NULL, "no service account"},
	{"'sub':'system:serviceaccount:a/b:cart','exp':1780000060", NULL, NULL, NULL, NULL, NULL, "SPIFFE ID"},
	{"'sub':'x','kubernetes.io':{'namespace':'shop','serviceaccount':{'name':'cart'}},'exp':1780000060", NULL, NULL,
		NULL, CART, "jwt", NULL},
	{"'sub':'system:serviceaccount:a:b','kubernetes.io':{'namespace':'shop','serviceaccount':{'name':'cart'}},'exp'"
	 ":1780000060",
		NULL, NULL, NULL, NULL, NULL, "disagree"},
	{"'iss':'bad','sub':'system:serviceaccount:shop:cart','exp':1780000060", NULL, NULL, NULL, NULL, NULL,
		"issuer"},
	{"'aud':'bad','sub':'system:serviceaccount:shop:cart','exp':1780000060", NULL, NULL, NULL, NULL, NULL,
		"audience"},
};

static char *token_of(const struct pki_key *k, const char *payload)
{
	char *json = xasprintf("{%s%s%s}", strstr(payload, "'iss'") ? "" : "'iss':'iss',",
		strstr(payload, "'aud'") ? "" : "'aud':['istio-ca'],", payload);
	char *token = NULL;
	for (char *c = json; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	assert_true(jwt_sign(k, "k", json, &token, NULL));
	free(json);
	char *header = xasprintf("Bearer %s", token);
	free(token);
	return header;
}

static void C10_each_kind_of_proof(void **state)
{
	struct pki_key *k = pki_key_new(PKI_P256, NULL);
	struct authn_context c = {.trust_domain = "cluster.local",
		.audiences = audiences,
		.forwarders = forwarders,
		.now_ms = NOW_S * 1000ll};
	char *set = NULL;
	assert_true(jwks_of_key(k, "k", &set, NULL));
	assert_true(jwks_parse(str_of(set), &c.sources[1].keys, NULL));
	c.sources[1].issuers = issuers;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena *a = arena_new();
		struct err e = {0};
		struct authn_proof proof;
		char *bearer = cases[i].payload ? token_of(k, cases[i].payload) : NULL;
		const struct authn_request r = {
			str_of(bearer), str_of(cases[i].xfcc), str_of(cases[i].relayed), str_of(cases[i].peer)};
		bool ok = authn_caller(a, &c, &r, &proof, &e);
		const char *id = proof.id, *by = proof.by;
		assert_int_equal(ok, id != NULL);
		assert_int_equal(proof.unverified, cases[i].why && !!strstr(cases[i].why, "issuer"));
		assert_false(proof.by_cluster);
		if (!streq(id, cases[i].id) || !streq(by, cases[i].by) ||
			(cases[i].why && !strstr(e.text, cases[i].why)))
			fail_msg("case %zu: %s by %s: %s", i, id ? id : "-", by ? by : "-", e.text);
		free(bearer);
		arena_free(a);
	}
	jwks_free(c.sources[1].keys);
	free(set);
	pki_key_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(C10_each_kind_of_proof)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
