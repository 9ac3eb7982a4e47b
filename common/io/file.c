/*
 * DOC: Whole files. Reading stops at a limit, whatever stat(2) says, because files grow and /proc files have no size.
 * Writing makes a temporary file beside the target, syncs it, renames it over the target and syncs the folder, so that a
 * reader or a crash sees the old content or the new and never a part. (dir_watch is in dir_watch.c.)
 */
#include "common/io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/hash.h"

/* Reads until the end; one byte more than the limit shows that there is more. */
static bool read_all(int fd, const char *path, size_t limit, size_t guess, char **out, size_t *out_len, struct err *e)
{
	size_t cap = min_size(guess, limit) + 2, len = 0;
	cleanup(free_p) char *data = xmalloc(cap);
	for (;;) {
		if (len + 1 >= cap) {
			cap = max_size(cap * 2, 4096);
			data = xrealloc(data, cap);
		}
		ssize_t n = read(fd, data + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, "read %s", path);
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > limit)
			return err_set(e, ERR_LIMIT, "%s is larger than the limit of %zu bytes", path, limit);
	}
	data[len] = 0;
	*out = take(data);
	*out_len = len;
	return true;
}

bool file_read(const char *path, size_t limit, char **out, size_t *out_len, struct err *e)
{
	cleanup(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open %s", path);
	struct stat st;
	if (fstat(fd, &st))
		return err_errno(e, "stat %s", path);
	if (S_ISDIR(st.st_mode))
		return err_set(e, ERR_SYSTEM, "%s is a directory", path);
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit)
		return err_set(e, ERR_LIMIT, "%s has %llu bytes, the limit is %zu", path,
			(unsigned long long)st.st_size, limit);
	return read_all(fd, path, limit, S_ISREG(st.st_mode) ? (size_t)st.st_size : 4096, out, out_len, e);
}

static bool write_all(int fd, struct str content)
{
	while (content.len) {
		ssize_t n = write(fd, content.ptr, content.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		content = str_from(content, (size_t)n);
	}
	return true;
}

/* The rename itself is durable only when the folder has been synced. */
static void sync_folder(const char *path)
{
	struct str dir, base;
	size_t at;
	base = str_of(path);
	dir = str_rfind(base, '/', &at) ? str_sub(base, 0, at ? at : 1) : STR(".");
	cleanup(free_p) char *name = xstrndup(dir.ptr, dir.len);
	cleanup(close_p) int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd); /* some file systems cannot; the content is safe all the same */
}

bool file_write_atomic(const char *path, struct str content, unsigned mode, struct err *e)
{
	cleanup(free_p) char *tmp = xasprintf("%s.tmp-XXXXXX", path);
	cleanup(close_p) int fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "create a temporary file for %s", path);
	if (fchmod(fd, (mode_t)mode) || !write_all(fd, content) || fsync(fd) || rename(tmp, path)) {
		(void)err_errno(e, "write %s", path);
		(void)unlink(tmp);
		return false;
	}
	sync_folder(path);
	return true;
}

static bool make_one(const char *path, unsigned mode, struct err *e)
{
	struct stat st;
	if (!mkdir(path, (mode_t)mode))
		return true;
	int why = errno;
	if ((why == EEXIST || why == EROFS || why == EACCES || why == EPERM) && !stat(path, &st)) {
		if (S_ISDIR(st.st_mode))
			return true;
		return err_set(e, ERR_SYSTEM, "%s exists and is not a directory", path);
	}
	errno = why;
	return err_errno(e, "make directory %s", path);
}

bool file_mkdirs(const char *path, unsigned mode, struct err *e)
{
	cleanup(free_p) char *copy = xstrdup(path);
	for (char *p = copy; *p; p++) {
		if (*p != '/' || p == copy)
			continue;
		*p = 0;
		if (!make_one(copy, mode, e))
			return false;
		*p = '/';
	}
	return make_one(copy, mode, e);
}

bool file_exists(const char *path)
{
	struct stat st;
	return !stat(path, &st);
}

uint64_t file_stamp(const char *path)
{
	struct stat st;
	if (!path || stat(path, &st))
		return 0;
	const uint64_t parts[] = {
		st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
	return hash64(str_n(parts, sizeof(parts))) | 1;
}
