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
 * links are followed, as Kubernetes' volumes need; the depth is bounded, so that a loop of links ends. What was hinted is looked at
 * alone: a change costs the same whatever number of files there are. What was not handed on is hinted again for the next scan.
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
	bool complete; /* the kernel says so */
	bool settled; /* its content, or its absence, counts */
	int64_t missing_since; /* 0: it is there */
	char *text; /* read in this scan, not yet handed on */
	size_t len;
};

struct directory {
	char *root;
	struct map *files;
	struct map *hinted; /* paths to look at, and files that have not settled -> &is_complete or d */
	VEC(struct file *) looked_at; /* during a scan */
	bool everything; /* look at all, whatever was hinted */
	bool watched; /* there are hints */
	int64_t unsettled_since; /* 0: nothing is pending */
	bool busy; /* the last batch left something behind: changes come without a pause */
};

static const char is_complete; /* its address is a value of `hinted` */

struct directory *directory_new(const char *root)
{
	struct directory *d = xzalloc(sizeof(*d));
	size_t len = strlen(root);
	while (len > 1 && root[len - 1] == '/')
		len--;
	d->root = xstrndup(root, len);
	d->files = map_new();
	d->hinted = map_new();
	d->everything = true;
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
	map_free(d->hinted);
	vec_done(&d->looked_at);
	free(d->root);
	free(d);
}

void directory_hint(struct directory *d, const char *path, bool complete)
{
	d->watched = true;
	if (!path || map_len(d->hinted) >= LIMIT_SOURCE_FILES)
		d->everything = true;
	else
		(void)map_put(d->hinted, str_of(path), complete ? (void *)(uintptr_t)&is_complete : (void *)d);
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
	const void *hint = map_get(d->hinted, str_of(path));
	if (hint)
		f->complete = hint == &is_complete;
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
		if (entry->d_name[0] == '.' || (entry->d_type == DT_REG && !wanted(entry->d_name)))
			continue;
		char *below = xasprintf("%s/%s", path, entry->d_name);
		struct stat st;
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0) {
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

static bool look_at_everything(struct directory *d, struct err *e)
{
	struct str key;
	void *value;
	struct stat st;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);)
		((struct file *)value)->seen = false;
	if (stat(d->root, &st) != 0)
		return err_errno(e, "%s", d->root);
	if (!S_ISDIR(st.st_mode))
		note(d, d->root, &st);
	else if (!walk(d, d->root, 0, e))
		return false;
	for (size_t i = 0; map_next(d->files, &i, &key, &value);)
		vec_push(&d->looked_at, (struct file *)value);
	return true;
}

static bool look(struct directory *d, struct err *e)
{
	struct str path;
	void *value;
	d->looked_at.len = 0;
	if (d->everything || !d->watched || !map_len(d->hinted))
		return look_at_everything(d, e);
	for (size_t i = 0; map_next(d->hinted, &i, &path, &value);) {
		struct stat st;
		size_t slash;
		struct str name = str_rfind(path, '/', &slash) ? str_from(path, slash + 1) : path;
		struct file *f = map_get(d->files, path);
		if (wanted(name.ptr) && stat(path.ptr, &st) == 0 && S_ISREG(st.st_mode))
			note(d, path.ptr, &st);
		else if (f)
			f->seen = false;
		f = map_get(d->files, path);
		if (f)
			vec_push(&d->looked_at, f);
	}
	return true;
}

static bool is_fresh(const struct file *f, int64_t wall_ms, const struct directory_ops *ops, void *ctx)
{
	int64_t age = wall_ms - f->stamp.mtime_ns / 1000000;
	if (!f->complete && age >= 0 && age < DIRECTORY_SETTLE_MS)
		return true;
	if (age >= DIRECTORY_PATIENCE_MS)
		return false;
	return !f->text || (ops->looks_whole && !ops->looks_whole(ctx, str_of(f->name), str_n(f->text, f->len)));
}

static bool is_gone(struct file *f, int64_t wall_ms)
{
	if (!f->missing_since)
		f->missing_since = wall_ms;
	return wall_ms - f->missing_since >= DIRECTORY_PATIENCE_MS;
}

/* Reads what changed; false when some file should be given more time. */
static bool read_changed(
	struct directory *d, int64_t wall_ms, const struct directory_ops *ops, void *ctx, struct err *e)
{
	bool settled = true;
	for (size_t i = 0; i < d->looked_at.len; i++) {
		struct file *f = d->looked_at.items[i];
		struct err why = {0};
		if (!f->seen) {
			f->settled = is_gone(f, wall_ms);
			settled &= f->settled;
			continue;
		}
		f->missing_since = 0;
		if (!f->changed)
			continue;
		free(take(f->text));
		if (!file_read(f->name, LIMIT_FILE_BYTES, &f->text, &f->len, &why)) {
			if (e)
				*e = why;
			f->text = NULL;
		}
		f->settled = !is_fresh(f, wall_ms, ops, ctx);
		settled &= f->settled;
	}
	return settled;
}

static void drop(struct directory *d, struct file *f, const struct directory_ops *ops, void *ctx)
{
	ops->remove(ctx, str_of(f->name));
	(void)map_del(d->files, str_of(f->name));
	file_free(f);
}

static bool is_to_put(const struct file *f)
{
	return f->seen && f->settled && f->changed && f->text;
}

static void tell_ahead(const struct directory *d, const struct directory_ops *ops, void *ctx)
{
	VEC(struct source_text) files = {0};
	for (size_t i = 0; ops->ahead && i < d->looked_at.len; i++) {
		const struct file *f = d->looked_at.items[i];
		if (is_to_put(f))
			vec_push(&files, ((struct source_text){str_of(f->name), str_n(f->text, f->len)}));
	}
	if (files.len)
		ops->ahead(ctx, files.items, files.len);
	vec_done(&files);
}

/* Leaves in the list what is still there. */
static void hand_on(struct directory *d, const struct directory_ops *ops, void *ctx)
{
	VEC(struct file *) gone = {0};
	size_t kept = 0;
	tell_ahead(d, ops, ctx);
	for (size_t i = 0; i < d->looked_at.len; i++) {
		struct file *f = d->looked_at.items[i];
		if (f->settled && !f->seen) {
			vec_push(&gone, f);
			continue;
		}
		d->looked_at.items[kept++] = f;
		if (is_to_put(f)) {
			ops->put(ctx, str_of(f->name), str_n(f->text, f->len));
			free(take(f->text));
			f->reported = true;
			f->changed = false;
		}
	}
	d->looked_at.len = kept;
	for (size_t i = 0; i < gone.len; i++)
		drop(d, gone.items[i], ops, ctx);
	vec_done(&gone);
}

/* What was not handed on is looked at again by the next scan, whatever is hinted until then. */
static void keep_pending(struct directory *d)
{
	d->everything = false;
	map_clear(d->hinted);
	for (size_t i = 0; i < d->looked_at.len; i++) {
		const struct file *f = d->looked_at.items[i];
		if (f->changed || !f->seen)
			(void)map_put(
				d->hinted, str_of(f->name), f->complete ? (void *)(uintptr_t)&is_complete : (void *)d);
	}
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
	int64_t patience = d->busy ? DIRECTORY_BUSY_MS : DIRECTORY_PATIENCE_MS;
	if (!settled && waited >= 0 && waited < patience) {
		*retry_ms = DIRECTORY_SETTLE_MS;
		keep_pending(d);
		return true;
	}
	d->busy = !settled;
	d->unsettled_since = 0;
	*retry_ms = settled ? 0 : DIRECTORY_SETTLE_MS;
	hand_on(d, ops, ctx);
	keep_pending(d);
	return true;
}
