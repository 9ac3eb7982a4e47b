/*
 * Reports on their way up: the last value per key. They are sent when the publisher is there, and all of them again
 * to a new publisher, which knows nothing of them. Bounded by LIMIT_BUS_REPORT_KEYS; when full, the oldest key gives
 * way (counted).
 */
#pragma once

#include "common/bus/store.h"

struct reports {
	struct map *map; /* bus_id -> struct report * */
	size_t unsent;
	uint64_t dropped;
	uint64_t epoch; /* to whom they were sent */
};
void reports_init(struct reports *r);
void reports_done(struct reports *r);
void reports_add(struct reports *r, const struct bus_change *c);
/* A frame with these changes, in the arena. */
Bus__Frame *reports_frame(
	struct arena *a, const char *role, const char *instance, const struct bus_change *changes, size_t n);
/* Everything that `epoch` has not got, in frames of bounded size, until `send` says not now. */
void reports_flush(struct reports *r, uint64_t epoch, const char *role, const char *instance,
	bool (*send)(void *ctx, const Bus__Frame *f), void *ctx);
