/* DOC: One timer: restarted by each call until it is quiet for a moment. */
#include "common/io/trim.h"

#include <malloc.h>
#include <stdlib.h>

#include "common/base/clock.h"

struct trim {
	struct timer *timer;
	uint64_t last_ms; /* 0: never */
};

static void on_quiet(void *ctx)
{
	struct trim *t = ctx;
	t->last_ms = clock_mono_ms();
	(void)malloc_trim(0);
}

struct trim *trim_new(struct loop *l)
{
	struct trim *t = xzalloc(sizeof(*t));
	t->timer = timer_new(l, on_quiet, t);
	return t;
}

void trim_soon(struct trim *t)
{
	uint64_t now = clock_mono_ms(), earliest = t->last_ms ? t->last_ms + TRIM_INTERVAL_MS : 0;
	timer_start(t->timer, earliest > now + TRIM_QUIET_MS ? earliest - now : TRIM_QUIET_MS, 0);
}

void trim_free(struct trim *t)
{
	if (!t)
		return;
	timer_free(t->timer);
	free(t);
}
