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
#include "galley/webhook/inject_review.h"
#include "galley/webhook/register.h"
#include "galley/webhook/validate.h"

METRIC(reviews, COUNTER, "galley_webhook_reviews_total", "admission reviews answered", "webhook", "kind", "result");
METRIC(http_errors, COUNTER, "galley_validation_http_error", "admission requests that were not understood", "status");
METRIC(injections, COUNTER, "sidecar_injection_requests_total", "pods that injection was asked for");
METRIC(injected, COUNTER, "sidecar_injection_success_total", "pods that got a proxy, or had one");
METRIC(not_injected, COUNTER, "sidecar_injection_failure_total", "pods that were refused, and requests not understood");
METRIC(skipped, COUNTER, "sidecar_injection_skip_total", "pods that get no proxy");
METRIC(injection_seconds, HISTOGRAM, "sidecar_injection_time_seconds", "answering one request for injection");
METRIC(settings_bad, GAUGE, "galley_injection_settings_bad",
	"1 while the file with the settings of injection is not taken");
METRIC(review_seconds, HISTOGRAM, "galley_webhook_review_seconds", "answering one admission review", "webhook");

LOG_SCOPE(webhook_log, "webhook", "admission webhooks");

struct webhook {
	char *proxy_config; /* of the mesh config */
	bool no_metrics_merge; /* that, too */
	uint32_t outbound_port, inbound_port; /* likewise; 0: not known yet */
	char *proxy_configs; /* of the source; NULL: the option's */
	struct loop *loop;
	struct webhook_options o;
	struct admin *server;
	struct identity *identity;
	struct dir_watch *watch;
	struct dir_watch *settings_watch;
	struct inject_settings *settings; /* the last good ones */
	struct err settings_error; /* of what the file says now */
	struct registrar *registrar;
	struct timer *retry;
	uint64_t starts, refusals;
	uint64_t pods[INJECT_RESULT_COUNT]; /* by what became of them */
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

/* The name of a pod that has none yet is what it will begin with. */
static const char *pod_name(const struct review *r)
{
	const json_t *meta = json_object_get(r->object, "metadata");
	const char *name = json_string_value(json_object_get(meta, "name"));
	name = name ? name : json_string_value(json_object_get(meta, "generateName"));
	return name ? name : "";
}

static void count_injection(struct webhook *w, enum inject_result result, const struct review *r, const char *why)
{
	static struct metric *const counts[] = {[INJECT_INJECTED] = &injected,
		[INJECT_UNCHANGED] = &injected,
		[INJECT_SKIPPED] = &skipped,
		[INJECT_REFUSED] = &not_injected};
	static const char *const words[] = {[INJECT_INJECTED] = "injected",
		[INJECT_UNCHANGED] = "unchanged",
		[INJECT_SKIPPED] = "skipped",
		[INJECT_REFUSED] = "refused"};
	w->pods[result]++;
	metric_add(counts[result], 1);
	metric_add(&reviews, 1, "inject", r->kind, words[result]);
	if (result == INJECT_REFUSED)
		log_warn(&webhook_log, "pod refused", KV("namespace", r->ns), KV("pod", pod_name(r)), KV("error", why));
	else
		log_debug(&webhook_log, words[result], KV("namespace", r->ns), KV("pod", pod_name(r)), KV("why", why));
}

static void on_inject(void *ctx, struct admin_request *q)
{
	struct webhook *w = ctx;
	struct review r;
	struct err e = {0};
	enum inject_result result;
	uint64_t began = clock_mono_us();
	metric_add(&injections, 1);
	if (!review_parse(admin_request_body(q), &r, &e)) {
		metric_add(&not_injected, 1);
		bad_request(q, &e);
		return;
	}
	struct inject_options o = w->o.inject;
	if (!str_empty(w->proxy_config))
		o.proxy_config = w->proxy_config;
	o.no_metrics_merge |= w->no_metrics_merge;
	o.outbound_port = w->outbound_port;
	o.inbound_port = w->inbound_port;
	if (!str_empty(w->proxy_configs))
		o.proxy_configs = w->proxy_configs;
	o.settings = w->settings;
	o.settings_error = w->settings ? "" : w->settings_error.text;
	const struct inject_request of = {.uid_range = galley_namespace_annotation(w->o.galley, r.ns, INJECT_UID_RANGE),
		.groups = galley_namespace_annotation(w->o.galley, r.ns, INJECT_GROUPS)};
	char *answer = inject_review(&r, admin_request_path(q), &o, &of, &result, &e);
	count_injection(w, result, &r, e.text);
	metric_observe(&injection_seconds, (double)(clock_mono_us() - began) / 1e6);
	admin_respond(q, 200, "application/json", str_of(answer));
	free(answer);
	review_done(&r);
}

static void on_ready(void *ctx, struct admin_request *q)
{
	(void)ctx;
	admin_respond(q, 200, "text/plain", STR("ready\n"));
}

/* ---- settings of injection */

static void read_settings(void *ctx)
{
	struct webhook *w = ctx;
	struct inject_settings *fresh = NULL;
	struct err e = {0};
	if (inject_settings_read(w->o.inject_config, &fresh, &e)) {
		inject_settings_free(w->settings);
		w->settings = fresh;
		log_info(&webhook_log, "settings of injection read", KV("file", w->o.inject_config));
	} else if (!streq(w->settings_error.text, e.text)) {
		log_error(&webhook_log,
			w->settings ? "settings of injection not taken, the last good ones hold"
				    : "settings of injection not taken, pods are refused",
			KV("error", e.text));
	}
	metric_set(&settings_bad, *e.text ? 1 : 0);
	w->settings_error = e;
}

static bool start_settings(struct webhook *w, struct err *e)
{
	char *folder cleanup(free_p) = NULL;
	struct str path = str_of(w->o.inject_config);
	size_t slash;
	if (!path.len)
		return true;
	folder = str_rfind(path, '/', &slash) ? xstrndup(path.ptr, slash ? slash : 1) : xstrdup(".");
	w->settings_watch = dir_watch_new(w->loop, folder, 100, read_settings, w, e);
	if (!w->settings_watch)
		return err_in(e, "--inject-config");
	read_settings(w);
	return true;
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
	if (!str_empty(w->o.inject.image)) {
		admin_route(w->server, "POST", "/inject", on_inject, w);
		admin_route(w->server, "POST", "/inject/", on_inject, w);
	}
	admin_route(w->server, "GET", "/readyz", on_ready, w);
	w->starts++;
	log_info(&webhook_log, "serving webhooks", KV("address", w->o.address), KV("port", port));
	if (w->o.on_serving)
		w->o.on_serving(w->o.ctx);
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
	char *id cleanup(free_p) = xasprintf("spiffe://%s/ns/%s/sa/galley", w->o.trust_domain, w->o.namespace);
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
	ok = ok && start_settings(w, e);
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
	dir_watch_free(w->settings_watch);
	inject_settings_free(w->settings);
	identity_free(w->identity);
	registrar_free(w->registrar);
	timer_free(w->retry);
	free(w->proxy_configs);
	free(w->proxy_config);
	free(w);
}

static void replace(char **text, struct str json)
{
	free(*text);
	*text = xstrndup(json.ptr ? json.ptr : "", json.len);
}

void webhook_take(struct webhook *w, struct galley *g)
{
	struct strbuf json cleanup(strbuf_done) = {0};
	if (galley_kind_changed(g, KIND_MESH_CONFIG)) {
		galley_proxy_config(g, &json);
		replace(&w->proxy_config, strbuf_str(&json));
		w->no_metrics_merge = !galley_merges_metrics(g);
		galley_capture_ports(g, &w->outbound_port, &w->inbound_port);
	}
	strbuf_clear(&json);
	if (galley_kind_changed(g, KIND_PROXY_CONFIG)) {
		galley_proxy_configs(g, &json);
		replace(&w->proxy_configs, strbuf_str(&json));
	}
}

bool webhook_serving(const struct webhook *w)
{
	return w->server != NULL;
}

void webhook_debug(const struct webhook *w, struct strbuf *json)
{
	strbuf_addf(json, "{\"serving\":%s,\"starts\":%llu,\"refusals\":%llu,", w->server ? "true" : "false",
		(unsigned long long)w->starts, (unsigned long long)w->refusals);
	strbuf_addf(json,
		"\"pods\":{\"injected\":%llu,\"unchanged\":%llu,\"skipped\":%llu,\"refused\":%llu},\"error\":",
		(unsigned long long)w->pods[INJECT_INJECTED], (unsigned long long)w->pods[INJECT_UNCHANGED],
		(unsigned long long)w->pods[INJECT_SKIPPED], (unsigned long long)w->pods[INJECT_REFUSED]);
	strbuf_add_json(json, str_of(w->error.text));
	strbuf_adds(json, ",\"injection_settings\":{\"held\":");
	strbuf_addf(json, "%s,\"error\":", w->settings ? "true" : "false");
	strbuf_add_json(json, str_of(w->settings_error.text));
	strbuf_adds(json, "},\"configurations\":");
	if (w->registrar)
		registrar_debug(w->registrar, json);
	else
		strbuf_adds(json, "[]");
	strbuf_addc(json, '}');
}
