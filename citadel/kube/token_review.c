/*
 * DOC: An answer is kept for a minute when it is good (never beyond the token's own end) and for five seconds when it is bad: long enough that a
 * workload which tries again and again costs the API server little, short enough that a token which has only just become good is not
 * refused for long. "No answer" is not kept.
 */
#include "citadel/kube/token_review.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/pki/pki.h"

#define GOOD_MS 60000u
#define BAD_MS 5000u
#define REQUEST_MS 5000u
#define PATH "/apis/authentication.k8s.io/v1/tokenreviews"
#define ACCOUNT "system:serviceaccount:"
#define EXTRA "authentication.kubernetes.io/" /* pod-name, pod-uid: what a projected token is bound to */

METRIC(reviews_total, COUNTER, "citadel_token_reviews_total",
	"tokens that the API server was asked about, by its answer", "result");
METRIC(remembered, COUNTER, "citadel_token_reviews_remembered_total",
	"questions answered from memory, or together with one under way");

LOG_SCOPE(review_log, "token-review", "tokens that the API server vouches for");

struct waiter {
	review_done done;
	void *ctx;
};

struct entry {
	struct reviews *owner;
	char key[PKI_SHA256_BYTES];
	bool open; /* asked, not answered */
	enum review_result result;
	char *text, *pod_name, *pod_uid;
	uint64_t until_ms;
	int64_t token_ends_ms; /* wall clock; 0: not said */
	VEC(struct waiter) waiting;
	struct entry *older, *newer;
};

struct reviews {
	struct kube *api;
	const char *const *audiences;
	struct map *entries; /* SHA-256 -> entry */
	struct entry *oldest, *newest;
	size_t open;
	bool warned;
	char error[256];
};

/* ---- the answer */

static bool audience_holds(const json_t *list, const char *const *audiences)
{
	size_t i;
	json_t *one;
	json_array_foreach(list, i, one) for (size_t k = 0; audiences[k];
					      k++) if (streq(json_string_value(one), audiences[k])) return true;
	return false;
}

static struct str extra(struct arena *a, const json_t *user, const char *key)
{
	const char *value = json_string_value(json_array_get(json_object_get(json_object_get(user, "extra"), key), 0));
	return value ? str_of(arena_strdup(a, value)) : STR("");
}

static enum review_result verdict(struct arena *a, const json_t *status, const char *const *audiences, struct str *text)
{
	const char *name = json_string_value(json_object_get(json_object_get(status, "user"), "username"));
	const char *error = json_string_value(json_object_get(status, "error"));
	if (!json_is_true(json_object_get(status, "authenticated")))
		*text = str_of(arena_printf(
			a, "the API server does not know the token%s%.200s", error ? ": " : "", error ? error : ""));
	else if (!audience_holds(json_object_get(status, "audiences"), audiences))
		*text = STR("the token's audience is not accepted");
	else if (!name || !str_starts(str_of(name), STR(ACCOUNT)))
		*text = STR("the token is not of a service account");
	else {
		*text = str_of(arena_strdup(a, name));
		return REVIEW_GOOD;
	}
	return REVIEW_BAD;
}

enum review_result review_parse(
	struct arena *a, struct str json, const char *const *audiences, struct str *text, struct authn_pod *pod)
{
	json_t *j = json_loadb(json.ptr ? json.ptr : "", json.len, 0, NULL);
	const json_t *status = json_object_get(j, "status");
	enum review_result result = REVIEW_NO_ANSWER;
	*text = STR("the API server's answer is no TokenReview");
	*pod = (struct authn_pod){0};
	if (json_is_object(status))
		result = verdict(a, status, audiences, text);
	if (result == REVIEW_GOOD) {
		const json_t *user = json_object_get(status, "user");
		*pod = (struct authn_pod){extra(a, user, EXTRA "pod-name"), extra(a, user, EXTRA "pod-uid")};
	}
	json_decref(j);
	return result;
}

/* ---- memory */

static void unlink_entry(struct reviews *r, struct entry *x)
{
	*(x->older ? &x->older->newer : &r->oldest) = x->newer;
	*(x->newer ? &x->newer->older : &r->newest) = x->older;
	(void)map_del(r->entries, str_n(x->key, sizeof(x->key)));
}

static void entry_free(struct entry *x)
{
	vec_done(&x->waiting);
	free(x->text);
	free(x->pod_name);
	free(x->pod_uid);
	free(x);
}

static void forget(struct reviews *r, struct entry *x)
{
	unlink_entry(r, x);
	entry_free(x);
}

/* The oldest that is not being asked about gives way. */
static void make_room(struct reviews *r)
{
	struct entry *x = r->oldest;
	while (x && x->open)
		x = x->newer;
	if (x && map_len(r->entries) >= LIMIT_TOKEN_REVIEWS)
		forget(r, x);
}

static struct entry *entry_new(struct reviews *r, const char key[PKI_SHA256_BYTES])
{
	make_room(r);
	struct entry *x = xzalloc(sizeof(*x));
	x->owner = r;
	memcpy(x->key, key, sizeof(x->key));
	x->older = r->newest;
	*(r->newest ? &r->newest->newer : &r->oldest) = x;
	r->newest = x;
	(void)map_put(r->entries, str_n(x->key, sizeof(x->key)), x);
	return x;
}

/* ---- asking */

static uint64_t keep_until(const struct entry *x)
{
	uint64_t keep_ms = x->result == REVIEW_GOOD ? GOOD_MS : BAD_MS;
	int64_t left_ms = x->token_ends_ms - clock_wall_ms();
	if (x->result == REVIEW_GOOD && x->token_ends_ms)
		keep_ms = left_ms <= 0 ? 0 : min_size(keep_ms, (size_t)left_ms);
	return clock_mono_ms() + keep_ms;
}

static void tell(struct entry *x, enum review_result result, struct str text)
{
	const struct authn_pod pod = {str_of(x->pod_name), str_of(x->pod_uid)};
	struct waiter *list = take(x->waiting.items);
	const size_t n = x->waiting.len;
	x->waiting.len = x->waiting.cap = 0;
	for (size_t i = 0; i < n; i++)
		list[i].done(list[i].ctx, result, text, &pod);
	free(list);
}

static void no_answer(struct reviews *r, int status, struct str why)
{
	(void)snprintf(
		r->error, sizeof(r->error), "%d: " STR_FMT, status, STR_ARG(str_sub(why, 0, min_size(why.len, 200))));
	if (!r->warned)
		log_warn(&review_log, "the API server does not review tokens", KV("status", status), KV("error", why));
	r->warned = true;
}

static void on_answer(void *ctx, int status, struct str body)
{
	static const char *const labels[REVIEW_RESULT_COUNT] = {"good", "bad", "no_answer"};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct entry *x = ctx;
	struct reviews *r = x->owner;
	struct str text = body;
	struct authn_pod pod = {0};
	enum review_result result = REVIEW_NO_ANSWER;
	if (status == 200 || status == 201)
		result = review_parse(a, body, r->audiences, &text, &pod);
	metric_add(&reviews_total, 1, labels[result]);
	r->open--;
	x->open = false;
	x->result = result;
	if (result == REVIEW_NO_ANSWER) {
		no_answer(r, status, text);
		unlink_entry(r, x);
		tell(x, result, text);
		entry_free(x);
		return;
	}
	r->warned = false;
	r->error[0] = '\0';
	x->text = xstrndup(text.ptr, text.len);
	x->pod_name = xstrndup(pod.name.ptr ? pod.name.ptr : "", pod.name.len);
	x->pod_uid = xstrndup(pod.uid.ptr ? pod.uid.ptr : "", pod.uid.len);
	x->until_ms = keep_until(x);
	tell(x, result, text);
}

static void send_question(struct entry *x, struct str token)
{
	json_t *list = json_array();
	for (size_t i = 0; x->owner->audiences[i]; i++)
		(void)json_array_append_new(list, json_string(x->owner->audiences[i]));
	json_t *j = json_pack("{s:s, s:s, s:{s:s%, s:o}}", "apiVersion", "authentication.k8s.io/v1", "kind",
		"TokenReview", "spec", "token", token.ptr, token.len, "audiences", list);
	char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
	const struct kube_request q = {.method = "POST", .path = PATH, .body = str_of(body), .timeout_ms = REQUEST_MS};
	if (body)
		kube_send(x->owner->api, &q, on_answer, x);
	else
		on_answer(x, 0, STR("the token is not text"));
	secret_free(body);
	json_decref(j);
}

static int64_t end_of(struct str token)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct jwt t = {0};
	return jwt_read(a, token, &t, NULL) ? t.expires_ms : 0;
}

void reviews_ask(struct reviews *r, struct str token, review_done done, void *ctx)
{
	char key[PKI_SHA256_BYTES];
	pki_sha256(token, key);
	struct entry *x = map_get(r->entries, str_n(key, sizeof(key)));
	if (x && !x->open && clock_mono_ms() >= x->until_ms) {
		forget(r, x);
		x = NULL;
	}
	if (x) {
		metric_add(&remembered, 1);
		if (x->open)
			vec_push(&x->waiting, ((struct waiter){done, ctx}));
		else
			done(ctx, x->result, str_of(x->text),
				&(struct authn_pod){str_of(x->pod_name), str_of(x->pod_uid)});
		return;
	}
	if (r->open >= LIMIT_TOKEN_REVIEWS_OPEN) {
		done(ctx, REVIEW_NO_ANSWER, STR("too many tokens wait for the API server"), &(struct authn_pod){0});
		return;
	}
	x = entry_new(r, key);
	x->open = true;
	x->token_ends_ms = end_of(token);
	vec_push(&x->waiting, ((struct waiter){done, ctx}));
	r->open++;
	send_question(x, token);
}

/* ---- life */

struct reviews *reviews_new(struct kube *api, const char *const *audiences)
{
	struct reviews *r = xzalloc(sizeof(*r));
	r->api = api;
	r->audiences = audiences;
	r->entries = map_new();
	return r;
}

void reviews_free(struct reviews *r)
{
	if (!r)
		return;
	for (struct entry *x = r->oldest, *newer; x; x = newer) {
		newer = x->newer;
		tell(x, REVIEW_NO_ANSWER, STR("citadel stops"));
		entry_free(x);
	}
	map_free(r->entries);
	free(r);
}

void reviews_debug(const struct reviews *r, struct strbuf *json)
{
	strbuf_addf(json, "{\"remembered\":%zu,\"limit\":%u,\"open\":%zu,\"error\":", map_len(r->entries),
		LIMIT_TOKEN_REVIEWS, r->open);
	strbuf_add_json(json, str_of(r->error));
	strbuf_addc(json, '}');
}
