/*
 * The running mesh: daemons and pods as supervised processes. A unit is wanted or not; a wanted one that ends is started again with backoff.
 * One loop, one thread.
 */
#pragma once

#include "cli/up/spec.h"
#include "common/io/loop.h"
#include "common/io/proc.h"

enum unit_kind { UNIT_DAEMON, UNIT_POD };

struct unit {
	struct mesh *mesh;
	enum unit_kind kind;
	const char *name; /* "pilot", "default/reviews-v1" */
	const char *const *argv;
	char *log_path;
	struct proc *proc;
	struct timer *restart;
	uint64_t started_ms;
	uint64_t backoff_ms;
	unsigned starts;
	bool wanted;
	bool ending; /* SIGTERM was sent */
	uint64_t pod_hash; /* UNIT_POD */
	struct unit *next;
};

struct mesh {
	struct loop *loop;
	struct arena *arena; /* lives as long as the mesh: argument lists */
	struct mesh_paths paths;
	struct arena *pods_arena; /* of the current list */
	struct pods pods;
	struct unit *units;
	bool stopping;
	bool daemons_told; /* to stop, after the last pod ended */
	struct timer *grace;
	struct timer *token_timer;
	struct timer *nudge;
	struct hosts *hosts;
};

/* Makes the units of the control plane and starts those in `only` (NULL or empty: all). */
void mesh_start_daemons(struct mesh *m, const char *const *only);
/*
 * Brings the pods that run in line with the directory: new ones start, changed ones restart, gone ones stop. A file that is being written
 * looks empty for a moment: when a pod is gone and `sure` is not set, nothing is done, and *again says that a second look is wanted.
 */
bool mesh_apply_pods(struct mesh *m, bool sure, bool *again, struct err *e) MUST_CHECK;
/* What the directory says of a pod's unit; NULL: nothing any more. */
const struct pod *mesh_pod(const struct mesh *m, const struct unit *u);
struct unit *mesh_unit(struct mesh *m, const char *name);
void unit_start(struct unit *u);
void unit_stop(struct unit *u); /* SIGTERM, not started again */
void unit_kill(struct unit *u); /* SIGKILL; a wanted unit comes back */
/* SIGTERM to pods, then to daemons; stops the loop when all have ended, after a grace period, or at the second call. What still runs
 * then is killed by mesh_free(). */
void mesh_stop(struct mesh *m);
void mesh_free(struct mesh *m);
void mesh_write_json(const struct mesh *m, struct strbuf *out);
