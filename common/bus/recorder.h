/*
 * Writes batches to a recording (bus.h reads them): the side of publishers and replicas. A failing disk ends the
 * recording, not the daemon.
 */
#pragma once

#include "common/bus/wire.h"

struct recorder;
struct recorder *recorder_open(const char *path, const char *publisher, struct err *e) MUST_CHECK;
/* `now_ms` is the loop's monotonic clock. */
void recorder_batch(struct recorder *r, uint64_t now_ms, uint64_t epoch, uint64_t sequence,
	const struct bus_change *changes, size_t n, bool resync, const char *cause);
void recorder_close(struct recorder *r);
