/*
 * DOC: Single requests to the API server: credentials, the reason in an error, nothing else. A token file is looked at before each request,
 * at most once a second, because projected tokens rotate under a process that lives for months.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/kube/kube_internal.h"

#define REQUEST_TIMEOUT_MS 10000u
#define BODY_MAX (64u << 20)
#define TOKEN_MAX (64u << 10)
#define TOKEN_AGE_MS 1000u

METRIC(requests, COUNTER, "kube_client_requests_total", "requests to the API server", "method", "code");

LOG_SCOPE(kube_log, "kube", "the Kubernetes API");

struct kube {
	struct loop *loop;
	struct http_client *http;
	struct kube_config config;
	char *token; /* of the file */
	uint64_t token_ms; /* when it was read */
	struct kube_watch *watches;
	bool closing;
};

struct kube_call {
	const struct kube *kube;
	char method[8];
	kube_done done;
	void *ctx;
};

struct kube *kube_new(struct loop *l, const struct kube_options *o, struct err *e)
{
	struct kube *k = xzalloc(sizeof(*k));
	if (!kube_config_load(o, &k->config, e)) {
		free(k);
		return NULL;
	}
	k->loop = l;
	k->http = http_client_new(l);
	log_info(&kube_log, "API server", KV("server", k->config.server), KV("namespace", k->config.namespace));
	return k;
}

static void wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void kube_free(struct kube *k)
{
	if (!k)
		return;
	k->closing = true;
	http_client_free(k->http);
	kube_config_done(&k->config);
	wipe(k->token);
	free(k);
}

const char *kube_server(const struct kube *k)
{
	return k->config.server;
}

const char *kube_namespace(const struct kube *k)
{
	return k->config.namespace;
}

struct loop *kube_loop(const struct kube *k)
{
	return k->loop;
}

struct kube_watch **kube_watches(struct kube *k)
{
	return &k->watches;
}

static const char *token(struct kube *k)
{
	uint64_t now = clock_mono_ms();
	char *text = NULL;
	size_t len = 0;
	struct err e = {0};
	if (!k->config.token_file)
		return k->config.token;
	if (k->token && now - k->token_ms < TOKEN_AGE_MS)
		return k->token;
	k->token_ms = now;
	if (!file_read(k->config.token_file, TOKEN_MAX, &text, &len, &e)) {
		log_warn(&kube_log, "the token cannot be read; the last one is used", KV("error", e.text));
		return k->token;
	}
	struct str t = str_trim(str_n(text, len));
	wipe(k->token);
	k->token = xstrndup(t.ptr, t.len);
	wipe(text);
	return k->token;
}

void kube_reason(int status, struct str body, char out[256])
{
	json_t *j = json_loadb(body.ptr ? body.ptr : "", body.len, 0, NULL);
	const char *message = json_string_value(json_object_get(j, "message"));
	if (message)
		(void)snprintf(out, 256, "%s", message);
	else if (status == 0)
		(void)snprintf(out, 256, STR_FMT, STR_ARG(str_sub(body, 0, min_size(body.len, 250))));
	else
		(void)snprintf(out, 256, "HTTP %d", status);
	json_decref(j);
}

struct http_call *kube_http(struct kube *k, const struct kube_request *r, size_t max_body,
	const struct kube_stream *stream, void (*done)(void *ctx, int status, struct str body, struct str type),
	void *ctx)
{
	/* Objects come as JSON; the keys of service accounts have a type of their own (application/jwk-set+json). */
	const char *bearer = token(k), *headers[4] = {"Accept: application/json, */*;q=0.5"};
	char *url cleanup(free_p) = xasprintf("%s%s", k->config.server, r->path);
	char *authorization = bearer ? xasprintf("Authorization: Bearer %s", bearer) : NULL;
	char *type cleanup(free_p) = xasprintf(
		"Content-Type: %s", r->content_type ? r->content_type : "application/json");
	size_t n = 1;
	if (authorization)
		headers[n++] = authorization;
	if (r->body.len)
		headers[n++] = type;
	const struct http_request h = {.method = r->method,
		.url = url,
		.headers = headers,
		.body = r->body,
		.timeout_ms = r->timeout_ms ? r->timeout_ms : REQUEST_TIMEOUT_MS,
		.max_body_bytes = max_body,
		.insecure = k->config.insecure,
		.ca_file = k->config.ca_file,
		.cert_file = k->config.cert_file,
		.key_file = k->config.key_file,
		.on_data = stream ? stream->on_data : NULL,
		.on_start = stream ? stream->on_start : NULL};
	struct http_call *call = http_send(k->http, &h, done, ctx);
	wipe(authorization);
	return call;
}

static void on_done(void *ctx, int status, struct str body, struct str type)
{
	struct kube_call *c = ctx;
	char reason[256], code[8];
	(void)type;
	if (c->kube->closing) {
		free(c);
		return;
	}
	(void)snprintf(code, sizeof(code), "%d", status);
	metric_add(&requests, 1, c->method, code);
	if (status >= 200 && status < 300) {
		c->done(c->ctx, status, body);
	} else {
		kube_reason(status, body, reason);
		c->done(c->ctx, status, str_of(reason));
	}
	free(c);
}

void kube_send(struct kube *k, const struct kube_request *r, kube_done done, void *ctx)
{
	struct kube_call *c = xzalloc(sizeof(*c));
	(void)snprintf(c->method, sizeof(c->method), "%s", r->method ? r->method : "GET");
	c->kube = k;
	c->done = done;
	c->ctx = ctx;
	(void)kube_http(k, r, BODY_MAX, NULL, on_done, c);
}
