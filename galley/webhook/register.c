/* DOC: See the header. One watch for each configuration; each webhook in it whose bundle differs becomes one operation of a JSON patch. */
#include "galley/webhook/register.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/base64.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/base/vec.h"

#define RETRY_MS 1000u

METRIC(patched, COUNTER, "galley_webhook_configuration_patches_total", "webhook configurations whose CA bundle was set",
	"result");

LOG_SCOPE(register_log, "webhook-register", "CA bundles of webhook configurations");

struct configuration {
	struct registrar *owner;
	char *plural, *name, *selector;
	struct kube_watch *watch;
	json_t *object; /* as last seen, NULL: not there */
	bool patching;
	bool looked_meanwhile; /* a change came while a patch was under way */
};

struct registrar {
	struct kube *api;
	struct timer *retry;
	char *bundle; /* base64 */
	VEC(struct configuration *) list;
};

static void reconcile(struct configuration *c);

static void on_patched(void *ctx, int status, struct str text)
{
	struct configuration *c = ctx;
	bool ok = status == 200;
	c->patching = false;
	metric_add(&patched, 1, ok ? "ok" : "failed");
	if (ok && c->looked_meanwhile)
		reconcile(c);
	if (ok)
		return;
	log_warn(&register_log, "CA bundle not set", KV("configuration", c->name), KV("status", status),
		KV("error", text));
	timer_start(c->owner->retry, RETRY_MS, 0);
}

static json_t *patch_of(const struct configuration *c)
{
	json_t *patch = json_array(), *webhook;
	size_t i;
	json_array_foreach(json_object_get(c->object, "webhooks"), i, webhook)
	{
		json_t *config = json_object_get(webhook, "clientConfig");
		const char *held = json_string_value(json_object_get(config, "caBundle"));
		if (streq(held, c->owner->bundle))
			continue;
		char *path cleanup(free_p) = xasprintf("/webhooks/%zu/clientConfig/caBundle", i);
		(void)json_array_append_new(
			patch, json_pack("{s:s, s:s, s:s}", "op", "add", "path", path, "value", c->owner->bundle));
	}
	return patch;
}

static void reconcile(struct configuration *c)
{
	c->looked_meanwhile = c->patching;
	if (!c->object || !c->owner->bundle || c->patching)
		return;
	json_t *patch = patch_of(c);
	if (json_array_size(patch)) {
		char *body = json_dumps(patch, JSON_COMPACT);
		char *path cleanup(free_p) = xasprintf(
			"/apis/admissionregistration.k8s.io/v1/%s/%s", c->plural, c->name);
		const struct kube_request r = {.method = "PATCH",
			.path = path,
			.content_type = "application/json-patch+json",
			.body = str_of(body)};
		c->patching = true;
		kube_send(c->owner->api, &r, on_patched, c);
		free(body);
	}
	json_decref(patch);
}

static void reconcile_all(void *ctx)
{
	struct registrar *r = ctx;
	for (size_t i = 0; i < r->list.len; i++)
		reconcile(r->list.items[i]);
}

static void on_put(void *ctx, struct str key, struct str json)
{
	struct configuration *c = ctx;
	(void)key;
	json_decref(c->object);
	c->object = json_loadb(json.ptr, json.len, 0, NULL);
}

static void on_remove(void *ctx, struct str key)
{
	struct configuration *c = ctx;
	(void)key;
	json_decref(c->object);
	c->object = NULL;
}

static void on_settled(void *ctx)
{
	reconcile(ctx);
}

static bool add(struct registrar *r, const char *text, struct err *e)
{
	static const struct kube_watch_ops ops = {on_put, on_remove, on_settled};
	struct str type, name;
	if (!str_cut(str_of(text), '/', &type, &name) || !name.len ||
		(!str_eqc(type, "validating") && !str_eqc(type, "mutating")))
		return err_set(e, ERR_PEER, "\"%s\" is not validating/NAME or mutating/NAME", text);
	struct configuration *c = xzalloc(sizeof(*c));
	c->owner = r;
	c->plural = xasprintf(STR_FMT "webhookconfigurations", STR_ARG(type));
	c->name = xstrndup(name.ptr, name.len);
	c->selector = xasprintf("fieldSelector=metadata.name%%3D%s", c->name);
	vec_push(&r->list, c);
	const struct kube_watch_options o = {.group = "admissionregistration.k8s.io",
		.version = "v1",
		.plural = c->plural,
		.kind = "WebhookConfiguration",
		.selector = c->selector,
		.ops = &ops,
		.ctx = c};
	c->watch = kube_watch_new(r->api, &o);
	return true;
}

struct registrar *registrar_new(
	struct loop *l, const struct kube_options *api, const char *const *configurations, struct err *e)
{
	struct registrar *r = xzalloc(sizeof(*r));
	r->retry = timer_new(l, reconcile_all, r);
	r->api = kube_new(l, api, e);
	bool ok = r->api != NULL;
	for (size_t i = 0; ok && configurations && configurations[i]; i++)
		ok = add(r, configurations[i], e);
	if (ok)
		return r;
	registrar_free(r);
	return NULL;
}

void registrar_free(struct registrar *r)
{
	if (!r)
		return;
	timer_free(r->retry);
	for (size_t i = 0; i < r->list.len; i++)
		kube_watch_free(r->list.items[i]->watch);
	kube_free(r->api);
	for (size_t i = 0; i < r->list.len; i++) {
		struct configuration *c = r->list.items[i];
		json_decref(c->object);
		free(c->plural);
		free(c->name);
		free(c->selector);
		free(c);
	}
	vec_done(&r->list);
	free(r->bundle);
	free(r);
}

void registrar_set_roots(struct registrar *r, struct str roots_pem)
{
	struct strbuf bundle = {0};
	base64_write(roots_pem, &bundle);
	free(r->bundle);
	r->bundle = strbuf_take(&bundle);
	reconcile_all(r);
}

void registrar_debug(const struct registrar *r, struct strbuf *json)
{
	strbuf_addc(json, '[');
	for (size_t i = 0; i < r->list.len; i++) {
		const struct configuration *c = r->list.items[i];
		json_t *patch = c->object && r->bundle ? patch_of(c) : NULL;
		strbuf_addf(json, "%s{\"configuration\":", i ? "," : "");
		strbuf_add_json(json, str_of(c->name));
		strbuf_addf(json, ",\"found\":%s,\"current\":%s}", c->object ? "true" : "false",
			patch && !json_array_size(patch) ? "true" : "false");
		json_decref(patch);
	}
	strbuf_addc(json, ']');
}
