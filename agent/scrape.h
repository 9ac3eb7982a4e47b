/*
 * What a scrape of the agent asks of the application: where its metrics are, by annotations of the pod, and its answer in the format that
 * all parts of the agent's own answer have. Pure.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/base/vec.h"

struct scrape_targets {
	VEC(char *) urls;
};

/*
 * annotations: JSON map. prometheus.io/scrape, /port, /path and /scheme name one place; prometheus.istio.io/scrape-targets several,
 * "8080:/metrics,9100:/more". None when the application has no metrics, does not want them merged, or names own_port (that would ask itself).
 */
bool scrape_targets_parse(
	const char *annotations, unsigned own_port, struct scrape_targets *out, struct err *e) MUST_CHECK;
void scrape_targets_done(struct scrape_targets *t);

/* OpenMetrics text as Prometheus' text format 0.0.4. What that has no place for is left out: units, exemplars, times of creation. False: a line
 * that is no sample, of which nothing is known; *out then holds what was before it. */
bool scrape_from_openmetrics(struct str in, struct strbuf *out);
