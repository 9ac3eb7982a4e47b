/*
 * DOC: From batches to snapshots. The first change after a quiet time is published at once. Then there is a pause of --debounce, or of
 * PAUSE_FACTOR times the processor time that the push took the workers, up to --debounce-max: what comes meanwhile is merged and
 * published at its end. So a small mesh gets every change at once, and a large one that changes all the time uses a bounded share of a
 * core. One batch of the bus is never split.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "pilot/pilot.h"

#define PAUSE_FACTOR 3u /* what it trades: docs/PERFORMANCE.md */

METRIC(debounce_time, HISTOGRAM, "pilot_debounce_time", "seconds from a change to its publication to the workers");
METRIC(snapshots, COUNTER, "pilot_push_snapshots", "models published to the workers");

static void publish(struct pilot *p)
{
	struct pilot_push *u = &p->push;

	read_keys_seal(&u->touched);
	for (size_t i = 0; i < p->n_workers; i++)
		worker_publish(p->workers[i], u->model, &u->touched, u->first_us);
	metric_observe(&debounce_time, (double)(clock_mono_us() - u->first_us) / 1e6);
	metric_add(&snapshots, 1);
	read_keys_done(&u->touched);
	u->touched = (struct read_keys){0};
	u->pending = false;
	u->first_us = 0;
	u->published++;
	u->published_us = clock_mono_us();
	daemon_ready(p->daemon, "snapshot");
}

/* How much longer the pause must be, by what the push has cost so far. */
static uint64_t pause_left_ms(const struct pilot *p)
{
	uint64_t cost_us = 0, waited_ms = (clock_mono_us() - p->push.published_us) / 1000;
	for (size_t i = 0; i < p->n_workers; i++)
		cost_us = max_size(cost_us, worker_push_cost_us(p->workers[i]));
	uint64_t pause_ms = min_size(cost_us * PAUSE_FACTOR / 1000, p->config->debounce_max_ms);
	return pause_ms > waited_ms ? pause_ms - waited_ms : 0;
}

static void schedule(struct pilot *p)
{
	struct pilot_push *u = &p->push;

	if (!u->open || !u->pending || timer_active(u->timer))
		return;
	publish(p);
	timer_start(u->timer, p->config->debounce_ms, 0);
}

static void on_quiet(void *ctx)
{
	struct pilot *p = ctx;
	uint64_t left = pause_left_ms(p);

	if (left)
		timer_start(p->push.timer, left, 0);
	else
		schedule(p);
}

void push_changes(struct pilot *p, const struct bus_change *changes, size_t n)
{
	struct pilot_push *u = &p->push;
	struct read_keys touched = {0};
	struct model *next = model_apply(u->model, changes, n, &touched);

	for (size_t i = 0; i < touched.len; i++)
		read_keys_add(&u->touched, touched.items[i]);
	read_keys_done(&touched);
	model_unref(u->model);
	u->model = next;
	if (!u->first_us)
		u->first_us = clock_mono_us();
	u->pending = true;
	schedule(p);
}

void push_open(struct pilot *p)
{
	struct pilot_push *u = &p->push;
	if (u->open)
		return;
	u->open = true;
	u->pending = true;
	if (!u->first_us)
		u->first_us = clock_mono_us();
	schedule(p);
}

void push_start(struct pilot *p)
{
	p->push.model = model_empty();
	p->push.timer = timer_new(p->loop, on_quiet, p);
}

void push_stop(struct pilot *p)
{
	timer_free(p->push.timer);
	read_keys_done(&p->push.touched);
	model_unref(p->push.model);
}
