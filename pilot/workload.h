/*
 * Workloads outside Kubernetes register themselves: what a stream says of its workload, on the way from a worker to the main thread
 * (registry.h). A stream is one of these when its node has AUTO_REGISTER_GROUP (Istio's metadata of such agents).
 */
#pragma once

#include "common/base/arena.h"
#include "pilot/model/proxy.h"

enum workload_event { WORKLOAD_CONNECTED, WORKLOAD_LEFT, WORKLOAD_HEALTH };

/* Owns its arena; whoever gets it frees it with workload_note_free(). */
struct workload_note {
	void *pilot;
	struct arena *arena;
	enum workload_event event;
	struct str key; /* "namespace/name" of the WorkloadEntry */
	struct str group, address, network, locality, service_account, labels; /* labels: JSON */
	bool probed; /* its agent runs a readiness probe */
	bool healthy;
	struct str why; /* it is not healthy */
};

/* NULL: the proxy is no such workload. */
struct workload_note *workload_note(const struct proxy *p, enum workload_event event);
void workload_note_free(struct workload_note *n);
