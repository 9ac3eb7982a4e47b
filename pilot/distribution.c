/*
 * DOC: How many proxies have which object, for galley (row N01, N08). Workers say how far their proxies are, as versions of the model
 * (xds/level.c); each object knows the version that brought it. So what a report costs depends on what is under way and not on the size
 * of the mesh: what every proxy has is not listed. A report is made when something moved, at most every REPORT_MS, and now and then as a
 * sign of life. Which objects this pilot has galley sees by one sum per topic.
 */
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "common/mesh/spread.h"
#include "common/pb/json.h"
#include "common/pb/pb.h"
#include "pilot/pilot.h"

#define REPORT_MS 100u
#define LIFE_MS 5000u
#define PENDING_MAX 1000u
#define TEXT_MAX 512u
#define TOPICS 64u

METRIC(reports, COUNTER, "pilot_distribution_reports_total", "reports to galley on how far proxies are");

struct distribution {
	struct pilot *pilot;
	struct timer *timer;
	struct worker_levels **of; /* the last answer of each worker, NULL: none yet */
	size_t n_of, awaited;
	bool again; /* something moved while answers were awaited */
	uint64_t sums[TOPICS];
	uint64_t newest; /* version that brought the newest tracked object */
	uint64_t serial, reported_ms;
	uint64_t hash; /* of the last report, without its serial */
	struct arena *arena; /* of the last report */
	Fl__Distribution *report;
};

struct pending {
	uint32_t topic;
	struct str key;
	uint64_t since;
};

typedef VEC(struct pending) pending_list;

/* Objects that people write, and services, which ServiceEntries become. The rest (endpoints, trust, secrets) is nobody's to wait for. */
static bool is_tracked(uint32_t topic)
{
	const struct topic *t = topic_get(topic);
	return t && topic < TOPICS && streq(t->publisher, "galley") &&
	       (t->message == &fl__object__descriptor || topic == TOPIC_SERVICE);
}

/* ---- what proxies have */

static uint32_t proxies_at_least(const struct distribution *d, uint64_t version)
{
	uint32_t n = 0;
	for (size_t w = 0; w < d->n_of; w++)
		for (size_t i = 0; d->of[w] && i < d->of[w]->n_levels && d->of[w]->levels[i].version >= version; i++)
			n += d->of[w]->levels[i].proxies;
	return n;
}

static uint64_t lowest(const struct distribution *d)
{
	uint64_t low = UINT64_MAX;
	for (size_t w = 0; w < d->n_of; w++)
		if (d->of[w] && d->of[w]->n_levels)
			low = min_size(low, d->of[w]->levels[d->of[w]->n_levels - 1].version);
	return low;
}

static const struct worker_rejection *rejection(const struct worker_levels *l, uint32_t topic, struct str key)
{
	for (size_t i = 0; l && i < l->n_rejections; i++)
		if (l->rejections[i].topic == topic && str_eq(l->rejections[i].key, key))
			return &l->rejections[i];
	return NULL;
}

static bool is_rejected(const struct distribution *d, uint32_t topic, struct str key)
{
	for (size_t w = 0; w < d->n_of; w++)
		if (rejection(d->of[w], topic, key))
			return true;
	return false;
}

static void add_pending(const struct distribution *d, const struct pending *x)
{
	struct arena *a = d->arena;
	Fl__Distribution__Pending *p = PB_NEW(a, Fl__Distribution__Pending, fl__distribution__pending);
	uint32_t has = proxies_at_least(d, x->since);
	p->topic = x->topic;
	p->key = arena_cstr(a, x->key);
	for (size_t w = 0; w < d->n_of; w++) {
		const struct worker_rejection *r = rejection(d->of[w], x->topic, x->key);
		if (!r)
			continue;
		p->rejected += r->proxies;
		p->error = arena_cstr(a, str_sub(r->text, 0, TEXT_MAX));
	}
	p->accepted = has > p->rejected ? has - p->rejected : 0;
	pb_add(a, d->report, pending, p);
}

static int newest_first(const void *x, const void *y)
{
	const struct pending *a = x, *b = y;
	if (a->since != b->since)
		return a->since > b->since ? -1 : 1;
	return a->topic != b->topic ? (a->topic < b->topic ? -1 : 1) : str_cmp(a->key, b->key);
}

/* ---- the report */

static void find_pending(const struct distribution *d, pending_list *out)
{
	uint64_t low = lowest(d);
	struct str id, number, key;
	void *value;
	bool rejections = false;
	for (size_t w = 0; w < d->n_of; w++)
		rejections |= d->of[w] && d->of[w]->n_rejections;
	if (low >= d->newest && !rejections)
		return;
	for (size_t i = 0; map_next(d->pilot->objects, &i, &id, &value);) {
		const struct pilot_object *o = value;
		if ((o->since <= low && !rejections) || !is_tracked(o->topic) || !str_cut(id, '/', &number, &key))
			continue;
		if (o->since > low || (rejections && is_rejected(d, o->topic, key)))
			vec_push(out, ((struct pending){o->topic, key, o->since}));
	}
	if (out->len > 1)
		qsort(out->items, out->len, sizeof(*out->items), newest_first);
}

static void build(struct distribution *d)
{
	pending_list pending = {0};
	arena_free(d->arena);
	d->arena = arena_new();
	Fl__Distribution *r = d->report = PB_NEW(d->arena, Fl__Distribution, fl__distribution);
	r->proxies = proxies_at_least(d, 1);
	for (size_t w = 0; w < d->n_of; w++) {
		if (!d->of[w])
			continue;
		r->connecting += d->of[w]->connecting;
		if (d->of[w]->refusal.len)
			r->refusal = arena_cstr(d->arena, str_sub(d->of[w]->refusal, 0, TEXT_MAX));
	}
	find_pending(d, &pending);
	for (size_t i = 0; i < pending.len && i < PENDING_MAX; i++)
		add_pending(d, &pending.items[i]);
	if (pending.len > PENDING_MAX)
		r->behind = r->proxies - proxies_at_least(d, pending.items[PENDING_MAX].since);
	for (uint32_t t = 0; t < TOPICS; t++) {
		if (!is_tracked(t))
			continue;
		Fl__Distribution__Content *c = PB_NEW(d->arena, Fl__Distribution__Content, fl__distribution__content);
		c->topic = t;
		c->sum = d->sums[t];
		pb_add(d->arena, r, content, c);
	}
	vec_done(&pending);
}

/* Also when nothing is new: once in LIFE_MS. */
static void report(struct distribution *d)
{
	uint64_t now = clock_mono_ms();
	build(d);
	uint64_t hash = pb_hash(d->report);
	if (!d->pilot->galley || (hash == d->hash && now - d->reported_ms < LIFE_MS))
		return;
	d->hash = hash;
	d->reported_ms = now;
	d->report->serial = ++d->serial;
	const struct bus_change c = {
		.topic = TOPIC_DISTRIBUTION, .key = STR("proxies"), .value = pb_pack(d->arena, d->report)};
	bus_report_all(d->pilot->galley, &c, 1);
	metric_add(&reports, 1);
}

/* ---- events */

static void ask(void *ctx)
{
	struct distribution *d = ctx;
	d->again = false;
	d->awaited = d->pilot->n_workers;
	for (size_t i = 0; i < d->pilot->n_workers; i++)
		worker_ask_levels(d->pilot->workers[i]);
}

static void wake(struct distribution *d)
{
	if (d->awaited)
		d->again = true;
	else if (!timer_active(d->timer))
		timer_start(d->timer, REPORT_MS, 0);
}

void distribution_moved(void *pilot)
{
	const struct pilot *p = pilot;
	if (p->distribution)
		wake(p->distribution);
}

static void levels_free(struct worker_levels *l)
{
	if (l)
		arena_free(l->arena);
}

void distribution_levels(void *levels)
{
	struct worker_levels *l = levels;
	struct distribution *d = ((const struct pilot *)l->pilot)->distribution;
	if (!d) {
		levels_free(l);
		return;
	}
	while (d->n_of <= l->index) {
		d->of = xrealloc(d->of, (d->n_of + 1) * sizeof(struct worker_levels *));
		d->of[d->n_of++] = NULL;
	}
	levels_free(d->of[l->index]);
	d->of[l->index] = l;
	if (d->awaited && --d->awaited)
		return;
	report(d);
	if (d->again)
		wake(d);
}

void distribution_note(struct distribution *d, uint32_t topic, struct str key, const struct pilot_object *before,
	const struct pilot_object *after)
{
	if (!is_tracked(topic))
		return;
	d->sums[topic] -= before ? spread_mix(key, before->hash) : 0;
	d->sums[topic] += after ? spread_mix(key, after->hash) : 0;
	if (after && after->since > d->newest)
		d->newest = after->since;
	wake(d);
}

void distribution_tick(struct distribution *d)
{
	if (clock_mono_ms() - d->reported_ms >= LIFE_MS)
		wake(d);
}

void distribution_debug(const struct distribution *d, struct strbuf *json)
{
	static const struct pb_encode_options plain = {0};
	if (d->report)
		pb_to_json(&d->report->base, &plain, json);
	else
		strbuf_adds(json, "null");
}

/* ---- life */

struct distribution *distribution_new(struct pilot *p)
{
	struct distribution *d = xzalloc(sizeof(*d));
	d->pilot = p;
	d->timer = timer_new(p->loop, ask, d);
	return d;
}

void distribution_free(struct distribution *d)
{
	if (!d)
		return;
	d->pilot->distribution = NULL;
	timer_free(d->timer);
	for (size_t i = 0; i < d->n_of; i++)
		levels_free(d->of[i]);
	free(d->of);
	arena_free(d->arena);
	free(d);
}
