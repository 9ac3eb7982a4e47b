/*
 * Child processes. A child dies with its parent (PR_SET_PDEATHSIG) unless told otherwise. The exit callback comes once.
 */
#pragma once

#include "common/io/loop.h"

struct proc;

struct proc_options {
	const char *const *argv; /* argv[0] is searched on PATH */
	const char *const *env; /* NULL: inherit; else the whole environment, NULL-terminated "K=V" */
	const char *cwd;
	int stdout_fd; /* -1: inherit */
	int stderr_fd; /* -1: inherit */
	int uid; /* -1: unchanged */
	int gid;
	bool survives_parent;
	bool new_pid_namespace; /* the child is its first process: when it ends, by whatever, everything below it ends too */
	bool own_group; /* a process group of its own: a terminal's Ctrl-C does not reach it */
	int netns_fd; /* -1: unchanged; else setns() before exec */
	bool keep_cap_net_admin; /* ambient CAP_NET_ADMIN, CAP_NET_BIND_SERVICE survive the change of uid */
};
#define PROC_OPTIONS_INIT \
	{ \
		.stdout_fd = -1, .stderr_fd = -1, .uid = -1, .gid = -1, .netns_fd = -1 \
	}

struct proc *proc_start(struct loop *l, const struct proc_options *o, void (*on_exit)(void *ctx, int status, int signo),
	void *ctx, struct err *e) MUST_CHECK;
int proc_pid(const struct proc *p);
bool proc_running(const struct proc *p);
void proc_kill(struct proc *p, int signo);
void proc_free(struct proc *p); /* kills with SIGKILL and reaps when still running; no callback */
