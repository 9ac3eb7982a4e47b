/*
 * DOC: The snapshot: one index per topic, most of them shared with the snapshot before. model_apply() decodes what a
 * batch changed, merges it into the indexes it belongs to and collects the touched questions. Topics that translation
 * does not read (status, ones of a newer galley) are passed over.
 */
#include "pilot/model/model.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/kinds.h"
#include "pilot/model/index.h"
#include "pilot/model/singled.h"

LOG_SCOPE(model_log, "model", "the model made of bus batches");
METRIC(undecodable, COUNTER, "pilot_undecodable_values_total", "bus values that could not be read, by topic", "topic");

static void model_destroy(struct ref *r)
{
	struct model *m = container_of(r, struct model, ref);

	for (size_t t = 0; t < MODEL_TOPIC_COUNT; t++)
		index_unref(m->topics[t]);
	singled_unref(m->singled);
	free(m);
}

struct model *model_empty(void)
{
	struct model *m = xzalloc(sizeof(*m));

	ref_init(&m->ref, model_destroy);
	return m;
}

struct model *model_ref(struct model *m)
{
	ref_get(&m->ref);
	return m;
}

void model_unref(struct model *m)
{
	if (m)
		ref_put(&m->ref);
}

/* What cannot be read is left out, so that a snapshot does not depend on what was there before. */
static struct entry *decode_change(const struct model_topic *t, const struct bus_change *c, uint64_t version)
{
	struct err e = {0};
	struct entry *x;

	if (!c->value.ptr)
		return NULL;
	x = entry_new(t, c, &e);
	if (!x) {
		metric_add(&undecodable, 1, t->name);
		log_error(&model_log, "value left out", KV("topic", t->name), KV("key", c->key),
			KV("error", (const char *)e.text));
		return NULL;
	}
	x->source.since = version;
	return x;
}

static struct topic_index *apply_topic(const struct model_topic *t, const struct topic_index *prev,
	const struct bus_change *changes, size_t n, uint64_t version, struct read_keys *touched)
{
	struct edit *edits cleanup(free_p) = xmalloc((n + 1) * sizeof(*edits));
	size_t n_edits = 0;

	for (size_t i = 0; i < n; i++)
		if (changes[i].topic == t->topic) {
			edits[n_edits] = (struct edit){changes[i].key, decode_change(t, &changes[i], version), n_edits};
			n_edits++;
		}
	return index_apply(prev, edits, n_edits, touched);
}

static bool concerns(uint32_t topic, const struct bus_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (changes[i].topic == topic)
			return true;
	return false;
}

static void update_singled(struct model *m, const struct model *prev, const struct bus_change *changes, size_t n,
	struct read_keys *touched)
{
	if (concerns(TOPIC_SERVICE, changes, n) || concerns(TOPIC_DESTINATION_RULE, changes, n) ||
		concerns(TOPIC_VIRTUAL_SERVICE, changes, n))
		m->singled = singled_make(m);
	else
		m->singled = singled_ref(prev->singled);
	singled_touch(prev->singled, m->singled, touched);
}

struct model *model_apply(struct model *prev, const struct bus_change *changes, size_t n, struct read_keys *touched)
{
	struct model *m = model_empty();

	m->version = prev->version + 1;
	for (size_t t = 0; t < MODEL_TOPIC_COUNT; t++) {
		if (concerns(model_topics[t].topic, changes, n)) {
			m->topics[t] = apply_topic(&model_topics[t], prev->topics[t], changes, n, m->version, touched);
		} else if (prev->topics[t]) {
			ref_get(&prev->topics[t]->ref);
			m->topics[t] = prev->topics[t];
		}
	}
	update_singled(m, prev, changes, n, touched);
	read_keys_seal(touched);
	return m;
}

bool model_has(const struct model *m, const struct hidden *h)
{
	const struct entry *e = index_get(model_values(m, h->topic), h->key);

	return e && e->hash == h->hash;
}

uint64_t model_version(const struct model *m)
{
	return m->version;
}

uint64_t model_hash(const struct model *m)
{
	uint64_t h = 0;

	for (size_t t = 0; t < MODEL_TOPIC_COUNT; t++)
		h += (m->topics[t] ? m->topics[t]->content_hash : 0) * (2 * t + 3);
	return h;
}

size_t model_bytes(const struct model *m)
{
	size_t bytes = sizeof(*m);

	for (size_t t = 0; t < MODEL_TOPIC_COUNT; t++)
		bytes += m->topics[t] ? m->topics[t]->bytes : 0;
	return bytes;
}

void model_debug(const struct model *m, struct strbuf *json)
{
	strbuf_addf(json, "{\"version\":%llu,\"hash\":\"%016llx\",\"bytes\":%zu,\"topics\":{",
		(unsigned long long)m->version, (unsigned long long)model_hash(m), model_bytes(m));
	for (size_t t = 0; t < MODEL_TOPIC_COUNT; t++)
		strbuf_addf(json, "%s\"%s\":{\"values\":%zu,\"questions\":%zu}", t ? "," : "", model_topics[t].name,
			m->topics[t] ? m->topics[t]->n : 0, m->topics[t] ? m->topics[t]->n_rows : 0);
	strbuf_adds(json, "}}");
}
