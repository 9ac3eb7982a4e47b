/*
 * A directory tree as a source: which files there are, which of them changed, and when it is safe to read them. Every *.yaml, *.yml
 * and *.json below the root counts; hidden files and directories and editors' temporary files do not. No loop and no clock: the
 * caller says the time and calls again when it is told to.
 *
 * A file is being written while its time of change is fresh, while it does not look whole, or while it is briefly missing (editors
 * rename); then the whole scan is put off for some milliseconds, because one change of the directory is one batch. It is put off for
 * DIRECTORY_PATIENCE_MS at most: afterwards what has settled is reported, and what has not stays for the next scan. Where changes come
 * without a pause (something was left behind), the next scans are put off for DIRECTORY_BUSY_MS only. No file is ever reported before it
 * has settled, or its own patience is over.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

#define DIRECTORY_SETTLE_MS 20
#define DIRECTORY_PATIENCE_MS 150
#define DIRECTORY_BUSY_MS 20

struct directory;

struct source_text {
	struct str file, text;
};

struct directory_ops {
	bool (*looks_whole)(void *ctx, struct str file, struct str text);
	/* All that will be put next; may be NULL. The texts stay until they are put. */
	void (*ahead)(void *ctx, const struct source_text *files, size_t n);
	void (*put)(void *ctx, struct str file, struct str text);
	void (*remove)(void *ctx, struct str file);
};

struct directory *directory_new(const char *root); /* a directory, or one file */
void directory_free(struct directory *d);

/* Reports the changes since the last scan through ops, or none. *retry_ms > 0: something is not settled, call again then. Files that cannot be read are
 * left as they were and named in e (the rest is reported). False: the root itself cannot be read, and nothing changes. */
bool directory_scan(struct directory *d, int64_t wall_ms, const struct directory_ops *ops, void *ctx,
	uint64_t *retry_ms, struct err *e) MUST_CHECK;
/*
 * The kernel says that a file was completely written, or that it is being written or went away: the next scan looks at it, and a complete
 * one is not given time to settle. path NULL: it looks at everything; so does the first scan, and each one without a hint before it.
 */
void directory_hint(struct directory *d, const char *path, bool complete);
size_t directory_files(const struct directory *d);
