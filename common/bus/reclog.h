/*
 * Files of checksummed records, appended: what snapshots on disk and recordings are made of. A record is a 16-byte
 * head (length, type, XXH3 of the rest; little endian) and a payload. A file begins with 8 bytes of magic. A torn
 * tail - what a crash leaves - reads as the end of the file; a broken record before it is an error. One owner, one
 * thread.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

enum reclog_type { RECLOG_FRAME = 1, RECLOG_CHANGE = 2, RECLOG_COMMIT = 3 };
#define RECLOG_HEAD 16u
#define RECLOG_START 8u

struct reclog; /* writer */
/* Truncates to `keep` bytes and appends there; keep 0: a new file. */
struct reclog *reclog_open(const char *path, uint64_t keep, struct err *e) MUST_CHECK;
void reclog_close(struct reclog *w);
/* Collects; written by reclog_flush(). Returns the record's offset. */
uint64_t reclog_add(struct reclog *w, enum reclog_type type, struct str payload);
/* A record as it stands in another file, head included; the caller vouches for it. */
uint64_t reclog_add_raw(struct reclog *w, struct str record);
/* All that was collected, or nothing: what was written of it is cut off again when the disk fails. */
bool reclog_flush(struct reclog *w, struct err *e) MUST_CHECK;
bool reclog_sync(struct reclog *w, struct err *e) MUST_CHECK;
uint64_t reclog_size(const struct reclog *w); /* flushed and collected */
size_t reclog_collected(const struct reclog *w);

struct reclog_record {
	enum reclog_type type;
	uint64_t offset; /* of the head */
	struct str payload; /* until the next call */
};
struct reclog_reader;
struct reclog_reader *reclog_read(const char *path, struct err *e) MUST_CHECK;
/* False at the end (e->kind stays ERR_NONE) or on error; e must be given and clear. */
bool reclog_next(struct reclog_reader *r, struct reclog_record *out, struct err *e) MUST_CHECK;
bool reclog_torn(const struct reclog_reader *r); /* the end was a torn tail */
void reclog_read_close(struct reclog_reader *r);
/* The record at an offset, head included, into *out (replaced). */
bool reclog_raw(struct reclog_reader *r, uint64_t offset, uint32_t len, struct strbuf *out, struct err *e) MUST_CHECK;
