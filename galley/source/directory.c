#include "galley/source/directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/vec.h"
#include "common/io/file.h"

/*
 * DOC: Scanning. A scan looks at every file's status and reads only those whose modification time, size or inode changed. Symbolic
 * links are followed, as Kubernetes' volumes need; the depth is bounded, so that a loop of links ends.
 */

#define MAX_DEPTH 32

struct stamp {
	int64_t mtime_ns;
	uint64_t size, inode;
};

struct file {
	char *name; /* path as given: root, then relative */
	struct stamp stamp;
	bool reported; /* its content was handed on */
	bool seen; /* in this scan */
	bool changed;
	char *text; /* read in this scan, not yet handed on */
	size_t len;
};

struct directory {
	char *root;
	struct map *files;
	int64_t unsettled_since; /* 0: nothing is pending */
};

struct directory *directory_new(const char *root)
{
	struct directory *d = xzalloc(sizeof(*d));
	size_t len = strlen(root);
	while (len > 1 && root[len - 1] == '/')
		len--;
	d->root = xstrndup(root, len);
	d->files = map_new();
	return d;
}

static void file_free(struct file *f)
{
	free(f->text);
	free(f->name);
	free(f);
}

void directory_free(struct directory *d)
{
	struct str key;
	void *value;
	if (!d)
		return;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);)
		file_free(value);
	map_free(d->files);
	free(d->root);
	free(d);
}

size_t directory_files(const struct directory *d)
{
	return map_len(d->files);
}

static bool wanted(const char *name)
{
	struct str s = str_of(name);
	if (name[0] == '.' || name[0] == '#' || name[0] == '~')
		return false;
	return str_ends(s, STR(".yaml")) || str_ends(s, STR(".yml")) || str_ends(s, STR(".json"));
}

static void note(struct directory *d, const char *path, const struct stat *st)
{
	struct stamp stamp = {
		(int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec, (uint64_t)st->st_size, st->st_ino};
	struct file *f = map_get(d->files, str_of(path));
	if (!f) {
		if (map_len(d->files) >= LIMIT_SOURCE_FILES)
			return;
		f = xzalloc(sizeof(*f));
		f->name = xstrdup(path);
		(void)map_put(d->files, str_of(path), f);
	}
	f->seen = true;
	f->changed = !f->reported || f->stamp.mtime_ns != stamp.mtime_ns || f->stamp.size != stamp.size ||
		     f->stamp.inode != stamp.inode;
	f->stamp = stamp;
	if (f->changed)
		f->reported = false;
}

static bool walk(struct directory *d, const char *path, unsigned depth, struct err *e)
{
	DIR *dir = opendir(path);
	if (!dir)
		return err_errno(e, "%s", path);
	struct dirent *entry;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		char *below = xasprintf("%s/%s", path, entry->d_name);
		struct stat st;
		if (stat(below, &st) == 0) {
			if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
				(void)walk(d, below, depth + 1, NULL); /* gone again, or not ours to read */
			else if (S_ISREG(st.st_mode) && wanted(entry->d_name))
				note(d, below, &st);
		}
		free(below);
	}
	(void)closedir(dir);
	return true;
}

static bool look(struct directory *d, struct err *e)
{
	struct str key;
	void *value;
	struct stat st;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);)
		((struct file *)value)->seen = false;
	if (stat(d->root, &st) != 0)
		return err_errno(e, "%s", d->root);
	if (S_ISDIR(st.st_mode))
		return walk(d, d->root, 0, e);
	note(d, d->root, &st);
	return true;
}

/* Reads what changed; false when some file should be given more time. */
static bool read_changed(
	struct directory *d, int64_t wall_ms, const struct directory_ops *ops, void *ctx, struct err *e)
{
	struct str key;
	void *value;
	bool settled = true;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);) {
		struct file *f = value;
		int64_t age = wall_ms - f->stamp.mtime_ns / 1000000;
		if (!f->seen) {
			settled = false;
			continue;
		}
		if (!f->changed)
			continue;
		free(f->text);
		f->text = NULL;
		struct err why = {0};
		if (!file_read(f->name, LIMIT_FILE_BYTES, &f->text, &f->len, &why)) {
			if (e)
				*e = why;
			f->text = NULL;
			settled = false;
		} else if ((age >= 0 && age < DIRECTORY_SETTLE_MS) ||
			   (age < DIRECTORY_PATIENCE_MS && ops->looks_whole &&
				   !ops->looks_whole(ctx, key, str_n(f->text, f->len)))) {
			settled = false;
		}
	}
	return settled;
}

static void hand_on(struct directory *d, const struct directory_ops *ops, void *ctx)
{
	VEC(struct file *) gone = {0};
	struct str key;
	void *value;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);) {
		struct file *f = value;
		if (!f->seen) {
			vec_push(&gone, f);
		} else if (f->changed && f->text) {
			ops->put(ctx, key, str_n(f->text, f->len));
			free(take(f->text));
			f->reported = true;
		}
	}
	for (size_t i = 0; i < gone.len; i++) {
		ops->remove(ctx, str_of(gone.items[i]->name));
		(void)map_del(d->files, str_of(gone.items[i]->name));
		file_free(gone.items[i]);
	}
	vec_done(&gone);
}

bool directory_scan(struct directory *d, int64_t wall_ms, const struct directory_ops *ops, void *ctx,
	uint64_t *retry_ms, struct err *e)
{
	*retry_ms = 0;
	if (!look(d, e))
		return false;
	bool settled = read_changed(d, wall_ms, ops, ctx, e);
	if (!settled && d->unsettled_since == 0)
		d->unsettled_since = wall_ms;
	int64_t waited = wall_ms - d->unsettled_since;
	if (!settled && waited >= 0 && waited < DIRECTORY_PATIENCE_MS) {
		*retry_ms = DIRECTORY_SETTLE_MS;
		return true;
	}
	d->unsettled_since = 0;
	hand_on(d, ops, ctx);
	return true;
}
