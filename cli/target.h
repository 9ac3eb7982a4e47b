/*
 * Which mesh a command means. A machine-local mesh is its state directory, which holds the control socket of `fairlead up`, the admin
 * sockets of the daemons and the bus. State directories lie below one folder of the user, so that the only running one can be found; one of
 * the user's choice is linked there while it runs.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"

/* The state directory that `fairlead up` takes for a configuration directory; the caller frees it. */
char *target_default_state(const char *dir);
/* Links a state directory that is not dir's default one; the caller frees *link, which is NULL when no link is needed. */
bool target_remember(const char *dir, const char *state, char **link, struct err *e) MUST_CHECK;
void target_forget(const char *link); /* NULL is fine */
/* The state directory: `named` if given, else that of the only running mesh. */
bool target_state(struct arena *a, const char *named, const char **state, struct err *e) MUST_CHECK;
/* The admin address of a daemon: `named` ("127.0.0.1:15014", "unix:/path") if given, else its socket in the state directory. */
bool target_daemon(struct arena *a, const char *daemon, const char *named, const char *state_named,
	const char **address, struct err *e) MUST_CHECK;
