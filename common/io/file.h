/* Files: whole reads with a limit, atomic writes (temporary file, fsync, rename), and watching directory trees. */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

/* The caller frees *out; it is also NUL-terminated. */
bool file_read(const char *path, size_t limit, char **out, size_t *out_len, struct err *e) MUST_CHECK;
/* Readers see the old content or the new, never a part. Mode as given (0600 for keys). */
bool file_write_atomic(const char *path, struct str content, unsigned mode, struct err *e) MUST_CHECK;
bool file_mkdirs(const char *path, unsigned mode, struct err *e) MUST_CHECK;
bool file_exists(const char *path);
uint64_t file_stamp(
	const char *path); /* another one when the file is another or changed; 0: there is none, or path is NULL */

/*
 * Watches a directory tree (inotify): fn is called, coalesced, at most once per quiet period after anything below was
 * created, changed, removed or renamed; also symbolic-link swaps as Kubernetes makes them. It says only *that* something
 * changed. When the kernel's queue overflowed or watches ran out it still calls, and falls back to polling each second.
 */
struct dir_watch;
struct dir_watch *dir_watch_new(struct loop *l, const char *root, uint64_t quiet_ms, void (*fn)(void *ctx), void *ctx,
	struct err *e) MUST_CHECK;
/*
 * Which files changed, before fn of dir_watch_new() is called, with its ctx: complete when the file was moved here or closed after
 * writing, not complete when somebody writes to it or it went away. path NULL: more than that may have changed.
 */
void dir_watch_files(struct dir_watch *w, void (*fn)(void *ctx, const char *path, bool complete));
void dir_watch_free(struct dir_watch *w);
