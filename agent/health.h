/*
 * Is the workload ready? For workloads outside Kubernetes, which have no kubelet: the agent runs the readiness probe of their ProxyConfig
 * (Istio's WorkloadGroup has it), and says when the answer changes. Pilot hears it over ADS; only ready workloads get traffic.
 */
#pragma once

#include "agent/probe.h"

/* Thresholds, without time and sockets. Begins all zero. */
struct health_state {
	unsigned successes, failures; /* in a row */
	bool known, healthy;
};
/* True: it is healthy now, or is no more. */
bool health_step(struct health_state *s, const struct readiness *r, bool ok);

struct health;
struct health_options {
	const char *proxy_config; /* JSON */
	const char *pod_ip;
	const char *ready_url; /* of Envoy, asked first; NULL: there is none */
	void (*on_change)(void *ctx, bool healthy, const char *why);
	void *ctx;
};
/* *out NULL: there is nothing to probe. */
bool health_new(struct loop *l, const struct health_options *o, struct health **out, struct err *e) MUST_CHECK;
void health_free(struct health *h);
void health_debug(const struct health *h, struct strbuf *json);
