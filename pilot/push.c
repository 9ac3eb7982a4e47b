/*
 * DOC: From batches to snapshots. The first change after a quiet time is published at once; what follows within the quiet time is
 * merged and published when nothing came for --debounce, but at the latest --debounce-max after the first of them. One batch of the
 * bus is never split.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "pilot/pilot.h"

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
	daemon_ready(p->daemon, "snapshot");
}

static void schedule(struct pilot *p)
{
	struct pilot_push *u = &p->push;
	uint64_t waited = (clock_mono_us() - u->first_us) / 1000;

	if (!u->open || !u->pending)
		return;
	if (!timer_active(u->timer) || waited >= p->config->debounce_max_ms) {
		publish(p);
		timer_start(u->timer, p->config->debounce_ms, 0);
		return;
	}
	uint64_t left = p->config->debounce_max_ms - waited;
	timer_start(u->timer, left < p->config->debounce_ms ? left : p->config->debounce_ms, 0);
}

static void on_quiet(void *ctx)
{
	struct pilot *p = ctx;
	if (!p->push.pending)
		return;
	publish(p);
	timer_start(p->push.timer, p->config->debounce_ms, 0);
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
