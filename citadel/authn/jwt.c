/*
 * DOC: Service account tokens: of Kubernetes (projected, with a `kubernetes.io` claim), or join tokens of `citadel token`. The issuer decides
 * with which keys a token is verified, so that the keys of one issuer cannot speak for another.
 */
#include "citadel/authn/authn.h"

#include <jansson.h>

#include "common/mesh/spiffe.h"

#define SKEW_MS 60000

static bool times_hold(const struct jwt *t, int64_t now_ms, struct err *e)
{
	if (!t->expires_ms)
		return err_set(e, ERR_DENIED, "the token has no expiry");
	if (now_ms >= t->expires_ms)
		return err_set(
			e, ERR_DENIED, "the token expired %lld s ago", (long long)((now_ms - t->expires_ms) / 1000));
	if (t->not_before_ms > now_ms + SKEW_MS || t->issued_ms > now_ms + SKEW_MS)
		return err_set(e, ERR_DENIED, "the token is not valid yet");
	return true;
}

static bool audience_holds(const struct authn_context *c, const struct jwt *t, struct err *e)
{
	for (size_t i = 0; t->audiences[i]; i++)
		if (authn_listed(c->audiences, str_of(t->audiences[i])))
			return true;
	return err_set(e, ERR_DENIED, "the token's audience \"%.64s\" is not accepted",
		t->audiences[0] ? t->audiences[0] : "");
}

/* From "sub"; the kubernetes.io claim, when there is one, must say the same. */
static bool account_of(struct arena *a, const struct jwt *t, struct str *ns, struct str *sa, struct err *e)
{
	json_t *o = json_loads(t->payload_json, 0, NULL);
	const json_t *k = json_object_get(o, "kubernetes.io");
	const char *claim_ns = json_string_value(json_object_get(k, "namespace"));
	const char *claim_sa = json_string_value(json_object_get(json_object_get(k, "serviceaccount"), "name"));
	struct str cns = str_of(claim_ns ? arena_strdup(a, claim_ns) : NULL),
		   csa = str_of(claim_sa ? arena_strdup(a, claim_sa) : NULL);
	json_decref(o);
	bool from_sub = authn_account(str_of(t->subject), ns, sa);
	if (cns.ptr && csa.ptr && from_sub && (!str_eq(cns, *ns) || !str_eq(csa, *sa)))
		return err_set(e, ERR_DENIED, "the token's subject and its kubernetes.io claim disagree");
	if (!from_sub && cns.ptr && csa.ptr) {
		*ns = cns;
		*sa = csa;
		return true;
	}
	return from_sub || err_set(e, ERR_DENIED, "the token's subject \"%.100s\" is no service account", t->subject);
}

/* The pod that a projected token is bound to, where it is the cluster that says so. */
static struct authn_pod pod_of(struct arena *a, const struct jwt *t)
{
	json_t *o = json_loads(t->payload_json, 0, NULL);
	const json_t *pod = json_object_get(json_object_get(o, "kubernetes.io"), "pod");
	const char *name = json_string_value(json_object_get(pod, "name")),
		   *uid = json_string_value(json_object_get(pod, "uid"));
	struct authn_pod out = {0};
	if (name && uid)
		out = (struct authn_pod){str_of(arena_strdup(a, name)), str_of(arena_strdup(a, uid))};
	json_decref(o);
	return out;
}

static bool verify(struct arena *a, const struct authn_context *c, struct str token, struct jwt *out, bool *by_cluster,
	struct err *e)
{
	struct err first = {0};
	bool loaded = false;
	for (size_t i = 0; i < ARRAY_LEN(c->sources); i++) {
		struct err why = {0};
		struct jwt t = {0};
		if (!c->sources[i].keys)
			continue;
		loaded = true;
		if (!jwt_verify(a, token, c->sources[i].keys, &t, &why)) {
			first = first.kind ? first : why;
			continue;
		}
		if (authn_listed(c->sources[i].issuers, str_of(t.issuer))) {
			*out = t;
			*by_cluster = i == AUTHN_CLUSTER;
			return true;
		}
		(void)err_set(&first, ERR_DENIED, "the token's issuer \"%.100s\" is not trusted", t.issuer);
	}
	return err_set(e, ERR_DENIED, "%s", loaded ? first.text : "no keys for tokens are known");
}

static enum authn_result check(struct arena *a, const struct authn_context *c, const struct authn_request *r,
	struct authn_proof *out, struct err *e)
{
	const struct str token = authn_bearer(r->authorization);
	struct jwt t = {0};
	struct str ns = {0}, sa = {0};
	struct spiffe_id parsed;
	if (!r->authorization.len)
		return AUTHN_ABSENT;
	if (!token.len) {
		(void)err_set(e, ERR_DENIED, "the authorization header is no Bearer token");
		return AUTHN_BAD;
	}
	out->unverified = !verify(a, c, token, &t, &out->by_cluster, e);
	if (out->unverified || !times_hold(&t, c->now_ms, e) || !audience_holds(c, &t, e) ||
		!account_of(a, &t, &ns, &sa, e))
		return AUTHN_BAD;
	const char *uri = spiffe_format(a, str_of(c->trust_domain), ns, sa);
	if (!spiffe_parse(str_of(uri), &parsed, e))
		return AUTHN_BAD;
	out->id = uri;
	if (out->by_cluster)
		out->pod = pod_of(a, &t);
	return AUTHN_GOOD;
}

const struct authenticator jwt_authenticator = {"jwt", check};
