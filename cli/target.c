/*
 * DOC: Finding the mesh. The user's folder is $XDG_RUNTIME_DIR/fairlead, or /tmp/fairlead-UID, which must be the user's own, because anybody
 * may make a directory in /tmp. A mesh runs when somebody answers on its control socket.
 */
#include "cli/target.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/io/addr.h"
#include "common/io/file.h"

static char *base_folder(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	/* Short, because Unix socket paths end at 107 bytes. */
	if (!str_empty(run) && strlen(run) < 36)
		return xasprintf("%s/fairlead", run);
	return xasprintf("/tmp/fairlead-%u", (unsigned)geteuid());
}

static char *entry(const char *path)
{
	char *base cleanup(free_p) = base_folder();
	char *real cleanup(free_p) = realpath(path, NULL);
	return xasprintf("%s/%08x", base, (unsigned)hash64(str_of(real ? real : path)));
}

char *target_default_state(const char *dir)
{
	return entry(dir);
}

static bool own_folder(const char *path, struct err *e)
{
	struct stat st;
	if (!file_mkdirs(path, 0700, e))
		return false;
	if (lstat(path, &st))
		return err_errno(e, "%s", path);
	return (S_ISDIR(st.st_mode) && st.st_uid == geteuid()) ||
	       err_set(e, ERR_DENIED, "%s is not a directory of this user", path);
}

bool target_remember(const char *dir, const char *state, char **link, struct err *e)
{
	char *base cleanup(free_p) = base_folder();
	char *usual cleanup(free_p) = target_default_state(dir);
	char *real cleanup(free_p) = realpath(usual, NULL);
	if (!own_folder(base, e))
		return false;
	if (streq(real, state))
		return true;
	char *path = entry(state);
	(void)unlink(path);
	if (symlink(state, path)) {
		(void)err_errno(e, "link %s", path);
		free(path);
		return false;
	}
	*link = path;
	return true;
}

void target_forget(const char *link)
{
	if (link)
		(void)unlink(link);
}

static bool answers(const char *state)
{
	char *path cleanup(free_p) = xasprintf("unix:%s/up.sock", state);
	struct addr a;
	if (!addr_parse(str_of(path), &a, NULL))
		return false;
	int fd cleanup(close_p) = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, (struct sockaddr *)&a.sa, a.len) == 0;
}

static bool only_running(struct arena *a, const char **state, struct err *e)
{
	char *base cleanup(free_p) = base_folder();
	struct strbuf found = {0};
	size_t n = 0;
	DIR *dir = opendir(base);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		char *below cleanup(free_p) = xasprintf("%s/%s", base, d->d_name);
		char *real cleanup(free_p) = d->d_name[0] == '.' ? NULL : realpath(below, NULL);
		if (!real || !answers(real))
			continue;
		*state = arena_strdup(a, real);
		strbuf_addf(&found, "%s%s", n++ ? ", " : "", real);
	}
	if (dir)
		(void)closedir(dir);
	if (n == 0)
		(void)err_set(e, ERR_SYSTEM,
			"no mesh of this user runs here (looked in %s): start one with `fairlead up DIR`, or name "
			"one with --state",
			base);
	else if (n > 1)
		(void)err_set(e, ERR_PEER, "several meshes run here: choose one with --state: %s", found.ptr);
	strbuf_done(&found);
	return n == 1;
}

bool target_state(struct arena *a, const char *named, const char **state, struct err *e)
{
	if (str_empty(named))
		return only_running(a, state, e);
	char *real cleanup(free_p) = realpath(named, NULL);
	if (!real)
		return err_errno(e, "--state %s", named);
	*state = arena_strdup(a, real);
	return true;
}

bool target_daemon(struct arena *a, const char *daemon, const char *named, const char *state_named,
	const char **address, struct err *e)
{
	const char *state = NULL;
	if (!str_empty(named)) {
		*address = named;
		return true;
	}
	if (!target_state(a, state_named, &state, e))
		return false;
	*address = arena_printf(a, "unix:%s/%s.admin", state, daemon);
	return true;
}
