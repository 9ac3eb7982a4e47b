/*
 * One skeleton for all daemons: options, logging, the admin HTTP server (/healthz /readyz /metrics /debug/list /debug/<page>
 * /debug/logging to read and change levels, /debug/options, /version), signals, drain and exit codes. A daemon's main.c is tables plus DAEMON(...).
 *
 * SIGTERM/SIGINT: drain() is called, then stop() when it reports done or --drain-timeout passes. SIGHUP: reload(). SIGUSR1: state to the log. A second SIGTERM ends at once.
 * Exit codes: 0 asked to stop, 1 could not start or run, 2 wrong usage.
 *
 * Options that every daemon has (do not add them again): --config, --admin-address (default 127.0.0.1:<admin_port of the daemon>),
 * --ctrlz-address, --ctrlz-port (ControlZ: Istio's introspection port, see controlz.h),
 * --log-level, --log-format text|json, --bus, --bus-keys, --state-dir, --instance, --drain-timeout, --version, --help.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/daemon/option.h"
#include "common/io/loop.h"

struct daemon; /* handed to the hooks */
struct admin;

/* A JSON page at /debug/<name>[?query]. Writes one JSON value to out. Runs on the loop's thread. */
struct debug_page {
	const char *name;
	const char *help;
	void (*write)(void *self, struct str query, struct strbuf *out);
};

/* Commands that run instead of the daemon (`citadel token ...`): argv[0] is the command's name. Returns the exit code. */
struct daemon_command {
	const char *name;
	const char *help;
	int (*run)(int argc, char **argv);
};

struct daemon_def {
	const char *name; /* "pilot" */
	const char *summary;
	unsigned admin_port; /* default of --admin-address */
	bool controlz; /* --ctrlz_address is localhost by default, not off */
	const char *drain_timeout; /* default of --drain-timeout; NULL: 5s */
	const struct option_row *options;
	size_t n_options;
	const struct debug_page *pages;
	size_t n_pages;
	const struct daemon_command *commands;
	size_t n_commands;
	size_t config_size; /* of the daemon's own config struct */
	/* Creates the daemon's state; false: exit 1 with e. */
	bool (*start)(struct daemon *d, const void *config, void **self, struct err *e);
	void (*drain)(void *self); /* NULL: nothing to drain; calls daemon_drained() when done */
	void (*stop)(void *self);
	bool (*reload)(void *self, struct err *e); /* NULL: SIGHUP is ignored */
};

int daemon_main(const struct daemon_def *def, int argc, char **argv);

struct loop *daemon_loop(const struct daemon *d);
struct admin *daemon_admin(
	const struct daemon *d); /* for pages that are no debug pages; open from before start() until after stop() */
/* The daemon's pages at one more address, until it ends. */
bool daemon_open_pages(struct daemon *d, const char *address, struct err *e) MUST_CHECK;
const char *daemon_bus(const struct daemon *d); /* --bus */
const char *daemon_bus_keys_dir(const struct daemon *d); /* --bus-keys, NULL when not given */
const char *daemon_state_dir(const struct daemon *d); /* --state-dir, exists; NULL when not given */
const char *daemon_instance(const struct daemon *d); /* --instance, default host name-pid */
/* /readyz: the reasons that hold; an empty set is ready (200), else 503 with the reasons as text. Keys are constant strings. */
void daemon_not_ready(struct daemon *d, const char *key, const char *reason);
void daemon_ready(struct daemon *d, const char *key);
/* Informational lines that /readyz shows without failing ("serving snapshot of 12 s ago"). */
void daemon_note(struct daemon *d, const char *key, const char *text); /* text NULL removes */
void daemon_drained(struct daemon *d);
void daemon_fail(struct daemon *d, const struct err *e); /* logs and stops with exit code 1 */

#define DAEMON(def) \
	int main(int argc, char **argv) \
	{ \
		return daemon_main(&(def), argc, argv); \
	}
