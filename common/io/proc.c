/*
 * DOC: Child processes. fork(2) and exec with a close-on-exec pipe on which the child reports the step that failed, so that
 * "no such program" is an error of proc_start() and not a strange exit code. The end of the child is a readable pidfd on the
 * loop: no SIGCHLD handler, no race with other children, no reaping of somebody else's.
 *
 * Between fork and exec only what is async-signal-safe is called: daemons have threads.
 */
#include "common/io/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io/scopes.h"

struct proc {
	int pid;
	int pidfd;
	struct watch *watch;
	void (*on_exit)(void *ctx, int status, int signo);
	void *ctx;
	bool running;
};

/* What the child tells through the pipe when it could not become the program. */
struct failure {
	int error;
	char step[32];
};

static void fail(int pipe_fd, const char *step)
{
	struct failure f = {.error = errno};
	strncpy(f.step, step, sizeof(f.step) - 1);
	(void)!write(pipe_fd, &f, sizeof(f));
	_exit(127);
}

static void reset_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Of the two capabilities, those that the process has become inheritable and ambient, so that exec keeps them. */
static void keep_caps(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {0};
	if (syscall(SYS_capget, &head, caps))
		return;
	const uint32_t wanted = (1u << CAP_NET_ADMIN) | (1u << CAP_NET_BIND_SERVICE);
	uint32_t have = caps[0].permitted & wanted;
	memset(caps, 0, sizeof(caps));
	caps[0].permitted = caps[0].effective = caps[0].inheritable = have;
	if (syscall(SYS_capset, &head, caps))
		return;
	if (have & (1u << CAP_NET_ADMIN))
		(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
	if (have & (1u << CAP_NET_BIND_SERVICE))
		(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0);
}

static void change_user(const struct proc_options *o, int report)
{
	/* In a user namespace setgroups may be forbidden; there are no foreign groups to lose there. */
	if ((o->uid >= 0 || o->gid >= 0) && setgroups(0, NULL) && errno != EPERM)
		fail(report, "setgroups");
	if (o->gid >= 0 && setresgid((gid_t)o->gid, (gid_t)o->gid, (gid_t)o->gid))
		fail(report, "setgid");
	if (o->keep_cap_net_admin && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		fail(report, "keep capabilities");
	if (o->uid >= 0 && setresuid((uid_t)o->uid, (uid_t)o->uid, (uid_t)o->uid))
		fail(report, "setuid");
	if (o->keep_cap_net_admin)
		keep_caps();
}

/* In a namespace of its own the child has no parent to name; there the pipe tells, whose other end only the parent has. */
static bool parent_is_gone(const struct proc_options *o, int report, int parent)
{
	struct pollfd p = {.fd = report, .events = POLLOUT};
	if (!o->new_pid_namespace)
		return getppid() != parent;
	return poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
}

static void child(const struct proc_options *o, int report, int parent)
{
	reset_signals();
	if (o->own_group)
		(void)setpgid(0, 0);
	/* Copies first: stdout_fd may itself be 2, or stderr_fd 1. */
	int out = o->stdout_fd >= 0 ? fcntl(o->stdout_fd, F_DUPFD, 3) : -1;
	int err = o->stderr_fd >= 0 ? fcntl(o->stderr_fd, F_DUPFD, 3) : -1;
	if ((o->stdout_fd >= 0 && dup2(out, 1) < 0) || (o->stderr_fd >= 0 && dup2(err, 2) < 0))
		fail(report, "redirect output");
	if (o->netns_fd >= 0 && setns(o->netns_fd, CLONE_NEWNET))
		fail(report, "enter network namespace");
	change_user(o, report);
	if (o->cwd && chdir(o->cwd))
		fail(report, "change directory");
	/* After the change of user, which clears it. The parent may be gone already: then nobody would tell us. */
	if (!o->survives_parent && prctl(PR_SET_PDEATHSIG, SIGKILL))
		fail(report, "set parent-death signal");
	if (!o->survives_parent && parent_is_gone(o, report, parent))
		_exit(127);
	(void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
	char *const *argv = (char *const *)(uintptr_t)o->argv;
	if (o->env)
		(void)execvpe(argv[0], argv, (char *const *)(uintptr_t)o->env);
	else
		(void)execvp(argv[0], argv);
	fail(report, "execute");
}

static void on_pidfd(void *ctx, int events)
{
	(void)events;
	struct proc *p = ctx;
	int status = 0;
	pid_t got = waitpid(p->pid, &status, WNOHANG);
	if (got == 0 || (got < 0 && errno == EINTR))
		return;
	watch_free(take(p->watch));
	p->running = false;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	log_debug(&io_log, "child ended", KV("pid", p->pid), KV("status", code), KV("signal", signo));
	if (p->on_exit)
		p->on_exit(p->ctx, code, signo);
}

/* True when the child became the program. */
static bool await_exec(int report, pid_t pid, const struct proc_options *o, struct err *e)
{
	struct failure f;
	ssize_t n;
	do
		n = read(report, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return true;
	(void)waitpid(pid, NULL, 0);
	if (n != (ssize_t)sizeof(f))
		return err_set(e, ERR_SYSTEM, "start %s: no report from the child", o->argv[0]);
	return err_set(e, ERR_SYSTEM, "start %s: %s: %s", o->argv[0], f.step, strerror(f.error));
}

struct proc *proc_start(struct loop *l, const struct proc_options *o, void (*on_exit)(void *ctx, int status, int signo),
	void *ctx, struct err *e)
{
	int report[2];
	if (pipe2(report, O_CLOEXEC)) {
		(void)err_errno(e, "start %s: pipe", o->argv[0]);
		return NULL;
	}
	int parent = getpid();
	pid_t pid = o->new_pid_namespace ? (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0) : fork();
	if (pid == 0) {
		(void)close(report[0]); /* so that the parent's is the only one */
		child(o, report[1], parent);
	}
	(void)close(report[1]);
	cleanup(close_p) int read_end = report[0];
	if (pid < 0) {
		(void)err_errno(e, "start %s: fork", o->argv[0]);
		return NULL;
	}
	if (!await_exec(read_end, pid, o, e))
		return NULL;
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
	if (pidfd < 0) {
		(void)err_errno(e, "start %s: pidfd_open", o->argv[0]);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return NULL;
	}
	struct proc *p = xzalloc(sizeof(*p));
	*p = (struct proc){.pid = pid, .pidfd = pidfd, .on_exit = on_exit, .ctx = ctx, .running = true};
	p->watch = watch_new(l, pidfd, WATCH_READ, on_pidfd, p);
	return p;
}

int proc_pid(const struct proc *p)
{
	return p->pid;
}

bool proc_running(const struct proc *p)
{
	return p->running;
}

void proc_kill(struct proc *p, int signo)
{
	if (p->running)
		(void)syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0u);
}

void proc_free(struct proc *p)
{
	if (!p)
		return;
	watch_free(p->watch);
	if (p->running) {
		(void)kill(p->pid, SIGKILL);
		while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	(void)close(p->pidfd);
	free(p);
}
