/* DOC: Who gets a Secret over SDS: proxies whose certificate proves the Secret's namespace, and nobody else. A ConfigMap's CA: who has one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/pb/pb.h"
#include "pilot/model/query_secret.h"
#include "tests/unit/pilot/certificate.h"
#include "tests/unit/pilot/world.h"

static const char gateway[] =
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: web, namespace: edge}\nspec:\n"
	"  selector: {app: gw}\n  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: "
	"[a.example.com],\n"
	"    tls: {mode: MUTUAL, credentialName: web}}]\n";
/* Only a CA: that needs no key in this file, and both ways of asking for it are the same way. */
static const char secret[] =
	"apiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: edge}\nstringData:\n  cacert: |\n"
	"    -----BEGIN CERTIFICATE-----\n"
	"    @CERT@\n"
	"    -----END CERTIFICATE-----\n";

static const char config_map[] =
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: roots, namespace: edge}\ndata:\n  ca.crt: |\n"
	"    -----BEGIN CERTIFICATE-----\n"
	"    @CERT@\n"
	"    -----END CERTIFICATE-----\n";

static char *filled(struct arena *a, const char *text, const char *ns)
{
	static const char certificate[] = CERTIFICATE;
	const char *at = strstr(text, "@CERT@"), *place = strstr(text, "edge");

	return arena_printf(a, "%.*s%s%.*s%s%s", (int)(place - text), text, ns, (int)(at - place - 4), place + 4,
		certificate, at + strlen("@CERT@"));
}

static char *secret_text(struct arena *a, const char *ns)
{
	return filled(a, secret, ns);
}

/* The resource as it would be served; NULL: nothing. */
static const ProtobufCMessage *served(struct arena *a, const struct world *w, const char *type, const char *ns,
	const char *verified, const char *name)
{
	struct proxy *p = world_proxy(a, type, "10.0.0.9", "gw-1", ns, "{\"app\":\"gw\"}");
	struct view v = {.model = w->model, .scratch = a};

	p->verified_ns = str_of(verified);
	v.scope = scope_of(a, w->model, p, SCOPE_SHARED, NULL);
	return translator_get(XDS_SDS)->build(&v, str_of(name), a);
}

static void P49_a_secret_is_for_proxies_of_its_namespace_alone(void **state)
{
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "gateway.yaml", gateway);
	world_put(&w, "secret.yaml", secret_text(a, "edge"));
	world_commit(&w);
	assert_non_null(served(a, &w, "router", "edge", "edge", "kubernetes://web-cacert"));
	assert_non_null(served(a, &w, "router", "edge", "edge", "kubernetes://edge/web-cacert"));
	assert_non_null(served(a, &w, "sidecar", "edge", "edge", "kubernetes://web-cacert"));
	/* There is no key in it. */
	assert_null(served(a, &w, "router", "edge", "edge", "kubernetes://web"));
	/* What a proxy says of itself is no proof. */
	assert_null(served(a, &w, "router", "edge", "", "kubernetes://web-cacert"));
	assert_null(served(a, &w, "router", "other", "other", "kubernetes://web-cacert"));
	assert_null(served(a, &w, "router", "other", "other", "kubernetes://edge/web-cacert"));
	assert_null(served(a, &w, "router", "edge", "edge", "web-cacert"));
	assert_null(served(a, &w, "router", "edge", "edge", "kubernetes://"));
	world_done(&w);
	arena_free(a);
}

static void P98_a_config_map_is_for_every_proxy_with_a_certificate(void **state)
{
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "config-map.yaml", filled(a, config_map, "edge"));
	world_commit(&w);
	assert_non_null(served(a, &w, "router", "edge", "edge", "configmap://edge/roots"));
	assert_non_null(served(a, &w, "sidecar", "other", "other", "configmap://edge/roots-cacert"));
	assert_null(served(a, &w, "sidecar", "other", "", "configmap://edge/roots"));
	assert_null(served(a, &w, "sidecar", "other", "other", "configmap://other/roots"));
	/* It is no Secret, and a Secret is no ConfigMap. */
	assert_null(served(a, &w, "router", "edge", "edge", "kubernetes://roots-cacert"));
	world_put(&w, "secret.yaml", secret_text(a, "edge"));
	world_commit(&w);
	assert_null(served(a, &w, "router", "edge", "edge", "configmap://edge/web"));
	world_done(&w);
	arena_free(a);
}

static void P98_a_gateway_of_the_namespace_vouches_for_a_secret(void **state)
{
	static const char of[] =
		"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: v, namespace: %s}\nspec:\n"
		"  selector: {app: %s}\n  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: "
		"[v.example.com],\n"
		"    tls: {mode: MUTUAL, credentialName: 'kubernetes-gateway://edge/web'}}]\n";
	static const char name[] = "kubernetes-gateway://edge/web-cacert";
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "secret.yaml", secret_text(a, "edge"));
	world_commit(&w);
	assert_null(served(a, &w, "router", "edge", "edge", name));
	world_put(&w, "gateway.yaml", arena_printf(a, of, "other", "gw"));
	world_commit(&w);
	assert_null(served(a, &w, "router", "edge", "edge", name));
	world_put(&w, "gateway.yaml", arena_printf(a, of, "edge", "not-this"));
	world_commit(&w);
	assert_null(served(a, &w, "router", "edge", "edge", name));
	world_put(&w, "gateway.yaml", arena_printf(a, of, "edge", "gw"));
	world_commit(&w);
	assert_non_null(served(a, &w, "router", "edge", "edge", name));
	assert_null(served(a, &w, "router", "other", "other", name));
	assert_null(served(a, &w, "sidecar", "edge", "edge", name));
	world_done(&w);
	arena_free(a);
}

static void apply(struct world *w, uint32_t topic, const char *key, struct str value)
{
	const struct bus_change c = {.topic = topic, .key = str_of(key), .value = value};
	struct model *next;

	read_keys_done(&w->touched);
	next = model_apply(w->model, &c, 1, &w->touched);
	model_unref(w->model);
	w->model = next;
}

static void apply_key(struct world *w, struct arena *a, bool guarded)
{
	Fl__Credential *c = PB_NEW(a, Fl__Credential, fl__credential);
	ProtobufCBinaryData bytes = {4, arena_dup(a, "text", 4)};

	c->namespace_ = arena_strdup(a, "edge");
	c->name = arena_strdup(a, "web");
	c->certificate = c->private_key = c->ca = bytes;
	c->guarded = guarded;
	apply(w, TOPIC_SECRET, "edge/web", pb_pack(a, c));
}

static void apply_access(struct world *w, struct arena *a, const char *account, bool allowed)
{
	Fl__Access *x = PB_NEW(a, Fl__Access, fl__access);

	x->namespace_ = arena_strdup(a, "edge");
	x->service_account = arena_strdup(a, account);
	x->allowed = allowed;
	apply(w, TOPIC_ACCESS, arena_printf(a, "edge/%s", account), pb_pack(a, x));
}

static bool has_key(struct cache *c, const struct world *w, const struct proxy *p)
{
	cache_update(c, w->model, p, &w->touched);
	return cache_get(c, XDS_SDS, "kubernetes://web")->bytes;
}

static void P98_a_guarded_key_is_for_accounts_that_may_list_secrets(void **state)
{
	struct arena *a = arena_new();
	struct proxy *p = world_proxy(a, "router", "10.0.0.9", "gw-1", "edge", "{\"app\":\"gw\"}");
	struct cache c = {0};
	struct world w;

	(void)state;
	p->verified_ns = p->ns;
	p->verified_account = STR("gateway");
	world_init(&w);
	world_put(&w, "gateway.yaml", gateway);
	world_commit(&w);
	cache_update(&c, w.model, p, NULL);
	apply_key(&w, a, false);
	assert_true(has_key(&c, &w, p));
	apply_key(&w, a, true);
	assert_false(has_key(&c, &w, p));
	/* The CA of a Secret is public. */
	assert_non_null(cache_get(&c, XDS_SDS, "kubernetes://web-cacert")->bytes);
	apply_access(&w, a, "other", true);
	assert_false(has_key(&c, &w, p));
	apply_access(&w, a, "gateway", false);
	assert_false(has_key(&c, &w, p));
	apply_access(&w, a, "gateway", true);
	assert_true(has_key(&c, &w, p));
	/* An answer about another account touches nobody else. */
	apply_access(&w, a, "other", false);
	cache_update(&c, w.model, p, &w.touched);
	assert_int_equal(c.rebuilt, 0);
	apply(&w, TOPIC_ACCESS, "edge/gateway", (struct str){0});
	assert_false(has_key(&c, &w, p));
	cache_done(&c);
	world_done(&w);
	arena_free(a);
}

static void P98_a_gateways_word_stands_for_the_right_to_list(void **state)
{
	static const char vouching[] =
		"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: v, namespace: edge}\nspec:\n"
		"  selector: {app: gw}\n  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: "
		"[v.example.com],\n"
		"    tls: {mode: SIMPLE, credentialName: 'kubernetes-gateway://edge/web'}}]\n";
	struct arena *a = arena_new();
	struct world w;

	(void)state;
	world_init(&w);
	world_put(&w, "gateway.yaml", vouching);
	world_commit(&w);
	apply_key(&w, a, true);
	assert_non_null(served(a, &w, "router", "edge", "edge", "kubernetes-gateway://edge/web"));
	assert_null(served(a, &w, "router", "edge", "edge", "kubernetes://edge/web"));
	world_done(&w);
	arena_free(a);
}

static void P98_a_secret_that_comes_or_goes_touches_who_asked(void **state)
{
	struct arena *a = arena_new();
	struct proxy *p = world_proxy(a, "router", "10.0.0.9", "gw-1", "edge", "{\"app\":\"gw\"}");
	struct cache c = {0}, fresh = {0};
	struct world w;

	(void)state;
	p->verified_ns = p->ns;
	world_init(&w);
	world_put(&w, "gateway.yaml", gateway);
	world_commit(&w);
	cache_update(&c, w.model, p, NULL);
	assert_null(cache_get(&c, XDS_SDS, "kubernetes://web-cacert")->bytes);
	world_put(&w, "secret.yaml", secret_text(a, "edge"));
	world_commit(&w);
	cache_update(&c, w.model, p, &w.touched);
	assert_non_null(cache_get(&c, XDS_SDS, "kubernetes://web-cacert")->bytes);
	cache_update(&fresh, w.model, p, NULL);
	assert_true(cache_equal(&c, &fresh));
	/* A Secret of another namespace is nothing to it. */
	world_put(&w, "other.yaml", secret_text(a, "other"));
	world_commit(&w);
	cache_update(&c, w.model, p, &w.touched);
	assert_int_equal(c.rebuilt, 0);
	world_remove(&w, "secret.yaml");
	world_commit(&w);
	cache_update(&c, w.model, p, &w.touched);
	assert_null(cache_get(&c, XDS_SDS, "kubernetes://web-cacert")->bytes);
	cache_done(&c);
	cache_done(&fresh);
	world_done(&w);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P49_a_secret_is_for_proxies_of_its_namespace_alone),
		cmocka_unit_test(P98_a_config_map_is_for_every_proxy_with_a_certificate),
		cmocka_unit_test(P98_a_gateway_of_the_namespace_vouches_for_a_secret),
		cmocka_unit_test(P98_a_guarded_key_is_for_accounts_that_may_list_secrets),
		cmocka_unit_test(P98_a_gateways_word_stands_for_the_right_to_list),
		cmocka_unit_test(P98_a_secret_that_comes_or_goes_touches_who_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
