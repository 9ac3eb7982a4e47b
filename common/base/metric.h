/*
 * Prometheus metrics. A metric is declared beside what counts it and registers itself; /metrics, docs/METRICS.md and
 * the debug page are made from the registry. Values are atomic; creating a new label combination takes a lock.
 * A metric has a bounded number of label combinations (limits.h); beyond it they go to one series labelled "overflow".
 *
 *     METRIC(xds_pushes, COUNTER, "pilot_xds_pushes", "xDS responses sent", "type");
 *     metric_add(&xds_pushes, 1, "cds");          -- as many label values as label names
 */
#pragma once

#include "common/base/str.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_LABELS_MAX 6

struct metric_series;

struct metric {
	enum metric_type type;
	const char *name;
	const char *help;
	const char *labels[METRIC_LABELS_MAX + 1]; /* NULL-terminated */
	const double *buckets; /* histogram upper bounds, ascending, 0-terminated; NULL: default seconds */
	struct metric_series *series;
	struct metric *next;
};

#define METRIC(var, kind, name_, help_, ...) \
	static struct metric var = {.type = METRIC_##kind, .name = (name_), .help = (help_), .labels = {__VA_ARGS__}}; \
	__attribute__((constructor)) static void metric_register_##var(void) \
	{ \
		metric_register(&var); \
	} \
	struct metric

void metric_register(struct metric *m);
/* Label values: const char * each, one per label name; the count is checked by the declared names. */
#define metric_add(m, value, ...) metric_add_(m, (double)(value), (const char *[]){NULL, ##__VA_ARGS__, NULL} + 1)
#define metric_set(m, value, ...) metric_set_(m, (double)(value), (const char *[]){NULL, ##__VA_ARGS__, NULL} + 1)
#define metric_observe(m, value, ...) \
	metric_observe_(m, (double)(value), (const char *[]){NULL, ##__VA_ARGS__, NULL} + 1)
#define metric_get(m, ...) metric_get_(m, (const char *[]){NULL, ##__VA_ARGS__, NULL} + 1)
void metric_add_(struct metric *m, double value, const char *const *label_values);
void metric_set_(struct metric *m, double value, const char *const *label_values);
void metric_observe_(struct metric *m, double value, const char *const *label_values);
double metric_get_(struct metric *m, const char *const *label_values); /* 0 when never set; histogram: count */
struct metric *metric_find(const char *name);
void metric_remove_series_(struct metric *m, const char *const *label_values);

/* Runs before each scrape, on the admin thread: for gauges that are read rather than kept. */
void metric_on_scrape(void (*fn)(void *ctx), void *ctx);
/* Prometheus text format 0.0.4, metrics and series in a stable order. */
void metric_write(struct strbuf *out);
/* The same as one JSON list of families, as prom2json writes them: name, help, type, metrics with labels; numbers are strings. */
void metric_write_json(struct strbuf *out);
