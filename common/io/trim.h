/*
 * Giving memory back to the system after a peak. A burst of work (a cold start, a thousand connections at once) leaves free memory behind
 * in malloc's lists; trim_soon() returns what of it makes whole pages, in a quiet moment after the burst and not more often than each
 * TRIM_INTERVAL_MS, because it walks the heap. Owner thread: the loop's.
 */
#pragma once

#include "common/io/loop.h"

#define TRIM_QUIET_MS 1000u
#define TRIM_INTERVAL_MS 10000u

struct trim;
struct trim *trim_new(struct loop *l);
void trim_soon(struct trim *t);
void trim_free(struct trim *t); /* NULL is fine */
