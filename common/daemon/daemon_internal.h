/*
 * The daemon's state, shared by daemon.c (life cycle), pages.c (HTTP pages) and process.c (what the kernel knows about
 * this process). Everything on the loop's thread.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"
#include "common/daemon/admin.h"
#include "common/daemon/daemon.h"
#include "common/daemon/option_internal.h"

/* The options every daemon has; the daemon's own config struct follows it in memory. */
struct common_config {
	const char *config;
	const char *admin_address;
	const char *controlz_address;
	uint32_t controlz_port;
	const char *log_level;
	const char *log_format;
	const char *bus;
	const char *bus_keys;
	const char *state_dir;
	const char *instance;
	uint64_t drain_timeout_ms;
	bool version;
	bool help;
};

struct daemon_page_ctx {
	struct daemon *daemon;
	const struct debug_page *page;
};

struct daemon {
	const struct daemon_def *def;
	struct arena *arena; /* options and their strings */
	struct option_row *rows; /* common and own, offsets into config */
	size_t n_rows;
	struct option_set options;
	void *config;
	struct common_config *common;
	struct loop *loop;
	struct admin *admin;
	struct controlz *controlz;
	VEC(struct admin *) more_admins; /* of daemon_open_pages() */
	int argc;
	char **argv;
	struct timer *drain_timer;
	VEC(struct signal_watch *) signals;
	struct map *reasons; /* why not ready: key -> char * */
	struct map *notes;
	void *self;
	bool draining;
	bool finished;
	int exit_code;
};

/* pages.c */
void daemon_mount_pages(struct daemon *d, struct admin *a);
void daemon_write_state(const struct daemon *d, struct strbuf *out); /* the lines of /readyz */

/* process.c: process_* metrics and fairlead_build_info; memory as members of a JSON object. */
void process_metrics_start(const char *program);
void process_write_memory(struct strbuf *out);
