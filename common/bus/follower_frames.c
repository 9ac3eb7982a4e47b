/*
 * DOC: What each frame does to a replica. In sequence: applied. Behind: dropped, we hold it. Ahead, or of another
 * epoch: a resync, and the frame waits for its end. A snapshot carries the sequence at which the publisher's content
 * was frozen for us; when its last chunk is here, the whole difference becomes visible as one batch, and then the
 * batches that waited follow by the same three rules: those up to that sequence are dropped, the next ones applied,
 * and a hole among them is a gap like any other.
 */
#include "common/bus/follower_internal.h"

#include <stdlib.h>

#define CROSSED_SNAPSHOTS 2

static void ignored(struct follower *f, const char *reason, size_t n)
{
	if (n)
		f->o.ops->ignored(f->o.ctx, reason, n);
}

static size_t changes_of(
	struct follower *f, struct arena *a, Bus__Change *const *changes, size_t n, struct bus_change **out)
{
	size_t foreign = 0;
	size_t kept = wire_changes_of(a, changes, n, f->o.publisher, f->o.topics, out, &foreign);
	ignored(f, "foreign_topic", foreign);
	return kept;
}

/* ---- live */

static void finish_batch(struct follower *f, const Bus__Frame *frame)
{
	f->sequence = frame->sequence;
	follower_apply(f, f->parts.items, f->parts.len, false, frame->batch->cause);
	follower_drop_parts(f);
}

/* A part in sequence; owns the arena. */
static void take_part(struct follower *f, uint64_t now, struct arena *a, const Bus__Frame *frame, size_t bytes)
{
	const Bus__Batch *b = frame->batch;
	if (b->part == 0)
		follower_drop_parts(f);
	vec_push(&f->part_arenas, a);
	if (b->part != f->next_part || f->part_bytes + bytes > f->o.pending_limit) {
		follower_resync(f, now, b->part != f->next_part ? FOLLOWER_GAP : FOLLOWER_OVERFLOW);
		return;
	}
	for (size_t i = 0; i < b->n_withheld; i++) {
		if (wire_topic_listed(f->o.topics, b->withheld[i])) {
			follower_resync(f, now, FOLLOWER_WITHHELD); /* the whole batch comes with the snapshot */
			return;
		}
	}
	struct bus_change *changes = NULL;
	size_t n = changes_of(f, a, b->changes, b->n_changes, &changes);
	for (size_t i = 0; i < n; i++)
		vec_push(&f->parts, changes[i]);
	f->part_bytes += bytes;
	f->next_part++;
	if (!b->more)
		finish_batch(f, frame);
}

/* Keeps a batch for after the snapshot; owns the arena. */
static void keep_pending(struct follower *f, struct arena *a, const Bus__Frame *frame, size_t bytes)
{
	const bool held = f->have_chunk && frame->epoch == f->snap_epoch && frame->sequence <= f->snap_sequence;
	if (f->pending_bytes + bytes > f->o.pending_limit)
		f->overflowed = true;
	if (held || f->overflowed) {
		if (f->overflowed)
			follower_drop_pending(f);
		arena_free(a);
		return;
	}
	vec_push(&f->pending, ((struct pending_frame){a, frame, bytes}));
	f->pending_bytes += bytes;
}

/* Owns the arena. */
static void live_batch(struct follower *f, uint64_t now, struct arena *a, const Bus__Frame *frame, size_t bytes)
{
	if (f->phase == FOLLOWER_SYNCED && frame->epoch == f->epoch) {
		if (frame->sequence <= f->sequence) {
			arena_free(a);
			return;
		}
		if (frame->sequence == f->sequence + 1) {
			take_part(f, now, a, frame, bytes);
			return;
		}
	}
	if (f->phase == FOLLOWER_SYNCED)
		follower_resync(f, now, frame->epoch == f->epoch ? FOLLOWER_GAP : FOLLOWER_EPOCH);
	keep_pending(f, a, frame, bytes);
}

static void live_heartbeat(struct follower *f, uint64_t now, const Bus__Frame *frame)
{
	/* A heartbeat of a minute would hide a dead publisher; one of 1 ms would call every hiccup a death. */
	const uint32_t ms = frame->heartbeat->interval_ms;
	if (ms >= 10 && ms <= 60000)
		f->interval_ms = ms;
	if (f->phase != FOLLOWER_SYNCED)
		return;
	if (frame->epoch != f->epoch)
		follower_resync(f, now, FOLLOWER_EPOCH);
	else if (frame->sequence > f->sequence)
		follower_resync(f, now, FOLLOWER_SILENT);
}

/* The publisher is there. */
static void hear(struct follower *f, uint64_t now, const Bus__Frame *frame)
{
	f->last_frame_ms = now;
	f->heard = true;
	f->stale = false;
	if (f->phase == FOLLOWER_IDLE)
		follower_resync(f, now, FOLLOWER_START);
	else if (f->phase == FOLLOWER_SYNCED && frame->epoch == f->epoch)
		follower_set_state(f, BUS_LIVE);
	else if (f->phase == FOLLOWER_SYNCING && f->requested && frame->epoch != f->seen_epoch)
		follower_resync(f, now, FOLLOWER_EPOCH); /* whom we asked is gone */
	if (frame->sequence == 0)
		f->progress_ms = now; /* it has nothing to give yet, and will answer when it has */
	f->seen_epoch = frame->epoch;
	f->seen_content = frame->sequence > 0;
}

void follower_live(struct follower *f, uint64_t now, struct str bytes)
{
	struct arena *a = arena_new();
	const Bus__Frame *frame = wire_unpack(a, bytes, NULL);
	if (!frame || !streq(frame->publisher, f->o.publisher)) {
		ignored(f, frame ? "foreign_publisher" : "malformed", 1);
		arena_free(a);
		return;
	}
	hear(f, now, frame);
	if (frame->body_case == BUS__FRAME__BODY_BATCH) {
		live_batch(f, now, a, frame, bytes.len);
		return;
	}
	if (frame->body_case == BUS__FRAME__BODY_HEARTBEAT)
		live_heartbeat(f, now, frame);
	arena_free(a);
}

/* ---- snapshot */

static void take_pending(struct follower *f, uint64_t now)
{
	struct pending_frame *frames = take(f->pending.items);
	const size_t n = f->pending.len;
	f->pending.len = f->pending.cap = f->pending_bytes = 0;
	if (f->overflowed)
		follower_resync(f, now, FOLLOWER_OVERFLOW);
	for (size_t i = 0; i < n; i++) {
		/* Of an epoch that was over before the snapshot's began: nothing to go by. */
		if (frames[i].frame->epoch != f->snap_epoch)
			arena_free(frames[i].arena);
		else
			live_batch(f, now, frames[i].arena, frames[i].frame, frames[i].bytes);
	}
	free(frames);
}

/* Once may be a publisher that was born anew in between. */
static void note_crossing(struct follower *f)
{
	f->crossed = f->epoch == f->seen_epoch ? 0 : f->crossed + 1;
	if (f->crossed < CROSSED_SNAPSHOTS)
		return;
	f->crossed = 0;
	f->attempts = 0; /* new connections, and their own pace */
	f->o.ops->crossed(f->o.ctx);
}

static void finish_snapshot(struct follower *f, uint64_t now, const Bus__Frame *frame)
{
	if (frame->snapshot_chunk->resource_count != f->staged_total) {
		follower_resync(f, now, FOLLOWER_BROKEN);
		return;
	}
	f->phase = FOLLOWER_SYNCED;
	f->epoch = frame->epoch;
	f->sequence = frame->sequence;
	f->synced_at = now;
	f->last_status_ms = 0;
	f->has_content = true;
	follower_apply(f, f->staged.items, f->staged.len, true, "resync");
	follower_drop_snapshot(f);
	follower_set_state(f, BUS_LIVE);
	note_crossing(f);
	take_pending(f, now);
}

static void send_credit(struct follower *f)
{
	Bus__Frame frame = BUS__FRAME__INIT;
	Bus__Credit c = BUS__CREDIT__INIT;
	c.request = f->request;
	c.chunks = 1;
	frame.publisher = (char *)(uintptr_t)f->o.role;
	frame.body_case = BUS__FRAME__BODY_CREDIT;
	frame.credit = &c;
	(void)f->o.ops->send(f->o.ctx, &frame); /* lost: the snapshot stalls and is asked for again */
}

/* Owns the arena. */
static void take_chunk(struct follower *f, uint64_t now, struct arena *a, const Bus__Frame *frame, size_t bytes)
{
	const Bus__SnapshotChunk *c = frame->snapshot_chunk;
	vec_push(&f->staged_arenas, a);
	f->staged_bytes += bytes;
	f->staged_total += c->n_changes;
	const bool consistent = !f->have_chunk ||
				(f->snap_epoch == frame->epoch && f->snap_sequence == frame->sequence);
	if (!consistent || f->staged_bytes > LIMIT_BUS_SNAPSHOT_BYTES) {
		follower_resync(f, now, FOLLOWER_BROKEN);
		return;
	}
	f->have_chunk = true;
	f->snap_epoch = frame->epoch;
	f->snap_sequence = frame->sequence;
	f->progress_ms = now;
	struct bus_change *changes = NULL;
	size_t n = changes_of(f, a, c->changes, c->n_changes, &changes);
	for (size_t i = 0; i < n; i++)
		vec_push(&f->staged, changes[i]);
	if (c->last)
		finish_snapshot(f, now, frame);
	else
		send_credit(f);
}

void follower_reply(struct follower *f, uint64_t now, struct str bytes)
{
	struct arena *a = arena_new();
	const Bus__Frame *frame = wire_unpack(a, bytes, NULL);
	const bool waiting = f->phase == FOLLOWER_SYNCING && f->requested;
	if (!frame || !streq(frame->publisher, f->o.publisher)) {
		ignored(f, frame ? "foreign_publisher" : "malformed", 1);
	} else if (frame->body_case == BUS__FRAME__BODY_SNAPSHOT_CHUNK) {
		if (waiting && frame->snapshot_chunk->request == f->request) {
			take_chunk(f, now, a, frame, bytes.len);
			return;
		}
		ignored(f, "late_chunk", 1);
	} else if (frame->body_case == BUS__FRAME__BODY_REFUSAL && waiting && frame->refusal->request == f->request) {
		f->o.ops->refused(f->o.ctx, frame->refusal->reason);
		follower_resync(f, now, FOLLOWER_REFUSED);
	}
	arena_free(a);
}
