/*
 * DOC: Watching a tree with inotify. Any event means "look again"; what it says of a file is passed on as a hint and nothing more. After the quiet period the tree is
 * walked and every directory gets a watch (adding one twice is harmless), and only then fn is called, so that what appeared in a
 * directory before it was watched is found by the caller's own look. Where watches run out, the tree is looked at each second.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/base/vec.h"
#include "common/io/file.h"

#define MAX_DEPTH 32
#define POLL_MS 1000
#define MAX_QUIETS 3 /* constant change is reported all the same, at the latest one quiet period after so many */
#define EVENTS \
	(IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | \
		IN_MOVE_SELF)

struct dir_watch {
	char *root;
	uint64_t quiet_ms;
	void (*fn)(void *ctx);
	void (*on_file)(void *ctx, const char *path, bool complete);
	void *ctx;
	VEC(char *) paths; /* by watch descriptor */
	int fd;
	struct watch *readable;
	struct timer *quiet;
	struct timer *poll;
	uint64_t first_ms; /* of the events that wait for the quiet period; 0: none */
	bool polling;
	bool tree_changed; /* directories may have come or gone */
};

static void remember(struct dir_watch *w, int wd, const char *path)
{
	while (w->paths.len <= (size_t)wd)
		vec_push(&w->paths, NULL);
	if (streq(w->paths.items[wd], path))
		return;
	free(w->paths.items[wd]);
	w->paths.items[wd] = xstrdup(path);
}

static void add_tree(struct dir_watch *w, const char *path, unsigned depth)
{
	int wd = inotify_add_watch(w->fd, path, EVENTS);
	if (wd >= 0)
		remember(w, wd, path);
	else if (errno == ENOSPC || errno == ENOMEM)
		w->polling = true;
	DIR *dir = depth < MAX_DEPTH ? opendir(path) : NULL;
	if (!dir)
		return;
	const struct dirent *entry;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (entry->d_type == DT_REG)
			continue;
		char *below = xasprintf("%s/%s", path, entry->d_name);
		struct stat st;
		if (stat(below, &st) == 0 && S_ISDIR(st.st_mode))
			add_tree(w, below, depth + 1);
		free(below);
	}
	(void)closedir(dir);
}

/* A single file is watched through its folder, because editors replace files. */
static void add_root(struct dir_watch *w)
{
	struct stat st;
	w->polling = false;
	if (stat(w->root, &st) != 0) {
		w->polling = true; /* it may come back */
	} else if (S_ISDIR(st.st_mode)) {
		add_tree(w, w->root, 0);
	} else {
		struct str folder = str_of(w->root);
		size_t slash;
		folder = str_rfind(folder, '/', &slash) ? str_sub(folder, 0, slash ? slash : 1) : STR(".");
		char *path = xstrndup(folder.ptr, folder.len);
		if (inotify_add_watch(w->fd, path, EVENTS) < 0)
			w->polling = true;
		free(path);
	}
	if (!w->polling)
		timer_stop(w->poll);
	else if (!timer_active(w->poll))
		timer_start(w->poll, POLL_MS, POLL_MS);
}

static void report(void *ctx)
{
	struct dir_watch *w = ctx;
	w->first_ms = 0;
	if (w->polling && w->on_file)
		w->on_file(w->ctx, NULL, false);
	if (w->tree_changed || w->polling)
		add_root(w);
	w->tree_changed = false;
	w->fn(w->ctx);
}

/* Events of single files are told; all else (directories, links that are swapped, lost events) may concern the whole tree. */
static void tell(struct dir_watch *w, const struct inotify_event *e)
{
	size_t wd = (size_t)e->wd;
	bool single = e->wd >= 0 && e->len && wd < w->paths.len && w->paths.items[wd] && !(e->mask & IN_ISDIR) &&
		      e->name[0] != '.';
	w->tree_changed |= !single;
	if (!w->on_file)
		return;
	cleanup(free_p) char *path = single ? xasprintf("%s/%s", w->paths.items[wd], e->name) : NULL;
	w->on_file(w->ctx, path, (e->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0);
}

static void on_events(void *ctx, int events)
{
	struct dir_watch *w = ctx;
	_Alignas(struct inotify_event) char buffer[16384];
	bool any = false;
	ssize_t n;
	(void)events;
	while ((n = read(w->fd, buffer, sizeof(buffer))) > 0) {
		any = true;
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const void *)(buffer + at);
			tell(w, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	}
	if (!any)
		return;
	uint64_t now = clock_mono_ms();
	if (w->first_ms == 0)
		w->first_ms = now;
	if (!timer_active(w->quiet) || now - w->first_ms < MAX_QUIETS * w->quiet_ms)
		timer_start(w->quiet, w->quiet_ms, 0);
}

void dir_watch_files(struct dir_watch *w, void (*fn)(void *ctx, const char *path, bool complete))
{
	w->on_file = fn;
}

struct dir_watch *dir_watch_new(
	struct loop *l, const char *root, uint64_t quiet_ms, void (*fn)(void *ctx), void *ctx, struct err *e)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0) {
		(void)err_errno(e, "inotify");
		return NULL;
	}
	struct dir_watch *w = xzalloc(sizeof(*w));
	size_t len = strlen(root);
	while (len > 1 && root[len - 1] == '/')
		len--;
	w->root = xstrndup(root, len);
	w->quiet_ms = quiet_ms ? quiet_ms : 1;
	w->fn = fn;
	w->ctx = ctx;
	w->fd = fd;
	w->quiet = timer_new(l, report, w);
	w->poll = timer_new(l, report, w);
	w->readable = watch_new(l, fd, WATCH_READ, on_events, w);
	add_root(w);
	return w;
}

void dir_watch_free(struct dir_watch *w)
{
	if (!w)
		return;
	watch_free(w->readable);
	timer_free(w->quiet);
	timer_free(w->poll);
	(void)close(w->fd);
	for (size_t i = 0; i < w->paths.len; i++)
		free(w->paths.items[i]);
	vec_done(&w->paths);
	free(w->root);
	free(w);
}
