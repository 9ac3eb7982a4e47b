/* What the load client measures: CPU time and private memory of other processes, and latencies. */
#pragma once

#include "common/base/err.h"
#include "common/base/vec.h"
#include <sys/types.h>

#define LOAD_PIDS_MAX 16

struct load_pids {
	pid_t items[LOAD_PIDS_MAX];
	size_t n;
};

bool load_pids_parse(struct load_pids *p, const char *list, struct err *e) MUST_CHECK; /* "12,13" */
uint64_t load_cpu_ns(const struct load_pids *p); /* all threads, user and system; an ended process counts nothing */
uint64_t load_private_bytes(const struct load_pids *p); /* Private_Clean and Private_Dirty of smaps_rollup */

struct load_latencies {
	uint32_t *items; /* microseconds */
	size_t len, cap;
};
void load_latency(struct load_latencies *l, uint64_t from_us, uint64_t to_us);
/* Sorts. Milliseconds; share 1: the last. 0 when there are none. */
double load_quantile_ms(struct load_latencies *l, double share);
