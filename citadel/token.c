/*
 * DOC: Join tokens of the machine-local mode: what a Kubernetes service account token is in a cluster. They are signed by a key of their own
 * (jwt-key.pem), never by the CA's: a process that may mint tokens for a pod need not be able to sign certificates. The public half lies
 * beside it as jwks.json, which the daemon believes by default.
 */
#include "citadel/token.h"

#include <stdlib.h>

#include "citadel/ca/once.h"
#include "citadel/citadel.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/io/file.h"
#include "common/mesh/spiffe.h"
#include "common/pki/pki.h"

#define DEFAULT_TTL_MS (24 * 3600 * 1000ull)

static bool make_key(const char *path, struct err *e)
{
	struct pki_key *k = pki_key_new(PKI_P256, e);
	char *pem = NULL;
	bool ok = k && pki_key_pem(k, &pem, e) && once_write(path, str_of(pem), 0600, e);
	secret_free(pem);
	pki_key_free(k);
	return ok;
}

/* The key's name within the set, from its public half. */
static bool key_id(struct arena *a, const struct pki_key *k, const char **out, struct err *e)
{
	struct str spki = {0};
	if (!pki_spki_of(k, a, &spki, e))
		return false;
	*out = arena_printf(a, "%016llx", (unsigned long long)hash64(spki));
	return true;
}

bool token_key_ready(const char *state_dir, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *key_path = path_in(a, state_dir, "jwt-key.pem"), *set_path = path_in(a, state_dir, "jwks.json"),
		   *kid = NULL;
	if (file_exists(key_path) && file_exists(set_path))
		return true;
	if (!file_mkdirs(state_dir, 0700, e) || (!file_exists(key_path) && !make_key(key_path, e)))
		return false;
	struct pki_key *k = read_key(key_path, e);
	char *json = NULL;
	bool ok = k && key_id(a, k, &kid, e) && jwks_of_key(k, kid, &json, e) &&
		  once_write(set_path, str_of(json), 0644, e);
	free(json);
	pki_key_free(k);
	return ok;
}

static char *payload(const struct citadel_token *t)
{
	struct strbuf b = {0};
	int64_t now_s = clock_wall_ms() / 1000;
	strbuf_addf(&b, "{\"iss\":\"" TOKEN_ISSUER "\",\"sub\":\"system:serviceaccount:%s:%s\",\"aud\":[", t->ns,
		t->service_account);
	strbuf_add_json(&b, str_of(str_empty(t->audience) ? "istio-ca" : t->audience));
	strbuf_addf(&b, "],\"iat\":%lld,\"nbf\":%lld,\"exp\":%lld}", (long long)now_s, (long long)now_s,
		(long long)(now_s + (int64_t)((t->ttl_ms ? t->ttl_ms : DEFAULT_TTL_MS) + 999) / 1000));
	return strbuf_take(&b);
}

static bool names_hold(const struct citadel_token *t, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct spiffe_id id;
	return spiffe_parse(str_of(spiffe_format(a, STR("x"), str_of(t->ns), str_of(t->service_account))), &id, e);
}

bool citadel_token_mint(const struct citadel_token *t, char **out, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *kid = NULL;
	if (str_empty(t->state_dir))
		return err_set(e, ERR_PEER, "the state directory of citadel is not given");
	if (!names_hold(t, e) || !token_key_ready(t->state_dir, e))
		return err_in(e, "join token");
	struct pki_key *k = read_key(path_in(a, t->state_dir, "jwt-key.pem"), e);
	char *text = payload(t);
	bool ok = k && key_id(a, k, &kid, e) && jwt_sign(k, kid, text, out, e);
	free(text);
	pki_key_free(k);
	return ok || err_in(e, "join token");
}
