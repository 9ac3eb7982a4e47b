/*
 * DOC: The cluster's token keys, by OpenID discovery at the API server (Kubernetes: "service account issuer discovery"): the issuer from
 * /.well-known/openid-configuration, then the key set. Read again every few minutes, since clusters rotate these keys, and at once when a token
 * names an unknown one. Until they are there, and while the server is away, the last keys count.
 */
#include "citadel/kube/cluster.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"

#define REFRESH_MS 300000u
#define RETRY_MIN_MS 500u
#define RETRY_MAX_MS 30000u
#define HURRY_MS 10000u

LOG_SCOPE(cluster_log, "cluster", "citadel on Kubernetes");

struct citadel_cluster {
	struct citadel_cluster_options o;
	struct kube *api;
	struct bundles *bundles;
	struct reviews *reviews;
	struct node_accounts *nodes;
	struct timer *timer;
	char *issuer;
	uint64_t asked_ms, taken_ms;
	unsigned failures;
	bool asking;
	char error[256];
};

static void failed(struct citadel_cluster *c, struct str why)
{
	(void)snprintf(c->error, sizeof(c->error), STR_FMT, STR_ARG(why));
	if (c->failures++ == 0)
		log_warn(&cluster_log, "the cluster's token keys cannot be read", KV("error", c->error));
	c->asking = false;
	timer_start(c->timer, random_backoff(c->failures, RETRY_MIN_MS, RETRY_MAX_MS, 0.3), 0);
}

static void on_jwks(void *ctx, int status, struct str text)
{
	struct citadel_cluster *c = ctx;
	if (status != 200) {
		failed(c, text);
		return;
	}
	if (!c->taken_ms)
		log_info(&cluster_log, "token keys of the cluster", KV("issuer", c->issuer));
	c->asking = false;
	c->failures = 0;
	c->error[0] = '\0';
	c->taken_ms = clock_mono_ms();
	c->o.on_keys(c->o.ctx, c->issuer, text);
	timer_start(c->timer, random_jitter(REFRESH_MS, 0.2), 0);
}

static void on_discovery(void *ctx, int status, struct str text)
{
	struct citadel_cluster *c = ctx;
	json_t *j = status == 200 ? json_loadb(text.ptr, text.len, 0, NULL) : NULL;
	const char *issuer = json_string_value(json_object_get(j, "issuer"));
	const struct kube_request r = {.path = "/openid/v1/jwks"};
	if (issuer) {
		free(c->issuer);
		c->issuer = xstrdup(issuer);
		kube_send(c->api, &r, on_jwks, c);
	} else {
		failed(c, status == 200 ? STR("the discovery document names no issuer") : text);
	}
	json_decref(j);
}

static void ask(void *ctx)
{
	struct citadel_cluster *c = ctx;
	const struct kube_request r = {.path = "/.well-known/openid-configuration"};
	if (c->asking)
		return;
	c->asking = true;
	c->asked_ms = clock_mono_ms();
	kube_send(c->api, &r, on_discovery, c);
}

struct citadel_cluster *citadel_cluster_new(struct loop *l, const struct citadel_cluster_options *o, struct err *e)
{
	struct kube *api = kube_new(l, &o->api, e);
	if (!api)
		return NULL;
	struct citadel_cluster *c = xzalloc(sizeof(*c));
	c->o = *o;
	c->api = api;
	c->bundles = bundles_new(l, api, o->roots_config_map);
	c->reviews = reviews_new(api, o->audiences);
	c->nodes = node_accounts_new(api);
	c->timer = timer_new(l, ask, c);
	ask(c);
	return c;
}

void citadel_cluster_free(struct citadel_cluster *c)
{
	if (!c)
		return;
	bundles_free(c->bundles);
	reviews_free(c->reviews);
	node_accounts_free(c->nodes);
	timer_free(c->timer);
	kube_free(c->api);
	free(c->issuer);
	free(c);
}

void citadel_cluster_refresh_keys(struct citadel_cluster *c)
{
	if (clock_mono_ms() - c->asked_ms >= HURRY_MS)
		ask(c);
}

void citadel_cluster_review(struct citadel_cluster *c, struct str token, review_done done, void *ctx)
{
	reviews_ask(c->reviews, token, done, ctx);
}

void citadel_cluster_node(struct citadel_cluster *c, const struct node_question *q, node_done done, void *ctx)
{
	node_accounts_ask(c->nodes, q, done, ctx);
}

void citadel_cluster_set_roots(struct citadel_cluster *c, struct str roots_pem)
{
	bundles_set(c->bundles, roots_pem);
}

void citadel_cluster_debug(const struct citadel_cluster *c, struct strbuf *json)
{
	strbuf_adds(json, "{\"server\":");
	strbuf_add_json(json, str_of(kube_server(c->api)));
	strbuf_adds(json, ",\"issuer\":");
	strbuf_add_json(json, str_of(c->issuer ? c->issuer : ""));
	strbuf_addf(json, ",\"keysAgeMs\":%lld,\"failures\":%u,\"error\":",
		c->taken_ms ? (long long)(clock_mono_ms() - c->taken_ms) : -1ll, c->failures);
	strbuf_add_json(json, str_of(c->error));
	strbuf_adds(json, ",\"tokenReviews\":");
	reviews_debug(c->reviews, json);
	strbuf_adds(json, ",\"nodeAccounts\":");
	node_accounts_debug(c->nodes, json);
	strbuf_adds(json, ",\"bundles\":");
	bundles_debug(c->bundles, json);
	strbuf_addc(json, '}');
}
