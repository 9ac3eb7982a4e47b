/*
 * DOC: For each topic the sum over all that is published (common/mesh/spread.h) and a count of changes; for each value the count at which it
 * changed last. When a pilot's sum of a topic equals ours, the pilot has everything up to the present count, and values that changed
 * before are as its report says: listed with their numbers, or else held by all of its proxies. What changed after that, none of them has.
 */
#include "galley/status/distribution.h"

#include <stdio.h>
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/base/map.h"
#include "common/mesh/kinds.h"
#include "common/mesh/spread.h"
#include "common/pb/pb.h"

#define TOPICS 64u
#define PILOTS_MAX 1000u

struct value {
	uint64_t hash;
	uint64_t changed; /* the topic's count */
};

struct pilot_report {
	struct arena *arena;
	const Fl__Distribution *report;
	struct map *pending; /* "topic/key" -> Fl__Distribution__Pending */
	uint64_t level[TOPICS]; /* the count up to which it has everything; 0: nothing is known */
	uint64_t heard_ms;
};

struct distribution {
	struct map *values; /* "topic/key" -> struct value */
	struct map *pilots; /* instance -> struct pilot_report */
	uint64_t sums[TOPICS], counts[TOPICS];
	uint64_t version;
};

static struct str id_of(char out[512], uint32_t topic, struct str key)
{
	int n = snprintf(out, 512, "%u/" STR_FMT, topic, STR_ARG(key));
	return str_n(out, min_size((size_t)n, 511));
}

struct distribution *distribution_new(void)
{
	struct distribution *d = xzalloc(sizeof(*d));
	d->values = map_new();
	d->pilots = map_new();
	return d;
}

static void pilot_free(struct pilot_report *p)
{
	if (!p)
		return;
	map_free(p->pending);
	arena_free(p->arena);
	free(p);
}

void distribution_free(struct distribution *d)
{
	struct str key;
	void *value;
	if (!d)
		return;
	for (size_t i = 0; map_next(d->values, &i, &key, &value);)
		free(value);
	for (size_t i = 0; map_next(d->pilots, &i, &key, &value);)
		pilot_free(value);
	map_free(d->values);
	map_free(d->pilots);
	free(d);
}

uint64_t distribution_version(const struct distribution *d)
{
	return d->version;
}

/* ---- what is published */

/* Whom the same sums show to have everything. */
static void compare(struct distribution *d, struct pilot_report *p)
{
	for (size_t i = 0; i < p->report->n_content; i++) {
		const Fl__Distribution__Content *c = p->report->content[i];
		if (c->topic < TOPICS && c->sum == d->sums[c->topic])
			p->level[c->topic] = d->counts[c->topic] + 1;
	}
}

static void compare_all(struct distribution *d)
{
	struct str key;
	void *p;
	for (size_t i = 0; map_next(d->pilots, &i, &key, &p);)
		compare(d, p);
	d->version++;
}

void distribution_published(struct distribution *d, const struct bus_change *changes, size_t n)
{
	char text[512];
	for (size_t i = 0; i < n; i++) {
		uint32_t topic = changes[i].topic;
		if (topic >= TOPICS)
			continue;
		struct str id = id_of(text, topic, changes[i].key);
		struct value *v = map_get(d->values, id);
		d->counts[topic]++;
		d->sums[topic] -= v ? spread_mix(changes[i].key, v->hash) : 0;
		if (!changes[i].value.ptr) {
			free(map_del(d->values, id));
			continue;
		}
		if (!v) {
			v = xzalloc(sizeof(*v));
			(void)map_put(d->values, id, v);
		}
		*v = (struct value){changes[i].hash, d->counts[topic]};
		d->sums[topic] += spread_mix(changes[i].key, v->hash);
	}
	compare_all(d);
}

/* ---- what pilots say */

static void take_pending(struct pilot_report *p)
{
	char text[512];
	map_clear(p->pending);
	for (size_t i = 0; i < p->report->n_pending; i++) {
		Fl__Distribution__Pending *x = p->report->pending[i];
		(void)map_put(p->pending, id_of(text, x->topic, str_of(x->key)), x);
	}
}

bool distribution_reported(
	struct distribution *d, const char *instance, struct str value, uint64_t now_ms, struct err *e)
{
	struct str name = str_of(instance);
	if (!value.ptr) {
		pilot_free(map_del(d->pilots, name));
		d->version++;
		return true;
	}
	struct arena *a = arena_new();
	const Fl__Distribution *r = PB_UNPACK(a, Fl__Distribution, fl__distribution, value.ptr, value.len, e);
	struct pilot_report *p = map_get(d->pilots, name);
	if (!r || (!p && map_len(d->pilots) >= PILOTS_MAX)) {
		arena_free(a);
		return r ? err_set(e, ERR_LIMIT, "more than %u pilots", PILOTS_MAX)
			 : err_in(e, "report of %s", instance);
	}
	if (!p) {
		p = xzalloc(sizeof(*p));
		p->pending = map_new();
		(void)map_put(d->pilots, name, p);
	}
	arena_free(p->arena);
	p->arena = a;
	p->report = r;
	p->heard_ms = now_ms;
	take_pending(p);
	compare(d, p);
	d->version++;
	return true;
}

bool distribution_expire(struct distribution *d, uint64_t now_ms)
{
	struct str key;
	void *value;
	bool any = false;
	for (size_t i = 0; map_next(d->pilots, &i, &key, &value);) {
		struct pilot_report *p = value;
		if (now_ms - p->heard_ms < DISTRIBUTION_EXPIRY_MS)
			continue;
		(void)map_del(d->pilots, key);
		pilot_free(p);
		any = true;
	}
	d->version += any;
	return any;
}

/* ---- answers */

static void add_pilot(
	const struct pilot_report *p, uint32_t topic, struct str id, const struct value *v, struct share *s)
{
	const Fl__Distribution *r = p->report;
	const Fl__Distribution__Pending *x = map_get(p->pending, id);
	s->pilots++;
	s->proxies += r->proxies;
	s->connecting += r->connecting;
	if (*r->refusal)
		s->refusal = r->refusal;
	/* Level and count are off by one, so that an empty topic can be had. */
	if (!v || p->level[topic] <= v->changed)
		return;
	s->accepted += x ? x->accepted : r->proxies - (r->behind < r->proxies ? r->behind : r->proxies);
	s->rejected += x ? x->rejected : 0;
	if (x && *x->error)
		s->error = x->error;
}

struct share distribution_of(const struct distribution *d, uint32_t topic, struct str key)
{
	struct share s = {.error = "", .refusal = ""};
	char text[512];
	struct str id = id_of(text, topic, key), name;
	const struct value *v = map_get(d->values, id);
	void *p;
	if (topic >= TOPICS)
		return s;
	for (size_t i = 0; map_next(d->pilots, &i, &name, &p);)
		add_pilot(p, topic, id, v, &s);
	return s;
}

void share_meet(struct share *into, const struct share *other)
{
	into->accepted = other->accepted < into->accepted ? other->accepted : into->accepted;
	into->rejected = other->rejected > into->rejected ? other->rejected : into->rejected;
	if (*other->error)
		into->error = other->error;
}

void distribution_debug(const struct distribution *d, uint64_t now_ms, struct strbuf *json)
{
	struct str name;
	void *value;
	bool first = true;
	strbuf_adds(json, "{\"pilots\":[");
	for (size_t i = 0; map_next(d->pilots, &i, &name, &value); first = false) {
		const struct pilot_report *p = value;
		strbuf_adds(json, first ? "{\"instance\":" : ",{\"instance\":");
		strbuf_add_json(json, name);
		strbuf_addf(json,
			",\"proxies\":%u,\"connecting\":%u,\"behind\":%u,\"pending\":%zu,\"heard_ms_ago\":%llu,"
			"\"current\":{",
			p->report->proxies, p->report->connecting, p->report->behind, p->report->n_pending,
			(unsigned long long)(now_ms - p->heard_ms));
		for (size_t k = 0, n = 0; k < p->report->n_content; k++) {
			uint32_t t = p->report->content[k]->topic;
			const struct topic *topic = topic_get(t);
			if (topic && t < TOPICS)
				strbuf_addf(json, "%s\"%s\":%s", n++ ? "," : "", topic->name,
					p->level[t] == d->counts[t] + 1 ? "true" : "false");
		}
		strbuf_adds(json, "}}");
	}
	strbuf_adds(json, "]}");
}
