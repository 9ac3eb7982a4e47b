/*
 * The follower's state, shared by follower.c (states and time) and follower_frames.c (what frames do). Nobody else
 * includes this.
 */
#pragma once

#include "common/base/vec.h"
#include "common/bus/follower.h"

enum follower_phase {
	FOLLOWER_IDLE, /* nothing heard, or lost in the middle of a snapshot */
	FOLLOWER_SYNCING, /* a snapshot is due, asked for, or arriving; live batches wait */
	FOLLOWER_SYNCED,
};

struct pending_frame {
	struct arena *arena;
	const Bus__Frame *frame;
	size_t bytes;
};

struct follower {
	struct follower_options o;
	struct bus_content content;
	bool has_content;
	enum bus_state state;
	enum follower_phase phase;

	uint64_t epoch; /* of the content */
	uint64_t sequence;
	uint64_t interval_ms; /* of the publisher's heartbeat */
	uint64_t seen_epoch; /* of the last live frame */
	bool seen_content; /* it had a sequence */
	unsigned crossed; /* snapshots in a row from another publisher than the live frames */
	uint64_t last_frame_ms;
	bool heard;
	bool stale;
	uint64_t last_status_ms; /* when we last told the publisher where we stand */

	/* The snapshot under way. */
	uint64_t request;
	bool requested; /* sent wholly */
	uint64_t request_at; /* when it may be sent */
	unsigned attempts; /* since we were last synced for a while */
	uint64_t synced_at;
	uint64_t progress_ms;
	bool have_chunk;
	uint64_t snap_epoch;
	uint64_t snap_sequence;
	VEC(struct arena *) staged_arenas;
	VEC(struct bus_change) staged;
	size_t staged_total; /* changes received, also those of topics that we skip */
	size_t staged_bytes;

	/* Live batches that wait for the snapshot. */
	VEC(struct pending_frame) pending;
	size_t pending_bytes;
	bool overflowed;

	/* The batch in parts under way. */
	VEC(struct arena *) part_arenas;
	VEC(struct bus_change) parts;
	uint32_t next_part;
	size_t part_bytes;
};

void follower_set_state(struct follower *f, enum bus_state state);
void follower_resync(struct follower *f, uint64_t now, enum follower_reason why);
void follower_drop_snapshot(struct follower *f);
void follower_drop_pending(struct follower *f);
void follower_drop_parts(struct follower *f);
/* Filters what changes nothing, applies, tells. Compacts `changes` in place. */
void follower_apply(struct follower *f, struct bus_change *changes, size_t n, bool resync, const char *cause);
