/* The options of every command that asks a running mesh, as rows for its table. `type` is the command's config struct with a member `mesh`. */
#pragma once

#include "cli/output.h"

struct mesh_options {
	const char *state;
	const char *output;
	const char *galley, *pilot, *citadel; /* admin addresses; NULL: found by the state directory */
	uint64_t timeout_ms;
};

#define STATE_ROW(type) \
	{ \
		.name = "state", \
		OPT_STR(type, mesh.state, NULL, "state directory of the mesh (default: the only one that runs here)") \
	}
#define TIMEOUT_ROW(type) \
	{ \
		.name = "timeout", OPT_MS(type, mesh.timeout_ms, "5s", 1, 600000, "how long to wait for an answer") \
	}
#define DAEMON_ROW(type, daemon) \
	{ \
		.name = #daemon, OPT_STR(type, mesh.daemon, NULL, \
					 "admin address of " #daemon " (HOST:PORT or unix:PATH) instead of --state") \
	}
