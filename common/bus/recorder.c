/*
 * DOC: A recording is a log of frames: each batch as it became visible, with the time since the recording began.
 * Batches larger than a frame are split as on the wire. Every batch is written at once, so that `tail` and a crash
 * both see whole batches; it is not synced.
 */
#include "common/bus/recorder.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/bus/reclog.h"
#include "common/pb/pb.h"

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

struct recorder {
	struct reclog *log; /* NULL after the disk failed */
	char *publisher;
	uint64_t start_ms;
	bool started;
};

struct recorder *recorder_open(const char *path, const char *publisher, struct err *e)
{
	struct reclog *log = reclog_open(path, 0, e);
	if (!log || !reclog_flush(log, e)) {
		reclog_close(log);
		(void)err_in(e, "recording");
		return NULL;
	}
	struct recorder *r = xzalloc(sizeof(*r));
	*r = (struct recorder){.log = log, .publisher = xstrdup(publisher)};
	return r;
}

static void add_part(struct recorder *r, struct arena *a, Bus__Frame *f, const struct bus_change *changes, size_t n)
{
	f->batch->n_changes = n;
	f->batch->changes = wire_changes(a, changes, n);
	(void)reclog_add(r->log, RECLOG_FRAME, pb_pack(a, f));
	f->batch->part++;
}

void recorder_batch(struct recorder *r, uint64_t now_ms, uint64_t epoch, uint64_t sequence,
	const struct bus_change *all, size_t n_all, bool resync, const char *cause)
{
	if (!r || !r->log)
		return;
	if (!r->started)
		r->start_ms = now_ms;
	r->started = true;
	struct arena *a = arena_new();
	size_t n;
	const struct bus_change *changes = wire_public(a, all, n_all, &n); /* recordings are passed around */
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Batch b = BUS__BATCH__INIT;
	f.epoch = epoch;
	f.sequence = sequence;
	f.publisher = r->publisher;
	f.sent_ms = now_ms - r->start_ms;
	f.body_case = BUS__FRAME__BODY_BATCH;
	f.batch = &b;
	b.cause = arena_strdup(a, cause ? cause : "");
	b.time_ms = clock_wall_ms();
	b.resync = resync;
	do {
		const size_t fit = wire_fit(changes, n);
		b.more = fit < n;
		add_part(r, a, &f, changes, fit);
		changes += fit;
		n -= fit;
	} while (n > 0);
	arena_free(a);
	struct err e = {0};
	if (!reclog_flush(r->log, &e)) {
		log_error(&log_bus, "recording ended", KV("error", e.text));
		reclog_close(take(r->log));
	}
}

void recorder_close(struct recorder *r)
{
	if (!r)
		return;
	reclog_close(r->log);
	free(r->publisher);
	free(r);
}
