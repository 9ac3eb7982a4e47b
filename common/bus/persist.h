/*
 * The last snapshot on disk: a log of changes, each batch closed by a commit record; what follows the last commit is
 * dropped. Nothing is synced while appending (a lost tail costs freshness, never consistency: the next resync brings
 * the difference); compaction and closing sync. When the log's garbage exceeds its live part it is rewritten beside
 * itself and renamed.
 */
#pragma once

#include "common/bus/content.h"

struct persist;
/* Where the snapshot stood. */
struct persist_mark {
	uint64_t epoch;
	uint64_t sequence;
	uint64_t wall_ms; /* of the last commit */
};
/*
 * Opens or creates. What the file holds of `topics` goes into the empty *content and, as changes in the arena, to
 * *out_changes. A file that is not readable as such is set aside (renamed to <path>.bad) and counted as empty: a
 * cache must never keep a daemon from starting.
 */
struct persist *persist_open(const char *path, const char *publisher, const uint32_t *topics, struct arena *a,
	struct bus_content *content, struct bus_change **out_changes, size_t *out_n, struct persist_mark *out_mark,
	struct err *e) MUST_CHECK;
/* After the changes were applied to the content. An error ends persisting: the file stays at the last good commit. */
bool persist_batch(struct persist *p, struct bus_content *content, const struct bus_change *changes, size_t n,
	const struct persist_mark *mark, struct err *e) MUST_CHECK;
/* Commits the mark, syncs, closes. */
bool persist_close(struct persist *p, const struct persist_mark *mark, struct err *e);
uint64_t persist_bytes(const struct persist *p);
uint64_t persist_compactions(const struct persist *p);
