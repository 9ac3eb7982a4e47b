/*
 * DOC: One resource kept in step: list page by page, then watch from the list's version; bookmarks move the version on, a watch that ends is
 * continued from it, and 410 Gone starts a new list, after which what was not listed is removed. So does whatever else would be the same if it
 * were asked again: an error inside of a watch, an event that is not understood, a page token that is refused, 5xx time after time.
 *
 * Every failure is waited out with doubling, jittered delay while what was delivered stays; when one watch is answered again, those that wait
 * because nobody had answered go on, too. A kind that the server does not know (404) is an empty one until it does.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/kube/kube_internal.h"

#define PAGE_ITEMS 250u
#define PAGE_BYTES_MAX (256u << 20)
#define EVENT_BYTES_MAX (8u << 20) /* etcd takes 1.5 MiB; JSON of it is longer */
#define BACKOFF_MIN_MS 200u
#define BACKOFF_MAX_MS 30000u
#define BRIEF_MS 1000u
#define HOPELESS_FAILURES 5u
#define ABSENT_RETRY_MS 10000u
#define WATCH_SECONDS 300u
#define SILENCE_MS 120000u /* bookmarks come about every minute */

METRIC(events_total, COUNTER, "kube_watch_events_total", "objects and deletions taken from the API server", "resource");
METRIC(lists_total, COUNTER, "kube_watch_lists_total", "lists begun", "resource");
METRIC(failures_total, COUNTER, "kube_watch_failures_total", "lists and watches that failed", "resource");

LOG_SCOPE(watch_log, "kube-watch", "lists and watches of the Kubernetes API");

enum watch_state { WATCH_LISTING, WATCH_ASKING, WATCH_WATCHING, WATCH_WAITING, WATCH_ABSENT, WATCH_STATE_COUNT };

struct kube_watch {
	struct kube *kube;
	struct kube_watch *next; /* of the same kube */
	struct kube_watch_options o;
	char *path; /* without query */
	char *api_version, *selector;
	enum watch_state state;
	bool synced;
	struct http_call *call;
	struct timer *retry;
	unsigned failures; /* in a row */
	unsigned brief; /* watches that ended at once, in a row */
	bool away; /* the server was said not to serve */
	bool unanswered; /* the last failure was no answer at all */
	char *version; /* resourceVersion to go on from; NULL: list */
	char *next_page; /* continue token */
	struct map *seen; /* key -> the number of the list that had it */
	uintptr_t round;
	struct strbuf line; /* of a watch, not yet complete */
	bool anew; /* the watch cannot be continued: list */
	int erred; /* it told an error of this status other than 410; 0: none */
	uint64_t heard_ms, began_ms, lists, watches, events, failed;
	char error[256];
};

static void go_on(struct kube_watch *w);

/* ---- objects */

static char *key_of(json_t *object)
{
	json_t *meta = json_object_get(object, "metadata");
	const char *ns = json_string_value(json_object_get(meta, "namespace"));
	const char *name = json_string_value(json_object_get(meta, "name"));
	if (!name)
		return NULL;
	return str_empty(ns) ? xstrdup(name) : xasprintf("%s/%s", ns, name);
}

static void set_version(struct kube_watch *w, json_t *meta)
{
	const char *v = json_string_value(json_object_get(meta, "resourceVersion"));
	if (str_empty(v) || streq(v, w->version))
		return;
	free(w->version);
	w->version = xstrdup(v);
}

static void put(struct kube_watch *w, json_t *object)
{
	char *key cleanup(free_p) = key_of(object);
	if (!key)
		return;
	(void)json_object_del(json_object_get(object, "metadata"), "managedFields");
	if (!json_object_get(object, "apiVersion"))
		(void)json_object_set_new(object, "apiVersion", json_string(w->api_version));
	if (!json_object_get(object, "kind"))
		(void)json_object_set_new(object, "kind", json_string(w->o.kind));
	char *text = json_dumps(object, JSON_COMPACT);
	(void)map_put(w->seen, str_of(key), (void *)w->round);
	w->o.ops->put(w->o.ctx, str_of(key), str_of(text));
	free(text);
	w->events++;
	metric_add(&events_total, 1, w->o.plural);
}

static void drop(struct kube_watch *w, struct str key)
{
	if (!map_del(w->seen, key))
		return;
	w->o.ops->remove(w->o.ctx, key);
	w->events++;
	metric_add(&events_total, 1, w->o.plural);
}

/* What the list that just ended did not hold is gone. */
static void sweep(struct kube_watch *w)
{
	struct str key;
	void *round;
	size_t n = 0;
	struct str *gone = xmalloc((map_len(w->seen) + 1) * sizeof(*gone));
	for (size_t i = 0; map_next(w->seen, &i, &key, &round);)
		if ((uintptr_t)round != w->round)
			gone[n++] = str_of(xstrndup(key.ptr, key.len));
	for (size_t i = 0; i < n; i++) {
		drop(w, gone[i]);
		free((char *)(uintptr_t)gone[i].ptr);
	}
	free(gone);
}

static void settle(struct kube_watch *w)
{
	w->synced = true;
	if (w->o.ops->settled)
		w->o.ops->settled(w->o.ctx);
}

/* ---- failures */

static void wait_for(struct kube_watch *w, enum watch_state state, uint64_t ms)
{
	w->state = state;
	timer_start(w->retry, ms, 0);
}

static void relist(struct kube_watch *w)
{
	free(take(w->version));
	free(take(w->next_page));
}

/* w->error says why. */
static void failed_with(struct kube_watch *w, int status)
{
	w->failed++;
	w->unanswered = status == 0;
	metric_add(&failures_total, 1, w->o.plural);
	uint64_t delay = random_backoff(++w->failures, BACKOFF_MIN_MS, BACKOFF_MAX_MS, 0.3);
	if (status >= 500 && w->failures >= HOPELESS_FAILURES)
		relist(w);
	if (!w->away)
		log_warn(&watch_log, "the API server does not serve; what is known stays", KV("resource", w->o.plural),
			KV("status", status), KV("error", w->error), KV("retry_ms", delay));
	w->away = true;
	wait_for(w, WATCH_WAITING, delay);
}

static void failed(struct kube_watch *w, int status, struct str body)
{
	kube_reason(status, body, w->error);
	failed_with(w, status);
}

/* Asked again, the answer would be the same: it is of the request. */
static bool is_hopeless(int status)
{
	return status >= 400 && status < 500 && status != 401 && status != 403 && status != 408 && status != 429;
}

/* It was the server that was away, and not one kind: the others need not wait to their end, but do not come all at once. */
static void wake_others(const struct kube_watch *w)
{
	for (struct kube_watch *o = *kube_watches(w->kube); o; o = o->next) {
		if (o == w || o->state != WATCH_WAITING || !o->unanswered)
			continue;
		o->unanswered = false;
		timer_start(o->retry, random_jitter(BACKOFF_MIN_MS, 0.9), 0);
	}
}

static void answered(struct kube_watch *w)
{
	if (w->away) {
		log_info(&watch_log, "the API server serves again", KV("resource", w->o.plural),
			KV("failures", w->failures));
		if (w->unanswered)
			wake_others(w);
	}
	w->away = false;
	w->error[0] = '\0';
	w->heard_ms = clock_mono_ms();
}

static void heard(struct kube_watch *w)
{
	answered(w);
	w->failures = 0;
}

static void absent(struct kube_watch *w)
{
	heard(w);
	(void)snprintf(w->error, sizeof(w->error), "the API server does not know this kind");
	w->round++;
	sweep(w);
	if (!w->synced)
		log_info(&watch_log, "not installed, counts as empty", KV("resource", w->o.plural),
			KV("group", w->o.group));
	settle(w);
	wait_for(w, WATCH_ABSENT, random_jitter(ABSENT_RETRY_MS, 0.3));
}

/* ---- list */

/* Who removes a definition removes its objects first. While we hold some, it is rather a server that is not yet whole. */
static bool believed_absent(const struct kube_watch *w)
{
	return map_len(w->seen) == 0 || w->failures >= HOPELESS_FAILURES;
}

static void on_page(void *ctx, int status, struct str body, struct str type)
{
	struct kube_watch *w = ctx;
	size_t i;
	json_t *item;
	(void)type;
	w->call = NULL;
	if (status == 404 && believed_absent(w)) {
		absent(w);
		return;
	}
	if (is_hopeless(status))
		relist(w); /* the page token has expired, or is of another server */
	json_t *page = status == 200 ? json_loadb(body.ptr, body.len, 0, NULL) : NULL;
	json_t *items = json_object_get(page, "items"), *meta = json_object_get(page, "metadata");
	if (!meta) {
		failed(w, status, status == 200 ? STR("the list is not understood") : body);
		json_decref(page);
		return;
	}
	heard(w);
	json_array_foreach(items, i, item) put(w, item);
	const char *next = json_string_value(json_object_get(meta, "continue"));
	free(w->next_page);
	w->next_page = str_empty(next) ? NULL : xstrdup(next);
	if (!w->next_page) {
		set_version(w, meta);
		sweep(w);
		settle(w);
	}
	json_decref(page);
	go_on(w);
}

static void list(struct kube_watch *w)
{
	char *path cleanup(free_p) = xasprintf("%s?limit=%u%s%s%s", w->path, w->o.page ? w->o.page : PAGE_ITEMS,
		w->selector, w->next_page ? "&continue=" : "", w->next_page ? w->next_page : "");
	const struct kube_request r = {.path = path, .timeout_ms = 30000};
	if (!w->next_page) {
		w->round++;
		w->lists++;
		metric_add(&lists_total, 1, w->o.plural);
	}
	w->state = WATCH_LISTING;
	w->call = kube_http(w->kube, &r, PAGE_BYTES_MAX, NULL, on_page, w);
}

/* ---- watch */

static void on_error_event(struct kube_watch *w, json_t *object)
{
	json_int_t code = json_integer_value(json_object_get(object, "code"));
	const char *message = json_string_value(json_object_get(object, "message"));
	(void)snprintf(w->error, sizeof(w->error), "%s", message ? message : "error event");
	w->anew = true;
	w->erred = code == 410 ? 0 : code > 0 && code < 1000 ? (int)code : 500;
}

static bool on_event(struct kube_watch *w, struct str line)
{
	json_t *event = json_loadb(line.ptr, line.len, 0, NULL), *object = json_object_get(event, "object");
	struct str type = str_of(json_string_value(json_object_get(event, "type")));
	bool understood = object != NULL;
	if (!understood) {
		json_decref(event);
		return false;
	}
	if (str_eqc(type, "ERROR")) {
		on_error_event(w, object);
	} else {
		heard(w);
		set_version(w, json_object_get(object, "metadata"));
		if (str_eqc(type, "DELETED")) {
			char *key cleanup(free_p) = key_of(object);
			drop(w, str_of(key));
		} else if (!str_eqc(type, "BOOKMARK")) {
			put(w, object);
		}
		if (!str_eqc(type, "BOOKMARK"))
			settle(w);
	}
	json_decref(event);
	return true;
}

static bool on_piece(void *ctx, struct str piece)
{
	struct kube_watch *w = ctx;
	size_t end;
	while (str_find(piece, '\n', &end)) {
		strbuf_add(&w->line, str_sub(piece, 0, end));
		bool ok = !str_trim(strbuf_str(&w->line)).len || on_event(w, strbuf_str(&w->line));
		strbuf_clear(&w->line);
		if (!ok)
			return !(w->anew = true);
		piece = str_from(piece, end + 1);
	}
	strbuf_add(&w->line, piece);
	w->anew = w->anew || w->line.len > EVENT_BYTES_MAX;
	return w->line.len <= EVENT_BYTES_MAX;
}

static void on_start(void *ctx)
{
	struct kube_watch *w = ctx;
	w->state = WATCH_WATCHING;
	answered(w);
}

/* A silent watch is a healthy one, to its end; only one that lasted shows that the server serves. */
static void note_end(struct kube_watch *w)
{
	uint64_t now = clock_mono_ms();
	if (w->state != WATCH_WATCHING)
		return;
	w->heard_ms = now;
	if (now - w->began_ms < BRIEF_MS)
		w->brief++;
	else
		w->brief = w->failures = 0;
}

static void on_watch_end(void *ctx, int status, struct str body, struct str type)
{
	struct kube_watch *w = ctx;
	bool anew = w->anew || is_hopeless(status);
	int erred = w->erred;
	(void)type;
	w->call = NULL;
	w->anew = false;
	w->erred = 0;
	strbuf_done(&w->line);
	note_end(w);
	if (anew)
		relist(w);
	if (erred) {
		failed_with(w, erred);
	} else if (status != 200 && status != 410) {
		failed(w, status, body);
	} else if (w->brief) {
		/* A server that ends every watch at once is not asked in a circle. */
		wait_for(w, WATCH_WAITING, random_backoff(w->brief, BACKOFF_MIN_MS, BACKOFF_MAX_MS, 0.3));
	} else {
		go_on(w);
	}
}

static void watch(struct kube_watch *w)
{
	char *path cleanup(free_p) = xasprintf(
		"%s?watch=true&allowWatchBookmarks=true&timeoutSeconds=%llu&resourceVersion=%s%s", w->path,
		(unsigned long long)random_jitter(WATCH_SECONDS, 0.3), w->version, w->selector);
	const struct kube_request r = {.path = path, .timeout_ms = SILENCE_MS};
	static const struct kube_stream stream = {on_start, on_piece};
	w->watches++;
	w->began_ms = clock_mono_ms();
	w->state = WATCH_ASKING;
	w->call = kube_http(w->kube, &r, EVENT_BYTES_MAX, &stream, on_watch_end, w);
}

static void go_on(struct kube_watch *w)
{
	if (w->version)
		watch(w);
	else
		list(w);
}

static void on_retry(void *ctx)
{
	go_on(ctx);
}

/* ---- life */

struct kube_watch *kube_watch_new(struct kube *k, const struct kube_watch_options *o)
{
	struct kube_watch *w = xzalloc(sizeof(*w));
	bool core = str_empty(o->group);
	w->kube = k;
	w->o = *o;
	w->api_version = core ? xstrdup(o->version) : xasprintf("%s/%s", o->group, o->version);
	w->path = xasprintf("%s/%s%s%s/%s", core ? "/api" : "/apis", w->api_version, o->namespace ? "/namespaces/" : "",
		o->namespace ? o->namespace : "", o->plural);
	w->selector = o->selector ? xasprintf("&%s", o->selector) : xstrdup("");
	w->seen = map_new();
	w->retry = timer_new(kube_loop(k), on_retry, w);
	w->heard_ms = clock_mono_ms();
	w->next = *kube_watches(k);
	*kube_watches(k) = w;
	go_on(w);
	return w;
}

void kube_watch_free(struct kube_watch *w)
{
	if (!w)
		return;
	struct kube_watch **at = kube_watches(w->kube);
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (w->call)
		http_cancel(w->call);
	timer_free(w->retry);
	map_free(w->seen);
	strbuf_done(&w->line);
	free(w->path);
	free(w->api_version);
	free(w->selector);
	free(w->version);
	free(w->next_page);
	free(w);
}

bool kube_watch_synced(const struct kube_watch *w)
{
	return w->synced;
}

uint64_t kube_watch_age_ms(const struct kube_watch *w)
{
	/* A silent watch is healthy: the server has nothing to say. */
	return w->state == WATCH_WATCHING ? 0 : clock_mono_ms() - w->heard_ms;
}

void kube_watch_debug(const struct kube_watch *w, struct strbuf *json)
{
	static const char *const states[WATCH_STATE_COUNT] = {"listing", "asking", "watching", "waiting", "absent"};
	strbuf_adds(json, "{\"resource\":");
	strbuf_add_json(json, str_of(w->path));
	strbuf_addf(json, ",\"state\":\"%s\",\"synced\":%s,\"objects\":%zu,\"resourceVersion\":", states[w->state],
		w->synced ? "true" : "false", map_len(w->seen));
	strbuf_add_json(json, str_of(w->version ? w->version : ""));
	strbuf_addf(json,
		",\"lists\":%llu,\"watches\":%llu,\"events\":%llu,\"failures\":%llu,\"age_ms\":%llu,\"error\":",
		(unsigned long long)w->lists, (unsigned long long)w->watches, (unsigned long long)w->events,
		(unsigned long long)w->failed, (unsigned long long)kube_watch_age_ms(w));
	strbuf_add_json(json, str_of(w->error));
	strbuf_addc(json, '}');
}
