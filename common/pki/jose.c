/*
 * DOC: JSON Web Tokens as compact JWS (RFC 7515, 7519), with ES256 and RS256 only (RFC 7518). The algorithm is decided by the key that the
 * verifier holds, never by the token alone: a token whose "alg" does not fit the key is refused, "none" and the HMACs by name (RFC 8725, 3.1).
 * Only the signature is judged here; times, audience and issuer are the caller's.
 */
#include "common/pki/pki_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <mbedtls/ecp.h>
#include <mbedtls/sha256.h>

#include "common/p256/p256.h"

struct parts {
	struct str signed_text; /* header.payload */
	struct str header, payload, signature;
};

static bool split(struct arena *a, struct str token, struct parts *out, struct err *e)
{
	struct str rest = {0}, header = {0}, payload = {0}, signature = {0};
	if (!str_cut(token, '.', &header, &rest) || !str_cut(rest, '.', &payload, &signature) ||
		memchr(signature.ptr, '.', signature.len))
		return err_set(e, ERR_PEER, "the token does not have three parts");
	out->signed_text = str_n(token.ptr, header.len + 1 + payload.len);
	if (!pki_b64url_decode(a, header, &out->header) || !pki_b64url_decode(a, payload, &out->payload) ||
		!pki_b64url_decode(a, signature, &out->signature))
		return err_set(e, ERR_PEER, "a part of the token is not base64url (RFC 7515, 2)");
	return true;
}

static json_t *load_object(struct str text, const char *what, struct err *e)
{
	json_error_t error;
	json_t *o = json_loadb(text.ptr ? text.ptr : "", text.len, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(o))
		return o;
	json_decref(o);
	(void)err_set(e, ERR_PEER, "the token's %s is not a JSON object", what);
	return NULL;
}

static const char *text_of(struct arena *a, const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);
	return json_is_string(v) ? arena_strdup(a, json_string_value(v)) : NULL;
}

static bool read_header(struct arena *a, struct str text, struct jwt *out, struct err *e)
{
	json_t *o = load_object(text, "header", e);
	if (!o)
		return false;
	bool critical = json_object_get(o, "crit") != NULL;
	out->alg = text_of(a, o, "alg");
	out->kid = text_of(a, o, "kid");
	json_decref(o);
	if (critical)
		return err_set(e, ERR_DENIED,
			"the token has critical header fields that are not understood (RFC 7515, 4.1.11)");
	if (!streq(out->alg, "ES256") && !streq(out->alg, "RS256"))
		return err_set(e, ERR_DENIED, "the token's alg \"%.32s\" is not accepted; ES256 and RS256 are",
			out->alg ? out->alg : "");
	return true;
}

/* NumericDate: seconds since 1970, perhaps with a fraction. 0 = absent. */
static bool date_of(const json_t *o, const char *name, int64_t *out_ms, struct err *e)
{
	const json_t *v = json_object_get(o, name);
	if (!v)
		return true;
	double seconds = json_number_value(v);
	if (!json_is_number(v) || !isfinite(seconds) || seconds < 0 || seconds > 1e13)
		return err_set(e, ERR_PEER, "the token's %s is not a date", name);
	*out_ms = (int64_t)(seconds * 1000);
	return true;
}

static bool read_audiences(struct arena *a, const json_t *v, struct jwt *out, struct err *e)
{
	size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
	const char **list = ARENA_ARRAY(a, const char *, n + 1);
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
		if (!json_is_string(one))
			return err_set(e, ERR_PEER, "the token's aud is neither text nor a list of texts");
		list[i] = arena_strdup(a, json_string_value(one));
	}
	out->audiences = list;
	return true;
}

static bool read_payload(struct arena *a, struct str text, struct jwt *out, struct err *e)
{
	json_t *o = load_object(text, "payload", e);
	if (!o)
		return false;
	const char *issuer = text_of(a, o, "iss"), *subject = text_of(a, o, "sub");
	out->issuer = issuer ? issuer : "";
	out->subject = subject ? subject : "";
	out->payload_json = arena_cstr(a, text);
	bool ok = date_of(o, "exp", &out->expires_ms, e) && date_of(o, "nbf", &out->not_before_ms, e) &&
		  date_of(o, "iat", &out->issued_ms, e) && read_audiences(a, json_object_get(o, "aud"), out, e);
	json_decref(o);
	return ok;
}

static bool es256_holds(const mbedtls_pk_context *pk, const unsigned char hash[32], struct str signature)
{
	const mbedtls_ecp_keypair *ec = mbedtls_pk_ec(*pk);
	uint8_t point[P256_POINT_BYTES];
	size_t len = 0;
	int rc = mbedtls_ecp_point_write_binary(
		&ec->grp, &ec->Q, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, point, sizeof(point));
	return rc == 0 && len == sizeof(point) && signature.len == P256_SIGNATURE_BYTES &&
	       p256_verify(point, hash, 32, (const uint8_t *)signature.ptr);
}

static bool signature_holds(const struct jwk *key, const unsigned char hash[32], struct str signature)
{
	mbedtls_pk_context *pk = (mbedtls_pk_context *)&key->pk;
	if (streq(key->alg, "ES256"))
		return es256_holds(pk, hash, signature);
	return mbedtls_pk_verify(
		       pk, MBEDTLS_MD_SHA256, hash, 32, (const unsigned char *)signature.ptr, signature.len) == 0;
}

static bool verify_parts(const struct parts *p, const struct jwks *keys, const struct jwt *t, struct err *e)
{
	unsigned char hash[32];
	if (mbedtls_sha256_ret((const unsigned char *)p->signed_text.ptr, p->signed_text.len, hash, 0))
		return err_set(e, ERR_LIBRARY, "SHA-256 failed");
	size_t candidates = 0;
	for (size_t i = 0; i < keys->len; i++) {
		const struct jwk *k = &keys->items[i];
		if ((t->kid && k->kid && !streq(t->kid, k->kid)) || !streq(k->alg, t->alg))
			continue;
		candidates++;
		if (signature_holds(k, hash, p->signature))
			return true;
	}
	if (!candidates)
		return err_set(
			e, ERR_DENIED, "no key with the id \"%.64s\" for %s is known", t->kid ? t->kid : "", t->alg);
	return err_set(e, ERR_DENIED, "the token's signature does not verify");
}

bool jwt_read(struct arena *a, struct str token, struct jwt *out, struct err *e)
{
	if (token.len > LIMIT_JWT_BYTES)
		return err_set(e, ERR_LIMIT, "token of %zu bytes; the limit is %u", token.len, LIMIT_JWT_BYTES);
	struct parts p = {0};
	struct jwt t = {0};
	if (!split(a, token, &p, e) || !read_header(a, p.header, &t, e) || !read_payload(a, p.payload, &t, e))
		return false;
	*out = t;
	return true;
}

bool jwt_verify(struct arena *a, struct str token, const struct jwks *keys, struct jwt *out, struct err *e)
{
	if (token.len > LIMIT_JWT_BYTES)
		return err_set(e, ERR_LIMIT, "token of %zu bytes; the limit is %u", token.len, LIMIT_JWT_BYTES);
	struct parts p = {0};
	struct jwt t = {0};
	if (!split(a, token, &p, e) || !read_header(a, p.header, &t, e) || !verify_parts(&p, keys, &t, e) ||
		!read_payload(a, p.payload, &t, e))
		return false;
	*out = t;
	return true;
}

static int sign_es256(const mbedtls_ecp_keypair *ec, const unsigned char hash[32], unsigned char *out)
{
	uint8_t key[P256_KEY_BYTES];
	int rc = mbedtls_mpi_write_binary(&ec->d, key, sizeof(key));
	if (!rc && !p256_sign(key, hash, 32, out))
		rc = MBEDTLS_ERR_ECP_INVALID_KEY;
	p256_wipe(key, sizeof(key));
	return rc;
}

static bool add_signature(const struct pki_key *k, struct strbuf *token, struct err *e)
{
	unsigned char hash[32], signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
	size_t len = P256_SIGNATURE_BYTES;
	mbedtls_pk_context *pk = (mbedtls_pk_context *)&k->pk;
	int rc = mbedtls_sha256_ret((const unsigned char *)token->ptr, token->len, hash, 0);
	if (!rc && mbedtls_pk_can_do(pk, MBEDTLS_PK_ECKEY))
		rc = sign_es256(mbedtls_pk_ec(*pk), hash, signature);
	else if (!rc)
		rc = mbedtls_pk_sign(pk, MBEDTLS_MD_SHA256, hash, sizeof(hash), signature, &len, pki_random, NULL);
	if (rc)
		return pki_library_error(e, rc, "sign a token");
	strbuf_addc(token, '.');
	pki_b64url_encode(token, signature, len);
	return true;
}

bool jwt_sign(const struct pki_key *k, const char *kid, const char *payload_json, char **out_token, struct err *e)
{
	const char *alg = pki_jws_alg(&k->pk);
	if (!alg)
		return err_set(e, ERR_DENIED, "only P-256 and RSA keys of 2048 bits or more can sign tokens");
	struct strbuf header cleanup(strbuf_done) = {0}, token cleanup(strbuf_done) = {0};
	strbuf_addf(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\"", alg);
	if (kid) {
		strbuf_adds(&header, ",\"kid\":");
		strbuf_add_json(&header, str_of(kid));
	}
	strbuf_addc(&header, '}');
	pki_b64url_encode(&token, header.ptr, header.len);
	strbuf_addc(&token, '.');
	pki_b64url_encode(&token, payload_json, strlen(payload_json));
	if (!add_signature(k, &token, e))
		return false;
	*out_token = strbuf_take(&token);
	return true;
}
