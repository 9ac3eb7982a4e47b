/* DOC: See the header. The server starts when there is a certificate and is started anew with each new one; requests under way end first. */
#include "galley/webhook/webhook.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/daemon/admin.h"
#include "common/identity/identity.h"
#include "common/io/file.h"
#include "galley/webhook/register.h"
#include "galley/webhook/validate.h"

METRIC(reviews, COUNTER, "galley_webhook_reviews_total", "admission reviews answered", "webhook", "kind", "result");
METRIC(http_errors, COUNTER, "galley_validation_http_error", "admission requests that were not understood", "status");
METRIC(review_seconds, HISTOGRAM, "galley_webhook_review_seconds", "answering one admission review", "webhook");

static struct log_scope webhook_log = LOG_SCOPE("webhook", "admission webhooks");

struct webhook {
	struct loop *loop;
	struct webhook_options o;
	struct admin *server;
	struct identity *identity;
	struct dir_watch *watch;
	struct registrar *registrar;
	struct timer *retry;
	uint64_t starts, refusals;
	struct err error; /* of the last start */
};

/* ---- requests */

static void bad_request(struct admin_request *q, const struct err *e)
{
	char *text cleanup(free_p) = xasprintf("%s\n", e->text);
	metric_add(&http_errors, 1, "400");
	log_warn(&webhook_log, "not an admission review", KV("error", e->text));
	admin_respond(q, 400, "text/plain", str_of(text));
}

static void on_validate(void *ctx, struct admin_request *q)
{
	struct webhook *w = ctx;
	struct review r;
	struct err e = {0};
	bool refused;
	uint64_t began = clock_mono_us();
	if (!review_parse(admin_request_body(q), &r, &e)) {
		bad_request(q, &e);
		return;
	}
	char *answer = validate_review(&r, &(struct validate_options){w->o.domain_suffix}, &refused);
	w->refusals += refused;
	metric_add(&reviews, 1, "validate", r.kind, refused ? "refused" : "allowed");
	metric_observe(&review_seconds, (double)(clock_mono_us() - began) / 1e6, "validate");
	if (refused)
		log_info(&webhook_log, "refused", KV("kind", r.kind), KV("namespace", r.ns), KV("answer", answer));
	admin_respond(q, 200, "application/json", str_of(answer));
	free(answer);
	review_done(&r);
}

static void on_ready(void *ctx, struct admin_request *q)
{
	(void)ctx;
	admin_respond(q, 200, "text/plain", STR("ready\n"));
}

/* ---- certificate */

static void serve(struct webhook *w, const char *chain_pem, const char *key_pem, const char *roots_pem)
{
	struct err e = {0};
	uint16_t port = 0;
	admin_free(take(w->server));
	w->server = admin_new_tls(w->loop, w->o.address, chain_pem, key_pem, &port, &e);
	w->error = e;
	if (!w->server) {
		log_error(&webhook_log, "not serving", KV("address", w->o.address), KV("error", e.text));
		timer_start(w->retry, 1000, 0);
		return;
	}
	admin_route(w->server, "POST", "/validate", on_validate, w);
	admin_route(w->server, "POST", "/validate/", on_validate, w);
	admin_route(w->server, "GET", "/readyz", on_ready, w);
	w->starts++;
	log_info(&webhook_log, "serving webhooks", KV("address", w->o.address), KV("port", port));
	if (w->registrar && roots_pem)
		registrar_set_roots(w->registrar, str_of(roots_pem));
}

static char *read_pem(const char *dir, const char *name, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", dir, name), *out = NULL;
	size_t len;
	return file_read(path, LIMIT_PEM_BYTES, &out, &len, e) ? out : NULL;
}

static void serve_files(void *ctx)
{
	struct webhook *w = ctx;
	struct err e = {0};
	char *chain cleanup(free_p) = read_pem(w->o.cert_dir, "tls.crt", &e);
	char *key = chain ? read_pem(w->o.cert_dir, "tls.key", &e) : NULL;
	char *roots cleanup(free_p) = read_pem(w->o.cert_dir, "ca.crt", NULL);
	if (key) {
		serve(w, chain, key, roots ? roots : chain);
		explicit_bzero(key, strlen(key));
		free(key);
		return;
	}
	if (!streq(w->error.text, e.text)) /* a folder that is not there yet is looked at every second */
		log_warn(&webhook_log, "no certificate", KV("error", e.text));
	w->error = e;
}

static void serve_identity(void *ctx)
{
	struct webhook *w = ctx;
	const struct identity_material *m = w->identity ? identity_get(w->identity) : NULL;
	if (m)
		serve(w, m->chain_pem, m->key_pem, m->roots_pem);
}

static void on_retry(void *ctx)
{
	struct webhook *w = ctx;
	if (w->identity)
		serve_identity(w);
	else
		serve_files(w);
}

static bool start_identity(struct webhook *w, struct err *e)
{
	static const char *const dns[] = {"galley", NULL};
	char *id cleanup(free_p) = xasprintf("spiffe://%s/ns/istio-system/sa/galley", w->o.trust_domain);
	const struct identity_options o = {.ca_address = w->o.ca_address,
		.ca_roots_file = w->o.ca_roots,
		.ca_names = w->o.ca_names,
		.token_file = w->o.ca_token,
		.spiffe_id = id,
		.dns = w->o.dns && w->o.dns[0] ? w->o.dns : dns,
		.persist_dir = w->o.state_dir,
		.on_change = serve_identity,
		.ctx = w};
	w->identity = identity_new(w->loop, &o, e);
	serve_identity(w);
	return w->identity != NULL;
}

static bool start_files(struct webhook *w, struct err *e)
{
	w->watch = dir_watch_new(w->loop, w->o.cert_dir, 100, serve_files, w, e);
	if (!w->watch)
		return false;
	serve_files(w);
	return true;
}

/* ---- life */

struct webhook *webhook_new(struct loop *l, const struct webhook_options *o, struct err *e)
{
	struct webhook *w = xzalloc(sizeof(*w));
	w->loop = l;
	w->o = *o;
	w->retry = timer_new(l, on_retry, w);
	bool ok = true;
	if (o->api) {
		w->registrar = registrar_new(l, o->api, o->configurations, e);
		ok = w->registrar != NULL;
	}
	if (ok && !o->cert_dir && !o->ca_address)
		ok = err_set(e, ERR_PEER, "a webhook needs a certificate: --webhook-cert-dir or --ca-address");
	ok = ok && (o->cert_dir ? start_files(w, e) : start_identity(w, e));
	if (ok)
		return w;
	webhook_free(w);
	return NULL;
}

void webhook_free(struct webhook *w)
{
	if (!w)
		return;
	admin_free(w->server);
	dir_watch_free(w->watch);
	identity_free(w->identity);
	registrar_free(w->registrar);
	timer_free(w->retry);
	free(w);
}

bool webhook_serving(const struct webhook *w)
{
	return w->server != NULL;
}

void webhook_debug(const struct webhook *w, struct strbuf *json)
{
	strbuf_addf(json, "{\"serving\":%s,\"starts\":%llu,\"refusals\":%llu,\"error\":", w->server ? "true" : "false",
		(unsigned long long)w->starts, (unsigned long long)w->refusals);
	strbuf_add_json(json, str_of(w->error.text));
	strbuf_adds(json, ",\"configurations\":");
	if (w->registrar)
		registrar_debug(w->registrar, json);
	else
		strbuf_adds(json, "[]");
	strbuf_addc(json, '}');
}
