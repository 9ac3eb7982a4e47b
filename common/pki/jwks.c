/*
 * DOC: Sets of public keys that verify tokens: JWKS documents (RFC 7517) and PEM public keys. Keys of kinds that are not used here (OKP,
 * symmetric, for encryption) are skipped, as RFC 7517, 5 asks; a set in which nothing remains is an error, because it could only refuse.
 * A key too weak to be believed (RSA below 2048 bits, a point that is not on the curve) is an error: someone meant it to be used.
 */
#include "common/pki/pki_internal.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <mbedtls/base64.h>
#include <mbedtls/ecp.h>
#include <mbedtls/rsa.h>

#include "common/base/vec.h"

static bool is_b64url(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool pki_b64url_decode(struct arena *a, struct str text, struct str *out)
{
	if (text.len % 4 == 1)
		return false;
	size_t padded = (text.len + 3) / 4 * 4, len = 0;
	unsigned char *standard = arena_alloc(a, padded + 1);
	for (size_t i = 0; i < padded; i++) {
		if (i < text.len && !is_b64url(text.ptr[i]))
			return false;
		char c = i < text.len ? text.ptr[i] : '=';
		standard[i] = (unsigned char)(c == '-' ? '+' : c == '_' ? '/' : c);
	}
	unsigned char *raw = arena_alloc(a, padded + 1);
	if (mbedtls_base64_decode(raw, padded + 1, &len, standard, padded))
		return false;
	*out = str_n(raw, len);
	return true;
}

void pki_b64url_encode(struct strbuf *out, const void *data, size_t len)
{
	size_t size = (len + 2) / 3 * 4 + 1, written = 0;
	unsigned char *text = xmalloc(size);
	int rc = mbedtls_base64_encode(text, size, &written, data, len);
	assert(rc == 0);
	for (size_t i = 0; i < written && text[i] != '='; i++)
		strbuf_addc(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : (char)text[i]);
	free(text);
}

const char *pki_jws_alg(const mbedtls_pk_context *pk)
{
	if (mbedtls_pk_can_do(pk, MBEDTLS_PK_ECKEY))
		return mbedtls_pk_ec(*pk)->grp.id == MBEDTLS_ECP_DP_SECP256R1 ? "ES256" : NULL;
	return mbedtls_pk_can_do(pk, MBEDTLS_PK_RSA) && mbedtls_pk_get_bitlen(pk) >= 2048 ? "RS256" : NULL;
}

void jwks_free(struct jwks *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->len; i++) {
		free(k->items[i].kid);
		mbedtls_pk_free(&k->items[i].pk);
	}
	vec_done(k);
	free(k);
}

static void jwks_free_p(struct jwks **k)
{
	jwks_free(*k);
}

/* Takes pk over when it is fit for use. */
static bool add_key(struct jwks *set, mbedtls_pk_context *pk, const char *kid, struct err *e)
{
	const char *alg = pki_jws_alg(pk);
	if (!alg)
		return err_set(e, ERR_PEER, "the key is neither P-256 nor RSA of 2048 bits or more");
	struct jwk key = {.kid = kid ? xstrdup(kid) : NULL, .pk = *pk, .alg = alg};
	vec_push(set, key);
	mbedtls_pk_init(pk);
	return true;
}

static bool member(struct arena *a, const json_t *o, const char *name, struct str *out, struct err *e)
{
	const json_t *v = json_object_get(o, name);
	if (!json_is_string(v))
		return err_set(e, ERR_PEER, "member \"%s\" is missing", name);
	if (!pki_b64url_decode(a, str_n(json_string_value(v), json_string_length(v)), out) || out->len == 0)
		return err_set(e, ERR_PEER, "member \"%s\" is not base64url", name);
	return true;
}

static bool ec_key(struct arena *a, const json_t *o, mbedtls_pk_context *pk, struct err *e)
{
	struct str x = {0}, y = {0};
	if (!member(a, o, "x", &x, e) || !member(a, o, "y", &y, e))
		return false;
	if (x.len != 32 || y.len != 32)
		return err_set(e, ERR_PEER, "the coordinates of a P-256 key have 32 bytes (RFC 7518, 6.2.1.2)");
	unsigned char point[65] = {4};
	memcpy(point + 1, x.ptr, 32);
	memcpy(point + 33, y.ptr, 32);
	int rc = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
	mbedtls_ecp_keypair *ec = rc ? NULL : mbedtls_pk_ec(*pk);
	rc = rc ? rc : mbedtls_ecp_group_load(&ec->grp, MBEDTLS_ECP_DP_SECP256R1);
	rc = rc ? rc : mbedtls_ecp_point_read_binary(&ec->grp, &ec->Q, point, sizeof(point));
	rc = rc ? rc : mbedtls_ecp_check_pubkey(&ec->grp, &ec->Q);
	return rc == 0 || err_set(e, ERR_PEER, "the point is not on the curve P-256");
}

static bool rsa_key(struct arena *a, const json_t *o, mbedtls_pk_context *pk, struct err *e)
{
	struct str n = {0}, x = {0};
	if (!member(a, o, "n", &n, e) || !member(a, o, "e", &x, e))
		return false;
	int rc = mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA));
	mbedtls_rsa_context *rsa = rc ? NULL : mbedtls_pk_rsa(*pk);
	rc = rc ? rc
		: mbedtls_rsa_import_raw(rsa, (const unsigned char *)n.ptr, n.len, NULL, 0, NULL, 0, NULL, 0,
			  (const unsigned char *)x.ptr, x.len);
	rc = rc ? rc : mbedtls_rsa_complete(rsa);
	rc = rc ? rc : mbedtls_rsa_check_pubkey(rsa);
	return rc == 0 || err_set(e, ERR_PEER, "the RSA key is not well-formed");
}

static bool one_jwk(struct arena *a, const json_t *o, struct jwks *set, struct err *e)
{
	const char *kty = json_string_value(json_object_get(o, "kty")),
		   *crv = json_string_value(json_object_get(o, "crv"));
	const char *use = json_string_value(json_object_get(o, "use"));
	bool ec = streq(kty, "EC") && streq(crv, "P-256"), rsa = streq(kty, "RSA");
	if ((!ec && !rsa) || (use && !streq(use, "sig")))
		return true;
	mbedtls_pk_context pk;
	mbedtls_pk_init(&pk);
	bool ok = (ec ? ec_key(a, o, &pk, e) : rsa_key(a, o, &pk, e)) &&
		  add_key(set, &pk, json_string_value(json_object_get(o, "kid")), e);
	mbedtls_pk_free(&pk);
	return ok;
}

static bool parse_json(struct str text, struct jwks *set, struct err *e)
{
	json_error_t error;
	json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return err_set(e, ERR_PEER, "JWKS: line %d: %s", error.line, error.text);
	const json_t *keys = json_object_get(root, "keys");
	struct arena *a cleanup(arena_free_p) = arena_new();
	bool ok = json_is_array(keys) || err_set(e, ERR_PEER, "JWKS: \"keys\" is not a list (RFC 7517, 5)");
	for (size_t i = 0; ok && i < json_array_size(keys); i++)
		ok = one_jwk(a, json_array_get(keys, i), set, e) || err_in(e, "JWKS: keys[%zu]", i);
	json_decref(root);
	return ok;
}

/* One or more "BEGIN PUBLIC KEY" blocks. */
static bool parse_pem(struct str text, struct jwks *set, struct err *e)
{
	static const char end_mark[] = "-----END ";
	char *all = xstrndup(text.ptr, text.len), *at = all, *end = NULL;
	bool ok = true;
	while (ok && (at = strstr(at, "-----BEGIN ")) != NULL && (end = strstr(at, end_mark)) != NULL) {
		end = strstr(end + sizeof(end_mark) - 1, "-----");
		end = end ? end + 5 : at + strlen(at);
		char *block = xstrndup(at, (size_t)(end - at));
		mbedtls_pk_context pk;
		mbedtls_pk_init(&pk);
		int rc = mbedtls_pk_parse_public_key(&pk, (const unsigned char *)block, strlen(block) + 1);
		ok = rc ? pki_library_error(e, rc, "parse a PEM public key") : add_key(set, &pk, NULL, e);
		mbedtls_pk_free(&pk);
		free(block);
		at = end;
	}
	free(all);
	return ok;
}

bool jwks_parse(struct str json, struct jwks **out, struct err *e)
{
	struct jwks *set cleanup(jwks_free_p) = xzalloc(sizeof(*set));
	struct str text = str_trim(json);
	if (json.len > LIMIT_PEM_BYTES)
		return err_set(e, ERR_LIMIT, "key set of %zu bytes; the limit is %u", json.len, LIMIT_PEM_BYTES);
	bool pem = str_starts(text, STR("-----BEGIN "));
	if (!(pem ? parse_pem(text, set, e) : parse_json(text, set, e)))
		return false;
	if (set->len == 0)
		return err_set(e, ERR_PEER, "the key set holds no key that can verify ES256 or RS256");
	*out = take(set);
	return true;
}

static void add_ec_members(json_t *o, const mbedtls_ecp_keypair *ec)
{
	unsigned char point[65];
	size_t len = 0;
	int rc = mbedtls_ecp_point_write_binary(
		&ec->grp, &ec->Q, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, point, sizeof(point));
	assert(rc == 0 && len == sizeof(point));
	struct strbuf x = {0}, y = {0};
	pki_b64url_encode(&x, point + 1, 32);
	pki_b64url_encode(&y, point + 33, 32);
	json_object_set_new(o, "kty", json_string("EC"));
	json_object_set_new(o, "crv", json_string("P-256"));
	json_object_set_new(o, "x", json_string(x.ptr));
	json_object_set_new(o, "y", json_string(y.ptr));
	strbuf_done(&x);
	strbuf_done(&y);
}

static void add_rsa_members(json_t *o, const mbedtls_rsa_context *rsa)
{
	unsigned char n[1024], x[8];
	size_t n_len = mbedtls_rsa_get_len(rsa), x_len = 4;
	int rc = n_len <= sizeof(n) ? mbedtls_rsa_export_raw(rsa, n, n_len, NULL, 0, NULL, 0, NULL, 0, x, x_len) : -1;
	assert(rc == 0);
	size_t zeros = 0;
	while (zeros + 1 < x_len && x[zeros] == 0)
		zeros++; /* Base64urlUInt has no leading zeros (RFC 7518, 2) */
	struct strbuf n_text = {0}, x_text = {0};
	pki_b64url_encode(&n_text, n, n_len);
	pki_b64url_encode(&x_text, x + zeros, x_len - zeros);
	json_object_set_new(o, "kty", json_string("RSA"));
	json_object_set_new(o, "n", json_string(n_text.ptr));
	json_object_set_new(o, "e", json_string(x_text.ptr));
	strbuf_done(&n_text);
	strbuf_done(&x_text);
}

bool jwks_of_key(const struct pki_key *k, const char *kid, char **out_json, struct err *e)
{
	const char *alg = pki_jws_alg(&k->pk);
	if (!alg)
		return err_set(e, ERR_DENIED, "only P-256 and RSA keys of 2048 bits or more can sign tokens");
	json_t *key = json_object(), *set = json_object(), *list = json_array();
	if (streq(alg, "ES256"))
		add_ec_members(key, mbedtls_pk_ec(k->pk));
	else
		add_rsa_members(key, mbedtls_pk_rsa(k->pk));
	json_object_set_new(key, "use", json_string("sig"));
	json_object_set_new(key, "alg", json_string(alg));
	if (kid)
		json_object_set_new(key, "kid", json_string(kid));
	json_array_append_new(list, key);
	json_object_set_new(set, "keys", list);
	char *text = json_dumps(set, JSON_INDENT(2));
	json_decref(set);
	if (!text)
		return err_set(e, ERR_LIBRARY, "the key id is not UTF-8");
	*out_json = xasprintf("%s\n", text);
	free(text);
	return true;
}
