/*
 * DOC: Tokens: what is accepted, and each way of forging one that RFC 8725 warns of. The vector is that of RFC 7515, A.3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/limits.h"
#include "common/pki/pki_internal.h"

static const char rfc7515_jwks[] =
	"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
	"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
static const char rfc7515_token[] =
	"eyJhbGciOiJFUzI1NiJ9."
	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
	"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

struct fixture {
	struct arena *a;
	struct pki_key *key;
	struct jwks *keys;
};

static struct fixture fixture_new(enum pki_key_type type)
{
	struct fixture f = {.a = arena_new()};
	struct err e = {0};
	char *json = NULL;
	f.key = pki_key_new(type, &e);
	assert_true(jwks_of_key(f.key, "k1", &json, &e));
	assert_true(jwks_parse(str_of(json), &f.keys, &e));
	free(json);
	return f;
}

static void fixture_done(struct fixture *f)
{
	jwks_free(f->keys);
	pki_key_free(f->key);
	arena_free(f->a);
}

static void rfc7515_example_verifies(void **state)
{
	struct arena *a = arena_new();
	struct jwks *keys = NULL;
	struct err e = {0};
	struct jwt t;
	assert_true(jwks_parse(STR(rfc7515_jwks), &keys, &e));
	assert_true(jwt_verify(a, STR(rfc7515_token), keys, &t, &e));
	assert_string_equal(t.issuer, "joe");
	assert_string_equal(t.subject, "");
	assert_int_equal(t.expires_ms, 1300819380000);
	assert_null(t.audiences[0]);
	jwks_free(keys);
	arena_free(a);
}

static void signed_tokens_are_read_back(void **state)
{
	static const char payload[] =
		"{\"iss\":\"i\",\"sub\":\"s\",\"aud\":[\"a\",\"b\"],\"exp\":10.5,\"nbf\":2,\"iat\":1}";
	static const enum pki_key_type types[] = {PKI_P256, PKI_RSA2048};
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct fixture f = fixture_new(types[i]);
		struct err e = {0};
		struct jwt t;
		char *token = NULL;
		assert_true(jwt_sign(f.key, "k1", payload, &token, &e));
		assert_true(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
		assert_string_equal(t.alg, i ? "RS256" : "ES256");
		assert_string_equal(t.kid, "k1");
		assert_string_equal(t.issuer, "i");
		assert_string_equal(t.subject, "s");
		assert_string_equal(t.audiences[0], "a");
		assert_string_equal(t.audiences[1], "b");
		assert_null(t.audiences[2]);
		assert_int_equal(t.expires_ms, 10500);
		assert_int_equal(t.not_before_ms, 2000);
		assert_int_equal(t.issued_ms, 1000);
		assert_string_equal(t.payload_json, payload);
		free(token);
		fixture_done(&f);
	}
}

static char *craft(const char *header, const char *payload, const char *signature)
{
	struct strbuf b = {0};
	pki_b64url_encode(&b, header, strlen(header));
	strbuf_addc(&b, '.');
	pki_b64url_encode(&b, payload, strlen(payload));
	strbuf_addc(&b, '.');
	strbuf_adds(&b, signature);
	return strbuf_take(&b);
}

static void C10_forged_tokens_are_refused(void **state)
{
	static const struct {
		const char *header, *payload, *signature, *text;
	} cases[] = {
		{"{\"alg\":\"none\"}", "{}", "", "\"none\" is not accepted"},
		{"{\"alg\":\"None\"}", "{}", "", "\"None\" is not accepted"},
		{"{\"alg\":\"HS256\",\"kid\":\"k1\"}", "{}", "AAAA", "\"HS256\" is not accepted"},
		{"{\"kid\":\"k1\"}", "{}", "AAAA", "alg"},
		{"{\"alg\":\"RS256\",\"kid\":\"k1\"}", "{}", "AAAA", "no key with the id \"k1\" for RS256"},
		{"{\"alg\":\"ES256\",\"kid\":\"k2\"}", "{}", "AAAA", "no key with the id \"k2\""},
		{"{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}", "AAAA", "signature does not verify"},
		{"{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}", "", "signature does not verify"},
		{"{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":[\"x\"]}", "{}", "AAAA", "critical"},
		{"{\"alg\":\"ES256\",\"alg\":\"none\"}", "{}", "AAAA", "header is not a JSON object"},
		{"[]", "{}", "AAAA", "header is not a JSON object"},
	};
	struct fixture f = fixture_new(PKI_P256);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		struct jwt t;
		char *token = craft(cases[i].header, cases[i].payload, cases[i].signature);
		assert_false(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
		if (!strstr(e.text, cases[i].text))
			fail_msg("case %zu: %s", i, e.text);
		free(token);
	}
	fixture_done(&f);
}

/* All zero r and s, the classic of CVE-2022-21449. */
static void C10_zero_signature_is_refused(void **state)
{
	struct fixture f = fixture_new(PKI_P256);
	struct err e = {0};
	struct jwt t;
	char zeros[87];
	memset(zeros, 'A', 86);
	zeros[86] = '\0';
	char *token = craft("{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}", zeros);
	assert_false(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
	assert_non_null(strstr(e.text, "does not verify"));
	free(token);
	fixture_done(&f);
}

static void C10_changed_tokens_are_refused(void **state)
{
	struct fixture f = fixture_new(PKI_P256);
	struct err e = {0};
	struct jwt t;
	char *token = NULL;
	assert_true(jwt_sign(f.key, "k1", "{\"sub\":\"system:serviceaccount:a:b\"}", &token, &e));
	/* The last character may carry bits that base64 does not use. */
	for (size_t i = 0; token[i + 1]; i++) {
		char old = token[i];
		token[i] = old == 'A' ? 'Q' : 'A';
		assert_false(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
		token[i] = old;
	}
	assert_true(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
	free(token);
	fixture_done(&f);
}

static void C10_key_of_another_is_refused(void **state)
{
	struct fixture f = fixture_new(PKI_P256), other = fixture_new(PKI_P256);
	struct err e = {0};
	struct jwt t;
	char *token = NULL;
	assert_true(jwt_sign(other.key, "k1", "{}", &token, &e));
	assert_false(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
	assert_int_equal(e.kind, ERR_DENIED);
	free(token);
	fixture_done(&f);
	fixture_done(&other);
}

static void payload_types_are_checked(void **state)
{
	static const char *const payloads[] = {"[]", "{\"exp\":\"soon\"}", "{\"exp\":-1}", "{\"exp\":1e300}",
		"{\"aud\":1}", "{\"aud\":[1]}", "{", "{\"a\":1,\"a\":2}", "{\"sub\":\"\\u0000\"}"};
	struct fixture f = fixture_new(PKI_P256);
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		struct err e = {0};
		struct jwt t;
		char *token = NULL;
		assert_true(jwt_sign(f.key, NULL, payloads[i], &token, &e));
		assert_false(jwt_verify(f.a, str_of(token), f.keys, &t, &e));
		assert_int_equal(e.kind, ERR_PEER);
		free(token);
	}
	fixture_done(&f);
}

static void tokens_beyond_the_limit_are_refused(void **state)
{
	struct fixture f = fixture_new(PKI_P256);
	struct err e = {0};
	struct jwt t;
	char *big = xzalloc(LIMIT_JWT_BYTES + 2);
	memset(big, 'A', LIMIT_JWT_BYTES + 1);
	assert_false(jwt_verify(f.a, str_of(big), f.keys, &t, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	assert_false(jwt_verify(f.a, STR(""), f.keys, &t, &e));
	assert_false(jwt_verify(f.a, STR("a.b"), f.keys, &t, &e));
	assert_false(jwt_verify(f.a, STR("e30.e30.e30.e30"), f.keys, &t, &e));
	assert_false(jwt_verify(f.a, STR("e3=.e30.e30"), f.keys, &t, &e));
	free(big);
	fixture_done(&f);
}

static void key_sets_are_checked(void **state)
{
	static const struct {
		const char *json, *text;
	} cases[] = {
		{"", "JWKS"},
		{"{}", "\"keys\" is not a list"},
		{"{\"keys\":[]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"OKP\"}]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"enc\"}]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", "32 bytes"},
		{"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\"}]}", "\"y\" is missing"},
		{"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		 "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}",
			"not on the curve"},
		{"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "keys[0]"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		struct jwks *k = NULL;
		assert_false(jwks_parse(str_of(cases[i].json), &k, &e));
		if (!strstr(e.text, cases[i].text))
			fail_msg("case %zu: %s", i, e.text);
		assert_null(k);
	}
}

static void pem_public_keys_verify_too(void **state)
{
	struct fixture f = fixture_new(PKI_P256);
	struct err e = {0};
	struct str spki;
	struct jwks *keys = NULL;
	struct jwt t;
	char *token = NULL;
	assert_true(pki_spki_of(f.key, f.a, &spki, &e));
	char *pem = pki_pem("PUBLIC KEY", (const unsigned char *)spki.ptr, spki.len);
	assert_true(jwks_parse(str_of(pem), &keys, &e));
	assert_true(jwt_sign(f.key, "any", "{\"sub\":\"x\"}", &token, &e));
	assert_true(jwt_verify(f.a, str_of(token), keys, &t, &e));
	assert_string_equal(t.subject, "x");
	free(token);
	free(pem);
	jwks_free(keys);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc7515_example_verifies),
		cmocka_unit_test(signed_tokens_are_read_back),
		cmocka_unit_test(C10_forged_tokens_are_refused),
		cmocka_unit_test(C10_zero_signature_is_refused),
		cmocka_unit_test(C10_changed_tokens_are_refused),
		cmocka_unit_test(C10_key_of_another_is_refused),
		cmocka_unit_test(payload_types_are_checked),
		cmocka_unit_test(tokens_beyond_the_limit_are_refused),
		cmocka_unit_test(key_sets_are_checked),
		cmocka_unit_test(pem_public_keys_verify_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
