/*
 * The workloads that register themselves at this pilot. It makes no WorkloadEntry: galley does, which owns the source; pilot says over the bus who
 * is connected, who left, and what their agents' probes say. Main thread; time is an argument.
 */
#pragma once

#include "common/bus/bus.h"
#include "pilot/workload.h"

struct registry;

struct registry_options {
	const char *instance; /* of this pilot: two pilots may know of one workload */
	uint64_t grace_ms; /* a workload that is away for as long is gone */
	void (*send)(void *ctx, const struct bus_change *c); /* upwards; called again now and then with the same */
	void *ctx;
};

struct registry *registry_new(const struct registry_options *o);
void registry_free(struct registry *r);
void registry_note(struct registry *r, const struct workload_note *n, uint64_t mono_ms, int64_t wall_ms);
void registry_tick(struct registry *r, uint64_t mono_ms); /* each second */
void registry_debug(const struct registry *r, struct strbuf *json); /* a list */
