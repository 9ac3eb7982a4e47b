/*
 * DOC: Reading a recording, and feeding it to a daemon as a publisher would: same callbacks, same states. A replay
 * takes one batch per turn of the loop, so that the daemon's own timers run in between (a hook before each wait does
 * the step, and a timer that does nothing ends the wait: see socket.c); with timing it waits for the recorded moment
 * of each batch.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/bus/bus.h"
#include "common/bus/reclog.h"
#include "common/bus/wire.h"

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

struct bus_recording {
	struct reclog_reader *file;
	struct arena *arena; /* of the current batch */
	VEC(struct bus_change) changes;
	uint64_t at_ms;
	bool resync;
	const char *cause;
};

bool bus_recording_open(const char *path, struct bus_recording **out, struct err *e)
{
	struct reclog_reader *file = reclog_read(path, e);
	if (!file)
		return err_in(e, "recording");
	struct bus_recording *r = xzalloc(sizeof(*r));
	r->file = file;
	*out = r;
	return true;
}

void bus_recording_close(struct bus_recording *r)
{
	if (!r)
		return;
	reclog_read_close(r->file);
	arena_free(r->arena);
	vec_done(&r->changes);
	free(r);
}

static void take_part(struct bus_recording *r, const Bus__Frame *f)
{
	struct bus_change *changes = NULL;
	size_t foreign = 0;
	size_t n = wire_changes_of(
		r->arena, f->batch->changes, f->batch->n_changes, f->publisher, NULL, &changes, &foreign);
	for (size_t i = 0; i < n; i++)
		vec_push(&r->changes, changes[i]);
	r->at_ms = f->sent_ms;
	r->resync = f->batch->resync;
	r->cause = f->batch->cause;
}

/*
 * Collects the parts of the next batch; false at the end or on error. A batch whose last part is missing is not one.
 */
static bool read_batch(struct bus_recording *r, struct err *e)
{
	arena_free(r->arena);
	r->arena = arena_new();
	r->changes.len = 0;
	struct reclog_record record;
	uint32_t part = 0;
	while (reclog_next(r->file, &record, e)) {
		if (record.type != RECLOG_FRAME)
			continue;
		const Bus__Frame *f = wire_unpack(r->arena, record.payload, e);
		if (!f)
			return err_in(e, "record at %llu", (unsigned long long)record.offset);
		if (f->body_case != BUS__FRAME__BODY_BATCH)
			continue;
		if (f->batch->part != part)
			return err_set(e, ERR_PEER, "record at %llu: part %u of a batch where %u follows",
				(unsigned long long)record.offset, f->batch->part, part);
		take_part(r, f);
		if (!f->batch->more)
			return true;
		part++;
	}
	return false;
}

bool bus_recording_next(
	struct bus_recording *r, const struct bus_change **changes, size_t *n, uint64_t *at_ms, struct err *e)
{
	struct err own = {0};
	if (!read_batch(r, &own)) {
		if (e)
			*e = own;
		if (own.kind == ERR_NONE && reclog_torn(r->file))
			log_warn(&log_bus, "recording ends in a torn record");
		return false;
	}
	*changes = r->changes.items;
	*n = r->changes.len;
	*at_ms = r->at_ms;
	return true;
}

/* ---- replay */

struct bus_replay {
	struct bus_recording *recording;
	struct timer *timer; /* ends the loop's wait */
	struct before_wait *step;
	uint64_t due_ms;
	const struct bus_replica_ops *ops;
	void *ctx;
	void (*done)(void *ctx);
	bool with_timing;
	bool loaded; /* the recording's current batch waits for its moment */
	bool begun;
	bool live;
	uint64_t start_ms;
	const struct bus_change *changes;
	size_t n;
};

void bus_replay_stop(struct bus_replay *p)
{
	if (!p)
		return;
	timer_free(p->timer);
	before_wait_free(p->step);
	bus_recording_close(p->recording);
	free(p);
}

static void finish_replay(struct bus_replay *p)
{
	void (*done)(void *ctx) = p->done;
	void *ctx = p->ctx;
	bus_replay_stop(p);
	if (done)
		done(ctx);
}

static void set_state(struct bus_replay *p, enum bus_state state)
{
	if (p->ops->on_state)
		p->ops->on_state(p->ctx, state);
}

static void deliver(struct bus_replay *p)
{
	p->loaded = false;
	if (p->n)
		p->ops->on_batch(p->ctx, p->changes, p->n, p->recording->resync, p->recording->cause);
	if (!p->live)
		set_state(p, BUS_LIVE);
	p->live = true;
}

static bool load_next(struct bus_replay *p)
{
	uint64_t at_ms = 0;
	struct err e = {0};
	if (bus_recording_next(p->recording, &p->changes, &p->n, &at_ms, &e)) {
		const uint64_t now = clock_mono_ms();
		p->due_ms = p->with_timing ? p->start_ms + at_ms : now;
		p->loaded = true;
		timer_start(p->timer, p->due_ms > now ? p->due_ms - now : 0, 0);
		return true;
	}
	if (e.kind != ERR_NONE)
		log_error(&log_bus, "replay ended early", KV("error", e.text));
	return false;
}

static void wake_only(void *ctx)
{
}

static void replay_step(void *ctx)
{
	struct bus_replay *p = ctx;
	if (p->loaded && clock_mono_ms() < p->due_ms) {
		if (!timer_active(p->timer)) /* it fired a little early */
			timer_start(p->timer, 1, 0);
		return;
	}
	if (!p->begun)
		set_state(p, BUS_SYNCING);
	p->begun = true;
	if (p->loaded)
		deliver(p);
	if (!load_next(p))
		finish_replay(p);
}

bool bus_replay_start(struct loop *l, const char *path, bool with_timing, const struct bus_replica_ops *ops, void *ctx,
	void (*done)(void *ctx), struct bus_replay **out, struct err *e)
{
	struct bus_recording *recording = NULL;
	if (!bus_recording_open(path, &recording, e))
		return false;
	struct bus_replay *p = xzalloc(sizeof(*p));
	*p = (struct bus_replay){
		.recording = recording, .ops = ops, .ctx = ctx, .done = done, .with_timing = with_timing};
	p->start_ms = clock_mono_ms();
	p->timer = timer_new(l, wake_only, p);
	p->step = before_wait_new(l, replay_step, p);
	timer_start(p->timer, 0, 0);
	*out = p;
	return true;
}
