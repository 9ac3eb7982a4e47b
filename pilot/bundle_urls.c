/*
 * DOC: One fetch of a URL at a time; after a good one the next comes after the refresh (Istio: half an hour), after a bad one after a growing pause.
 * An answer that is not wholly good changes nothing: trust is taken away by a bundle that says so, never by an endpoint that fails.
 */
#include "pilot/bundle_urls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cfg/model.pb-c.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/io/http.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "common/pki/pki.h"

#define TIMEOUT_MS 10000u
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 300000u

METRIC(fetches, COUNTER, "pilot_trust_bundle_fetches_total", "SPIFFE bundles fetched by URL", "result");

LOG_SCOPE(bundle_log, "bundles", "roots from SPIFFE bundle endpoints");

struct endpoint {
	struct bundle_urls *owner;
	char *url, *file; /* file NULL: nothing is kept */
	char *pem; /* "": none yet */
	struct timer *timer;
	struct http_call *call;
	uint64_t taken_ms; /* 0: not in this run */
	unsigned failures;
	char error[480];
	bool wanted; /* while the list is taken over */
};

struct bundle_urls {
	struct bundle_urls_options o;
	struct http_client *http;
	struct map *endpoints; /* URL -> endpoint */
};

/* ---- telling */

static void tell(struct endpoint *p)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	Fl__TrustBundle *b = PB_NEW(a, Fl__TrustBundle, fl__trust_bundle);
	struct bus_change c = {.topic = TOPIC_TRUST, .key = str_of(p->url), .origin = str_of(p->url)};
	if (p->pem[0]) {
		pb_add(a, b, roots_pem, arena_strdup(a, p->pem));
		c.value = pb_pack(a, b);
		c.hash = hash64(c.value) | 1;
	}
	p->owner->o.on_change(p->owner->o.ctx, &c);
}

static void keep(const struct endpoint *p)
{
	struct err e = {0};
	if (p->file && !file_write_atomic(p->file, str_of(p->pem), 0600, &e))
		log_error(&bundle_log, "roots not kept", KV("url", p->url), KV("error", e.text));
}

/* What the last run had. */
static void recall(struct endpoint *p)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str pem = {0};
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	struct err e = {0};
	if (!p->file || !file_exists(p->file))
		return;
	if (!file_read(p->file, LIMIT_PEM_BYTES, &text, &len, &e) ||
		!pki_bundle_join(a, str_n(text, len), str_n(text, len), &pem, &e)) {
		log_warn(&bundle_log, "roots of the last run are not used", KV("url", p->url), KV("error", e.text));
		return;
	}
	free(p->pem);
	p->pem = xstrndup(pem.ptr, pem.len);
	tell(p);
}

/* ---- fetching */

static void failed(struct endpoint *p, const char *why)
{
	(void)snprintf(p->error, sizeof(p->error), "%s", why);
	metric_add(&fetches, 1, "failed");
	if (p->failures++ == 0)
		log_warn(&bundle_log, "SPIFFE bundle not fetched; its last roots stay", KV("url", p->url),
			KV("error", p->error));
	timer_start(p->timer, random_backoff(p->failures, RETRY_MIN_MS, RETRY_MAX_MS, 0.3), 0);
}

static void taken(struct endpoint *p, struct str pem)
{
	metric_add(&fetches, 1, "fetched");
	p->failures = 0;
	p->error[0] = '\0';
	p->taken_ms = clock_mono_ms();
	timer_start(p->timer, random_jitter(p->owner->o.refresh_ms, 0.1), 0);
	if (str_eqc(pem, p->pem))
		return;
	free(p->pem);
	p->pem = xstrndup(pem.ptr, pem.len);
	log_info(&bundle_log, "roots of a SPIFFE bundle changed", KV("url", p->url), KV("bytes", pem.len));
	keep(p);
	tell(p);
}

static void on_done(void *ctx, int status, struct str body, struct str type)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct endpoint *p = ctx;
	struct str pem = {0};
	struct err e = {0};
	(void)type;
	p->call = NULL;
	if (status == 200 && pki_spiffe_bundle(a, body, &pem, &e))
		taken(p, pem);
	else
		failed(p, status == 200 ? e.text
					: arena_printf(a, status ? "HTTP %d" : "%d: " STR_FMT, status,
						  STR_ARG(str_sub(body, 0, min_size(body.len, 200)))));
}

static void fetch(void *ctx)
{
	struct endpoint *p = ctx;
	const struct http_request r = {.url = p->url,
		.timeout_ms = TIMEOUT_MS,
		.max_body_bytes = LIMIT_PEM_BYTES,
		.ca_file = p->owner->o.roots};
	p->call = http_send(p->owner->http, &r, on_done, p);
}

/* ---- the list */

static void endpoint_free(struct endpoint *p)
{
	if (p->call)
		http_cancel(p->call);
	timer_free(p->timer);
	free(p->url);
	free(p->file);
	free(p->pem);
	free(p);
}

static void let_go(struct bundle_urls *b, struct endpoint *p)
{
	(void)map_del(b->endpoints, str_of(p->url));
	log_info(&bundle_log, "SPIFFE bundle endpoint let go", KV("url", p->url));
	if (p->file)
		(void)unlink(p->file);
	if (p->pem[0]) {
		p->pem[0] = '\0';
		tell(p);
	}
	endpoint_free(p);
}

static struct endpoint *endpoint_new(struct bundle_urls *b, struct str url)
{
	struct endpoint *p = xzalloc(sizeof(*p));
	p->owner = b;
	p->url = xstrndup(url.ptr, url.len);
	p->pem = xstrdup("");
	p->file = b->o.state_dir ? xasprintf("%s/spiffe-bundle-%016" PRIx64 ".pem", b->o.state_dir, hash64(url)) : NULL;
	p->timer = timer_new(b->o.loop, fetch, p);
	(void)map_put(b->endpoints, url, p);
	return p;
}

void bundle_urls_set(struct bundle_urls *b, const struct str *urls, size_t n)
{
	struct str key;
	void *value;
	for (size_t i = 0; i < n; i++) {
		struct endpoint *p = map_get(b->endpoints, urls[i]);
		if (!p) {
			p = endpoint_new(b, urls[i]);
			recall(p);
			fetch(p);
		}
		p->wanted = true;
	}
	for (size_t i = 0; map_next(b->endpoints, &i, &key, &value);) {
		struct endpoint *p = value;
		if (!p->wanted)
			let_go(b, p);
		else
			p->wanted = false;
	}
}

struct bundle_urls *bundle_urls_new(const struct bundle_urls_options *o)
{
	struct bundle_urls *b = xzalloc(sizeof(*b));
	b->o = *o;
	b->http = http_client_new(o->loop);
	b->endpoints = map_new();
	return b;
}

void bundle_urls_free(struct bundle_urls *b)
{
	struct str key;
	void *value;
	if (!b)
		return;
	for (size_t i = 0; map_next(b->endpoints, &i, &key, &value);)
		endpoint_free(value);
	map_free(b->endpoints);
	http_client_free(b->http);
	free(b);
}

void bundle_urls_debug(const struct bundle_urls *b, struct strbuf *json)
{
	struct str key;
	void *value;
	strbuf_addc(json, '[');
	for (size_t i = 0, n = 0; map_next(b->endpoints, &i, &key, &value); n++) {
		const struct endpoint *p = value;
		size_t roots = 0;
		for (const char *at = p->pem; (at = strstr(at, "BEGIN ")); at++)
			roots++;
		strbuf_adds(json, n ? ",{\"url\":" : "{\"url\":");
		strbuf_add_json(json, key);
		strbuf_addf(json, ",\"roots\":%zu,\"ageMs\":%lld,\"failures\":%u,\"error\":", roots,
			p->taken_ms ? (long long)(clock_mono_ms() - p->taken_ms) : -1ll, p->failures);
		strbuf_add_json(json, str_of(p->error));
		strbuf_addc(json, '}');
	}
	strbuf_addc(json, ']');
}
