#include "galley/access.h"

#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"
#include "galley/access_review.h"

/*
 * DOC: Accounts are asked about in turn, a bounded number at once. New ones come first; the others are due some time after their answer (--access-age) and are
 * looked at round by round, so many a second, so that a mesh with very many of them asks more seldom instead of asking more.
 */

#define RETRY_MS 2000u
#define REQUEST_MS 5000u
#define OPEN_MAX 32u
#define AGAIN_PER_SECOND 25u
#define FIRST_MS 10000u /* a galley that starts waits so long for the first answers */

METRIC(reviews, COUNTER, "galley_access_reviews_total",
	"service accounts that the API server was asked about (may they list Secrets), by its answer", "result");
METRIC(refused_gauge, GAUGE, "galley_access_refused", "service accounts that may not have the keys of Secrets");

LOG_SCOPE(access_log, "access", "who may list Secrets, by the API server's word");

struct account {
	struct access *owner;
	char *key; /* "namespace/name" */
	size_t place; /* in the list */
	bool in_hand; /* queued, or asked about and not answered */
	bool dead; /* in the list of those that nobody wants to know of, but are in hand */
	bool said; /* there is an answer, or the reason why there is none */
	bool allowed, dirty, wanted;
	char *why; /* of a refusal */
	uint64_t due_ms;
};

typedef VEC(struct account *) accounts;

struct access {
	struct kube *api;
	uint64_t keep_ms;
	void (*changed)(void *ctx);
	void *ctx;
	struct timer *second;
	struct map *accounts; /* by key */
	accounts list; /* the same, for the rounds */
	accounts dead;
	size_t round; /* where the last one ended */
	accounts queue;
	size_t head; /* of the queue */
	size_t open, unsaid, refused, left_out;
	VEC(char *) gone; /* keys that were said of and are no longer wanted */
	bool dirty;
	uint64_t first_until_ms; /* 0: nothing was wanted yet */
	char *error; /* of the last question, NULL: it was answered */
	struct arena *batch;
	VEC(struct bus_change) changes;
};

static void account_free(struct account *c)
{
	free(c->key);
	free(c->why);
	free(c);
}

static void list_add(accounts *l, struct account *c)
{
	c->place = l->len;
	vec_push(l, c);
}

static void list_remove(accounts *l, struct account *c)
{
	struct account *last = l->items[--l->len];
	l->items[c->place] = last;
	last->place = c->place;
}

static void bury(struct account *c)
{
	list_remove(&c->owner->dead, c);
	account_free(c);
}

/* ---- asking */

static void ask_next(struct access *x);

/* Answers that come together are published together; the next second at the latest. */
static void tell(struct access *x)
{
	if (!x->open || !x->unsaid)
		x->changed(x->ctx);
}

static void set_answer(struct account *c, bool allowed, const char *why)
{
	struct access *x = c->owner;
	if (!c->said)
		x->unsaid--;
	else if (c->allowed == allowed && streq(c->why, why))
		return;
	x->refused += !allowed;
	x->refused -= c->said && !c->allowed;
	free(c->why);
	c->why = xstrdup(why);
	c->allowed = allowed;
	c->said = c->dirty = x->dirty = true;
	metric_set(&refused_gauge, (double)x->refused);
}

static void no_answer(struct account *c, int status, struct str why)
{
	struct access *x = c->owner;
	cleanup(free_p) char *text = xasprintf("the API server did not answer: " STR_FMT, STR_ARG(why));
	metric_add(&reviews, 1, "no_answer");
	c->due_ms = clock_mono_ms() + RETRY_MS;
	if (!x->error)
		log_warn(&access_log, "the API server does not say who may list Secrets; what it said last holds",
			KV("status", status), KV("error", why));
	free(x->error);
	x->error = xstrndup(why.ptr, why.len);
	if (!c->said && !access_waits(x))
		set_answer(c, false, text);
}

static void on_answer(void *ctx, int status, struct str body)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct account *c = ctx;
	struct access *x = c->owner;
	const char *why;
	bool allowed;
	x->open--;
	c->in_hand = false;
	if (c->dead) {
		bury(c);
		ask_next(x);
		return;
	}
	if (status != 200 && status != 201) {
		no_answer(c, status, body);
	} else if (!access_review_answer(a, body, &allowed, &why)) {
		no_answer(c, status, STR("its answer is no SubjectAccessReview"));
	} else {
		metric_add(&reviews, 1, allowed ? "allowed" : "refused");
		c->due_ms = clock_mono_ms() + x->keep_ms;
		free(take(x->error));
		set_answer(c, allowed, why);
	}
	ask_next(x);
	tell(x);
}

static void ask(struct access *x, struct account *c)
{
	struct str ns, name;
	(void)str_cut(str_of(c->key), '/', &ns, &name);
	char *body cleanup(free_p) = access_review_question(ns, name);
	const struct kube_request q = {
		.method = "POST", .path = ACCESS_REVIEW_PATH, .body = str_of(body), .timeout_ms = REQUEST_MS};
	x->open++;
	kube_send(x->api, &q, on_answer, c);
}

static void ask_next(struct access *x)
{
	while (x->open < OPEN_MAX && x->head < x->queue.len) {
		struct account *c = x->queue.items[x->head++];
		if (c->dead)
			bury(c);
		else
			ask(x, c);
	}
	if (x->head == x->queue.len)
		x->head = x->queue.len = 0;
}

static void enqueue(struct access *x, struct account *c)
{
	c->in_hand = true;
	vec_push(&x->queue, c);
}

static void on_second(void *ctx)
{
	struct access *x = ctx;
	const uint64_t now = clock_mono_ms();
	for (size_t i = 0, asked = 0; i < x->list.len && asked < AGAIN_PER_SECOND; i++) {
		struct account *c = x->list.items[x->round++ % x->list.len];
		if (c->in_hand || c->due_ms > now)
			continue;
		enqueue(x, c);
		asked++;
	}
	ask_next(x);
	x->changed(x->ctx);
}

/* ---- who is asked about */

static void add(struct access *x, struct str key)
{
	struct account *c = xzalloc(sizeof(*c));
	c->owner = x;
	c->key = xstrndup(key.ptr, key.len);
	c->wanted = true;
	list_add(&x->list, c);
	(void)map_put(x->accounts, key, c);
	x->unsaid++;
	enqueue(x, c);
}

static void want(void *ctx, struct str key)
{
	struct access *x = ctx;
	struct account *c = map_get(x->accounts, key);
	if (c)
		c->wanted = true;
	else if (x->list.len < LIMIT_ACCESS_ACCOUNTS)
		add(x, key);
	else
		x->left_out++;
}

static void forget(struct access *x, struct account *c)
{
	list_remove(&x->list, c);
	(void)map_del(x->accounts, str_of(c->key));
	if (c->said) {
		vec_push(&x->gone, xstrdup(c->key));
		x->refused -= !c->allowed;
		x->dirty = true;
	} else {
		x->unsaid--;
	}
	c->dead = true;
	if (c->in_hand)
		list_add(&x->dead, c);
	else
		account_free(c);
}

void access_sync(struct access *x, const struct galley *g)
{
	const size_t left_out = x->left_out;
	for (size_t i = 0; i < x->list.len; i++)
		x->list.items[i]->wanted = false;
	x->left_out = 0;
	galley_guarded_accounts(g, want, x);
	for (size_t i = x->list.len; i-- > 0;)
		if (!x->list.items[i]->wanted)
			forget(x, x->list.items[i]);
	if (x->left_out && !left_out)
		log_warn(&access_log, "too many service accounts: some are not asked about, and get no key of a Secret",
			KV("limit", LIMIT_ACCESS_ACCOUNTS), KV("left_out", x->left_out));
	if (!x->first_until_ms)
		x->first_until_ms = clock_mono_ms() + FIRST_MS;
	ask_next(x);
	metric_set(&refused_gauge, (double)x->refused);
}

bool access_waits(const struct access *x)
{
	return x->unsaid && clock_mono_ms() < x->first_until_ms;
}

/* ---- what is published */

static void add_change(struct access *x, const struct account *c)
{
	struct str ns, name;
	Fl__Access *m = PB_NEW(x->batch, Fl__Access, fl__access);
	(void)str_cut(str_of(c->key), '/', &ns, &name);
	m->namespace_ = arena_cstr(x->batch, ns);
	m->service_account = arena_cstr(x->batch, name);
	m->allowed = c->allowed;
	m->reason = arena_strdup(x->batch, c->why);
	vec_push(&x->changes, ((struct bus_change){.topic = TOPIC_ACCESS,
				      .key = arena_str(x->batch, str_of(c->key)),
				      .value = pb_pack(x->batch, m),
				      .origin = STR("SubjectAccessReview")}));
}

/* An account that is gone and here again is deleted first. */
const struct bus_change *access_changes(struct access *x, size_t *n)
{
	arena_free(take(x->batch));
	x->batch = arena_new();
	x->changes.len = 0;
	for (size_t i = 0; i < x->gone.len; i++) {
		struct str key = arena_str(x->batch, str_of(x->gone.items[i]));
		const struct account *again = map_get(x->accounts, key);
		if (!again || !again->said)
			vec_push(&x->changes, ((struct bus_change){.topic = TOPIC_ACCESS, .key = key}));
		free(x->gone.items[i]);
	}
	x->gone.len = 0;
	for (size_t i = 0; x->dirty && i < x->list.len; i++) {
		struct account *c = x->list.items[i];
		if (c->dirty)
			add_change(x, c);
		c->dirty = false;
	}
	x->dirty = false;
	*n = x->changes.len;
	return x->changes.items;
}

/* ---- life */

struct access *access_new(struct loop *l, struct kube *api, uint64_t keep_ms, void (*changed)(void *ctx), void *ctx)
{
	struct access *x = xzalloc(sizeof(*x));
	x->api = api;
	x->keep_ms = keep_ms;
	x->changed = changed;
	x->ctx = ctx;
	x->accounts = map_new();
	x->second = timer_new(l, on_second, x);
	timer_start(x->second, 1000, 1000);
	return x;
}

void access_free(struct access *x)
{
	if (!x)
		return;
	timer_free(x->second);
	while (x->list.len)
		forget(x, x->list.items[x->list.len - 1]);
	while (x->dead.len)
		bury(x->dead.items[x->dead.len - 1]);
	for (size_t i = 0; i < x->gone.len; i++)
		free(x->gone.items[i]);
	map_free(x->accounts);
	vec_done(&x->list);
	vec_done(&x->dead);
	vec_done(&x->queue);
	vec_done(&x->gone);
	vec_done(&x->changes);
	arena_free(x->batch);
	free(x->error);
	free(x);
}

void access_debug(const struct access *x, struct strbuf *json)
{
	strbuf_addf(json,
		"{\"accounts\":%zu,\"refused\":%zu,\"unanswered\":%zu,\"left_out\":%zu,\"open\":%zu,\"error\":",
		x->list.len, x->refused, x->unsaid, x->left_out, x->open);
	strbuf_add_json(json, str_of(x->error));
	strbuf_adds(json, ",\"answers\":{");
	for (size_t i = 0; i < x->list.len; i++) {
		const struct account *c = x->list.items[i];
		strbuf_adds(json, i ? "," : "");
		strbuf_add_json(json, str_of(c->key));
		strbuf_adds(json, ":");
		strbuf_add_json(json, str_of(!c->said ? "not asked yet" : c->allowed ? "allowed" : c->why));
	}
	strbuf_adds(json, "}}");
}
