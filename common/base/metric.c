/*
 * DOC: The registry of metrics. Metrics are static variables registered by constructors before main; their series
 * are found in a map per metric, keyed by the label values. Counting takes the registry's lock for reading and
 * changes the value atomically; only a new or removed series and a scrape's ordering take it for writing. Removing a
 * series is why readers need the lock at all: without it a counter could be freed under somebody counting.
 */
#include "common/base/metric.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/vec.h"

/* Prometheus' usual bounds for durations, in seconds. */
static const double default_buckets[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 0};

struct series {
	char *labels; /* `{a="x",b="y"}` without braces, escaped */
	_Atomic double value; /* histogram: the sum */
	_Atomic uint64_t count; /* histogram only */
	_Atomic uint64_t buckets[]; /* histogram only: not cumulative */
};

/* What struct metric points to: all of one metric's series. */
struct metric_series {
	struct map *by_labels;
};

struct scrape_hook {
	void (*fn)(void *ctx);
	void *ctx;
};

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct metric *metrics;
static VEC(struct scrape_hook) hooks;

void metric_register(struct metric *m)
{
	struct metric **at = &metrics;

	pthread_rwlock_wrlock(&lock);
	while (*at && strcmp((*at)->name, m->name) < 0)
		at = &(*at)->next;
	m->next = *at;
	*at = m;
	pthread_rwlock_unlock(&lock);
}

struct metric *metric_find(const char *name)
{
	struct metric *m;

	pthread_rwlock_rdlock(&lock);
	for (m = metrics; m && !streq(m->name, name); m = m->next)
		;
	pthread_rwlock_unlock(&lock);
	return m;
}

void metric_on_scrape(void (*fn)(void *ctx), void *ctx)
{
	struct scrape_hook hook = {fn, ctx};

	pthread_rwlock_wrlock(&lock);
	vec_push(&hooks, hook);
	pthread_rwlock_unlock(&lock);
}

static const double *bounds_of(const struct metric *m)
{
	return m->buckets ? m->buckets : default_buckets;
}

static size_t bounds_len(const struct metric *m)
{
	const double *bounds = bounds_of(m);
	size_t n = 0;

	while (m->type == METRIC_HISTOGRAM && bounds[n] != 0)
		n++;
	return n;
}

static size_t label_count(const struct metric *m)
{
	size_t n = 0;

	while (n < METRIC_LABELS_MAX && m->labels[n])
		n++;
	return n;
}

/*
 * One value per label name in `full`. A NULL among the arguments ends the list and stands for the empty string, as
 * does all that follows: a string that a peer left out must not end the process. More values than names is a bug.
 */
static void complete_values(const struct metric *m, const char *const *values, const char *full[METRIC_LABELS_MAX])
{
	size_t n = label_count(m);
	size_t i = 0;

	for (; i < n && values[i]; i++)
		full[i] = values[i];
	assert(i < n || !values[n]);
	for (; i < n; i++)
		full[i] = "";
}

/* The key is every value with its NUL, so that no two combinations share one. */
static void make_key(const struct metric *m, const char *const *values, struct strbuf *key)
{
	for (size_t i = 0; i < label_count(m); i++)
		strbuf_add(key, str_n(values[i], strlen(values[i]) + 1));
}

static void add_label_value(struct strbuf *b, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			strbuf_adds(b, "\\n");
		else if (*value == '"' || *value == '\\')
			strbuf_addf(b, "\\%c", *value);
		else
			strbuf_addc(b, *value);
	}
}

static struct series *series_new(const struct metric *m, const char *const *values)
{
	size_t buckets = bounds_len(m);
	struct series *s = xzalloc(sizeof(*s) + buckets * sizeof(s->buckets[0]));
	struct strbuf labels = {0};

	for (size_t i = 0; i < label_count(m); i++) {
		strbuf_addf(&labels, "%s%s=\"", i > 0 ? "," : "", m->labels[i]);
		add_label_value(&labels, values[i]);
		strbuf_addc(&labels, '"');
	}
	s->labels = strbuf_take(&labels);
	return s;
}

static struct series *lookup(const struct metric *m, struct str key)
{
	return m->series ? map_get(m->series->by_labels, key) : NULL;
}

/* With the write lock held: a series that is there afterwards; beyond the limit, the overflow series. */
static struct series *create(struct metric *m, const char *const *values, struct str key)
{
	static const char *const overflow[METRIC_LABELS_MAX] = {
		"overflow", "overflow", "overflow", "overflow", "overflow", "overflow"};
	struct strbuf overflow_key = {0};
	struct series *s = lookup(m, key);

	if (s)
		return s;
	if (!m->series) {
		m->series = xzalloc(sizeof(*m->series));
		m->series->by_labels = map_new();
	}
	if (map_len(m->series->by_labels) >= LIMIT_METRIC_SERIES) {
		values = overflow;
		make_key(m, overflow, &overflow_key);
		key = strbuf_str(&overflow_key);
		s = lookup(m, key);
	}
	if (!s) {
		s = series_new(m, values);
		map_put(m->series->by_labels, key, s);
	}
	strbuf_done(&overflow_key);
	return s;
}

/* The key without memory of its own, as most are short; false: it is not. */
static bool make_short_key(const struct metric *m, const char *const *values, char *out, size_t size, struct str *key)
{
	size_t len = 0;

	for (size_t i = 0; i < METRIC_LABELS_MAX && m->labels[i]; i++) {
		size_t n = strlen(values[i]) + 1;

		if (len + n > size)
			return false;
		memcpy(out + len, values[i], n);
		len += n;
	}
	*key = str_n(out, len);
	return true;
}

/* The read or the write lock is held afterwards. */
static struct series *lock_series(struct metric *m, const char *const *values)
{
	const char *full[METRIC_LABELS_MAX];
	char text[128];
	struct strbuf long_key = {0};
	struct str key;
	struct series *s;

	complete_values(m, values, full);
	if (!make_short_key(m, full, text, sizeof(text), &key)) {
		make_key(m, full, &long_key);
		key = strbuf_str(&long_key);
	}
	pthread_rwlock_rdlock(&lock);
	s = lookup(m, key);
	if (!s) {
		pthread_rwlock_unlock(&lock);
		pthread_rwlock_wrlock(&lock);
		s = create(m, full, key);
	}
	strbuf_done(&long_key);
	return s;
}

static void add_atomic(_Atomic double *to, double value)
{
	double old = atomic_load_explicit(to, memory_order_relaxed);

	while (!atomic_compare_exchange_weak(to, &old, old + value))
		;
}

void metric_add_(struct metric *m, double value, const char *const *label_values)
{
	struct series *s = lock_series(m, label_values);

	assert(m->type != METRIC_HISTOGRAM && (m->type == METRIC_GAUGE || value >= 0));
	add_atomic(&s->value, value);
	pthread_rwlock_unlock(&lock);
}

void metric_set_(struct metric *m, double value, const char *const *label_values)
{
	struct series *s = lock_series(m, label_values);

	assert(m->type != METRIC_HISTOGRAM);
	atomic_store(&s->value, value);
	pthread_rwlock_unlock(&lock);
}

void metric_observe_(struct metric *m, double value, const char *const *label_values)
{
	const double *bounds = bounds_of(m);
	struct series *s = lock_series(m, label_values);
	size_t i = 0;

	assert(m->type == METRIC_HISTOGRAM);
	while (bounds[i] != 0 && value > bounds[i])
		i++;
	if (bounds[i] != 0)
		atomic_fetch_add(&s->buckets[i], 1);
	atomic_fetch_add(&s->count, 1);
	add_atomic(&s->value, value);
	pthread_rwlock_unlock(&lock);
}

double metric_get_(struct metric *m, const char *const *label_values)
{
	const char *full[METRIC_LABELS_MAX];
	struct strbuf key = {0};
	struct series *s;
	double value = 0;

	complete_values(m, label_values, full);
	make_key(m, full, &key);
	pthread_rwlock_rdlock(&lock);
	s = lookup(m, strbuf_str(&key));
	if (s)
		value = m->type == METRIC_HISTOGRAM ? (double)atomic_load(&s->count) : atomic_load(&s->value);
	pthread_rwlock_unlock(&lock);
	strbuf_done(&key);
	return value;
}

void metric_remove_series_(struct metric *m, const char *const *label_values)
{
	const char *full[METRIC_LABELS_MAX];
	struct strbuf key = {0};
	struct series *s = NULL;

	complete_values(m, label_values, full);
	make_key(m, full, &key);
	pthread_rwlock_wrlock(&lock);
	if (m->series)
		s = map_del(m->series->by_labels, strbuf_str(&key));
	pthread_rwlock_unlock(&lock);
	strbuf_done(&key);
	if (s)
		free(s->labels);
	free(s);
}

static void add_number(struct strbuf *out, double value)
{
	if (isnan(value))
		strbuf_adds(out, "NaN");
	else if (isinf(value))
		strbuf_adds(out, value > 0 ? "+Inf" : "-Inf");
	else if (value == floor(value) && fabs(value) < 1e15)
		strbuf_addf(out, "%.0f", value);
	else
		strbuf_addf(out, "%.15g", value);
}

static void write_sample(struct strbuf *out, const char *name, const char *suffix, const char *labels, double value)
{
	strbuf_addf(out, "%s%s", name, suffix);
	if (*labels)
		strbuf_addf(out, "{%s}", labels);
	strbuf_addc(out, ' ');
	add_number(out, value);
	strbuf_addc(out, '\n');
}

static void write_bucket(
	struct strbuf *out, const struct metric *m, const struct series *s, double bound, uint64_t count)
{
	strbuf_addf(out, "%s_bucket{%s%sle=\"", m->name, s->labels, *s->labels ? "," : "");
	add_number(out, bound);
	strbuf_addf(out, "\"} %llu\n", (unsigned long long)count);
}

static void write_histogram(struct strbuf *out, const struct metric *m, const struct series *s)
{
	uint64_t seen = 0;
	uint64_t count = atomic_load(&s->count);

	for (size_t i = 0; i < bounds_len(m); i++) {
		seen += atomic_load(&s->buckets[i]);
		write_bucket(out, m, s, bounds_of(m)[i], seen);
	}
	/* Somebody may be counting: the total is never shown below the last bucket. */
	count = count < seen ? seen : count;
	write_bucket(out, m, s, INFINITY, count);
	write_sample(out, m->name, "_sum", s->labels, atomic_load(&s->value));
	write_sample(out, m->name, "_count", s->labels, (double)count);
}

static void write_help(struct strbuf *out, const struct metric *m)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	strbuf_addf(out, "# HELP %s ", m->name);
	for (const char *c = m->help ? m->help : ""; *c; c++) {
		if (*c == '\n' || *c == '\\')
			strbuf_addf(out, "\\%c", *c == '\n' ? 'n' : '\\');
		else
			strbuf_addc(out, *c);
	}
	strbuf_addf(out, "\n# TYPE %s %s\n", m->name, types[m->type]);
}

static void write_metric(struct strbuf *out, const struct metric *m)
{
	struct str *keys;

	write_help(out, m);
	if (!m->series) {
		/* A metric without labels is there from the start, so that its absence means something. */
		if (label_count(m) == 0 && m->type != METRIC_HISTOGRAM)
			write_sample(out, m->name, "", "", 0);
		return;
	}
	keys = map_keys_sorted(m->series->by_labels);
	for (size_t i = 0; i < map_len(m->series->by_labels); i++) {
		const struct series *s = map_get(m->series->by_labels, keys[i]);

		if (m->type == METRIC_HISTOGRAM)
			write_histogram(out, m, s);
		else
			write_sample(out, m->name, "", s->labels, atomic_load(&s->value));
	}
	free(keys);
}

static void run_hooks(void)
{
	for (size_t i = 0;; i++) {
		struct scrape_hook hook;
		bool more;

		/* Not under the lock: hooks set gauges. */
		pthread_rwlock_rdlock(&lock);
		more = i < hooks.len;
		if (more)
			hook = hooks.items[i];
		pthread_rwlock_unlock(&lock);
		if (!more)
			return;
		hook.fn(hook.ctx);
	}
}

void metric_write(struct strbuf *out)
{
	run_hooks();
	pthread_rwlock_rdlock(&lock);
	for (const struct metric *m = metrics; m; m = m->next)
		write_metric(out, m);
	pthread_rwlock_unlock(&lock);
}

/* `a="x",b="y"` as members of an object: names are plain, values escaped as Prometheus does it. */
static void write_json_labels(struct strbuf *out, const char *labels)
{
	struct strbuf value = {0};

	strbuf_adds(out, "{\"labels\":{");
	for (const char *c = labels; *c;) {
		size_t name = strcspn(c, "=");

		strbuf_addf(out, "%s\"%.*s\":", c == labels ? "" : ",", (int)name, c);
		strbuf_clear(&value);
		for (c += name + 2; *c != '"'; c++) {
			if (*c == '\\')
				c++;
			strbuf_addc(&value, c[-1] == '\\' && *c == 'n' ? '\n' : *c);
		}
		strbuf_add_json(out, strbuf_str(&value));
		c += c[1] == ',' ? 2 : 1;
	}
	strbuf_addc(out, '}');
	strbuf_done(&value);
}

static void write_json_number(struct strbuf *out, const char *name, double value)
{
	strbuf_addf(out, ",\"%s\":\"", name);
	add_number(out, value);
	strbuf_addc(out, '"');
}

static void write_json_buckets(struct strbuf *out, const struct metric *m, const struct series *s, uint64_t count)
{
	uint64_t seen = 0;

	strbuf_adds(out, ",\"buckets\":{");
	for (size_t i = 0; i < bounds_len(m); i++) {
		seen += atomic_load(&s->buckets[i]);
		strbuf_addc(out, '"');
		add_number(out, bounds_of(m)[i]);
		strbuf_addf(out, "\":\"%llu\",", (unsigned long long)seen);
	}
	strbuf_addf(out, "\"+Inf\":\"%llu\"}", (unsigned long long)(count < seen ? seen : count));
}

static void write_json_series(struct strbuf *out, const struct metric *m, const struct series *s)
{
	uint64_t count = atomic_load(&s->count);

	write_json_labels(out, s->labels);
	if (m->type == METRIC_HISTOGRAM) {
		write_json_buckets(out, m, s, count);
		write_json_number(out, "count", (double)count);
	}
	write_json_number(out, m->type == METRIC_HISTOGRAM ? "sum" : "value", atomic_load(&s->value));
	strbuf_addc(out, '}');
}

static void write_json_family(struct strbuf *out, const struct metric *m)
{
	static const char *const types[] = {"COUNTER", "GAUGE", "HISTOGRAM"};
	size_t n = m->series ? map_len(m->series->by_labels) : 0;
	struct str *keys = n > 0 ? map_keys_sorted(m->series->by_labels) : NULL;

	strbuf_addf(out, "{\"name\":\"%s\",\"help\":", m->name);
	strbuf_add_json(out, str_of(m->help));
	strbuf_addf(out, ",\"type\":\"%s\",\"metrics\":[", types[m->type]);
	for (size_t i = 0; i < n; i++) {
		strbuf_adds(out, i > 0 ? "," : "");
		write_json_series(out, m, map_get(m->series->by_labels, keys[i]));
	}
	if (!m->series && label_count(m) == 0 && m->type != METRIC_HISTOGRAM)
		strbuf_adds(out, "{\"labels\":{},\"value\":\"0\"}");
	strbuf_adds(out, "]}");
	free(keys);
}

void metric_write_json(struct strbuf *out)
{
	run_hooks();
	pthread_rwlock_rdlock(&lock);
	strbuf_addc(out, '[');
	for (const struct metric *m = metrics; m; m = m->next) {
		strbuf_adds(out, m == metrics ? "" : ",\n ");
		write_json_family(out, m);
	}
	strbuf_addc(out, ']');
	pthread_rwlock_unlock(&lock);
}
