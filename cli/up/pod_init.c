/*
 * DOC: The process that is a pod: it makes the pod's namespaces, sets up traffic capture, starts the agent and the application, starts them
 * again with backoff when they end, and on SIGTERM lets the agent drain before the application goes. It is to the pod what the kubelet and the
 * pause container are on Kubernetes. It is the first process of the pod's PID namespace: it reaps whatever loses its parent, and when it ends,
 * by whatever, the kernel ends everything in the pod.
 */
#include "cli/up/pod_init.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/up/listening.h"
#include "cli/up/netns.h"
#include "cli/up/pod_agent.h"
#include "cli/up/spec.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/file.h"
#include "common/io/proc.h"

#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 5000
#define STABLE_MS 10000 /* a child that lived this long starts again at once */
#define STOP_GRACE_MS 30000
#define APP_WAIT_MS 5000 /* an application may need its proxy before it listens */
#define APP_POLL_MS 50

LOG_SCOPE(pod_log, "pod", "a machine-local pod");

struct child {
	struct pod_init *pod;
	const char *name;
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	struct proc *proc;
	struct timer *restart;
	uint64_t started_ms;
	uint64_t backoff_ms;
	int log_fd;
};

struct pod_init {
	struct loop *loop;
	struct arena *arena;
	struct spec spec;
	struct child agent;
	struct child app;
	struct timer *deadline;
	uint64_t started_ms;
	bool stopping;
};

static void child_start(struct child *c);

/* The id by which the machine knows a child: /proc is the machine's, so that our children stand there with both ids. 0: not found. */
static int machine_pid(int inside)
{
	char self[32] = "", path[96];
	char *list cleanup(free_p) = NULL;
	size_t len = 0;
	struct str rest, child, line;
	if (readlink("/proc/self", self, sizeof(self) - 1) < 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/%s/task/%s/children", self, self);
	if (!file_read(path, 1u << 20, &list, &len, NULL))
		return 0;
	for (rest = str_n(list, len); str_split(&rest, ' ', &child);) {
		char *status cleanup(free_p) = NULL;
		uint32_t id = 0, last = 0;
		(void)snprintf(path, sizeof(path), "/proc/" STR_FMT "/status", STR_ARG(child));
		if (!str_u32(child, INT32_MAX, &id) || !file_read(path, 65536, &status, &len, NULL))
			continue;
		for (struct str lines = str_n(status, len); str_split(&lines, '\n', &line);) {
			size_t at;
			if (str_starts(line, STR("NSpid:")) && str_rfind(line, '\t', &at) &&
				str_u32(str_from(line, at + 1), INT32_MAX, &last) && (int)last == inside)
				return (int)id;
		}
	}
	return 0;
}

static int child_pid(const struct child *c)
{
	return c->proc ? machine_pid(proc_pid(c->proc)) : 0;
}

static void write_run_file(struct pod_init *p)
{
	char self[32] = "0";
	(void)!readlink("/proc/self", self, sizeof(self) - 1);
	char *path = xasprintf("%s/run.json", p->spec.pod_dir);
	char *text = xasprintf(
		"{\"pid\": %s, \"agent\": %d, \"app\": %d}\n", self, child_pid(&p->agent), child_pid(&p->app));
	struct err e = {0};
	if (!file_write_atomic(path, str_of(text), 0644, &e))
		log_warn(&pod_log, "run file not written", KV("error", e.text));
	free(text);
	free(path);
}

static void stop_app_or_loop(struct pod_init *p)
{
	if (p->agent.proc)
		proc_kill(p->agent.proc, SIGTERM);
	else if (p->app.proc)
		proc_kill(p->app.proc, SIGTERM);
	else
		loop_stop(p->loop);
}

/* Orphans of the application are ours now. The agent and the application itself belong to their struct proc. */
static void reap_orphans(struct pod_init *p)
{
	const struct child *own[] = {&p->agent, &p->app};
	siginfo_t info = {0};
	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
		for (size_t i = 0; i < ARRAY_LEN(own); i++)
			if (own[i]->proc && proc_pid(own[i]->proc) == info.si_pid)
				return;
		(void)waitpid(info.si_pid, NULL, 0);
		info.si_pid = 0;
	}
}

static void on_child_signal(void *ctx, int signo)
{
	(void)signo;
	reap_orphans(ctx);
}

static void on_child_exit(void *ctx, int status, int signo)
{
	struct child *c = ctx;
	proc_free(take(c->proc));
	reap_orphans(c->pod);
	write_run_file(c->pod);
	if (c->pod->stopping) {
		stop_app_or_loop(c->pod);
		return;
	}
	bool stable = clock_mono_ms() - c->started_ms > STABLE_MS;
	c->backoff_ms = stable ? RESTART_MIN_MS : c->backoff_ms * 2;
	if (c->backoff_ms > RESTART_MAX_MS)
		c->backoff_ms = RESTART_MAX_MS;
	log_warn(&pod_log, "ended and will be started again", KV("what", c->name), KV("status", status),
		KV("signal", signo), KV("after_ms", c->backoff_ms));
	timer_start(c->restart, c->backoff_ms, 0);
}

static void child_start(struct child *c)
{
	struct proc_options o = PROC_OPTIONS_INIT;
	o.argv = c->argv;
	o.env = c->env;
	o.cwd = c->cwd;
	o.stdout_fd = o.stderr_fd = c->log_fd;
	struct err e = {0};
	c->started_ms = clock_mono_ms();
	c->proc = proc_start(c->pod->loop, &o, on_child_exit, c, &e);
	if (!c->proc) {
		log_error(&pod_log, "not started", KV("what", c->name), KV("error", e.text));
		timer_start(c->restart, RESTART_MAX_MS, 0);
	}
	write_run_file(c->pod);
}

/*
 * The pod's endpoint is there as soon as its file says that it is ready. Callers turn to another one while nobody answers here, but not from
 * a proxy that answers with an error; so the proxy starts when the application listens.
 */
static bool awaits_app(const struct child *c)
{
	const struct pod_init *p = c->pod;
	return c == &p->agent && !c->started_ms && p->app.argv && p->spec.pod.port &&
	       clock_mono_ms() < p->started_ms + APP_WAIT_MS && !process_listens("self", p->spec.pod.port);
}

static void on_restart(void *ctx)
{
	struct child *c = ctx;
	if (awaits_app(c))
		timer_start(c->restart, APP_POLL_MS, 0);
	else
		child_start(c);
}

static void on_deadline(void *ctx)
{
	struct pod_init *p = ctx;
	log_warn(&pod_log, "did not stop in time and is killed");
	loop_stop(p->loop);
}

static void on_signal(void *ctx, int signo)
{
	struct pod_init *p = ctx;
	(void)signo;
	if (p->stopping)
		return;
	p->stopping = true;
	timer_stop(p->agent.restart);
	timer_stop(p->app.restart);
	timer_start(p->deadline, STOP_GRACE_MS, 0);
	stop_app_or_loop(p);
}

static void child_init(struct pod_init *p, struct child *c, const char *name)
{
	char *path = xasprintf("%s/%s.log", p->spec.pod_dir, name);
	c->pod = p;
	c->name = name;
	c->backoff_ms = RESTART_MIN_MS;
	c->restart = timer_new(p->loop, on_restart, c);
	c->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	free(path);
}

/* The control plane is on the node and is reached by the agent, whose sockets have no mark: the node is left alone, whatever else the pod's
 * annotations leave alone. */
static char *capture_annotations(const char *annotations)
{
	static const char key[] = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
	static const char node[] = NODE_ADDRESS "/32," NODE_ADDRESS6 "/128";
	json_t *all = json_loads(annotations, 0, NULL);
	const char *own = json_string_value(json_object_get(all, key));
	(void)json_object_set_new(all, key, str_empty(own) ? json_string(node) : json_sprintf("%s,%s", own, node));
	char *text = json_dumps(all, 0);
	json_decref(all);
	return text;
}

static bool capture(struct pod_init *p, struct err *e)
{
	char *agent cleanup(free_p) = xasprintf("%s/agent/agent", p->spec.mesh.bin);
	const struct pod *pod = &p->spec.pod;
	const char *mode = pod_agent_mode(p->arena, &p->spec);
	const char *outbound = str_empty(pod->outbound_port) ? "15001" : pod->outbound_port;
	const char *inbound = str_empty(pod->inbound_port) ? "15006" : pod->inbound_port;
	char *annotations cleanup(free_p) = capture_annotations(p->spec.pod.annotations_json);
	if (!annotations)
		return err_set(e, ERR_PEER, "the pod's annotations are no JSON object");
	pid_t pid = fork();
	if (pid == 0) {
		(void)execl(agent, agent, "capture", "--proxy-mark", PROXY_MARK, "--interception-mode", mode,
			"--envoy-port", outbound, "--inbound-capture-port", inbound, "--annotations", annotations,
			(char *)NULL);
		_exit(127);
	}
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_errno(e, "run %s capture", agent);
	return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
	       err_set(e, ERR_SYSTEM, "traffic capture was not set up: see pod.log");
}

static bool prepare(struct pod_init *p, struct err *e)
{
	const struct spec *s = &p->spec;
	char *agent_dir cleanup(free_p) = xasprintf("%s/agent", s->pod_dir);
	char *resolv cleanup(free_p) = xasprintf("%s/resolv.conf", s->mesh.state);
	return file_mkdirs(agent_dir, 0700, e) && netns_enter_pod(s->pod.ips, s->mesh.hosts, resolv, e) &&
	       (!s->pod.proxy || streq(pod_agent_mode(p->arena, s), "NONE") || capture(p, e));
}

/* The first process of a PID namespace loses signals for which it has no handler, unless they wait. */
static void block_signals(void)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

static void unblock_signals(void)
{
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run(struct pod_init *p)
{
	p->loop = loop_new();
	p->started_ms = clock_mono_ms();
	p->deadline = timer_new(p->loop, on_deadline, p);
	child_init(p, &p->agent, "agent");
	child_init(p, &p->app, "app");
	struct signal_watch *term = signal_new(p->loop, SIGTERM, on_signal, p);
	struct signal_watch *intr = signal_new(p->loop, SIGINT, on_signal, p);
	struct signal_watch *chld = signal_new(p->loop, SIGCHLD, on_child_signal, p);
	unblock_signals();
	struct pod_agent agent = {0};
	pod_agent_build(p->arena, &p->spec, &agent);
	p->agent.argv = agent.argv;
	p->agent.env = agent.env;
	p->app.argv = p->spec.pod.command;
	p->app.env = pod_app_environment(p->arena, &p->spec);
	p->app.cwd = p->spec.mesh.dir;
	if (p->app.argv)
		child_start(&p->app);
	if (p->spec.pod.proxy)
		on_restart(&p->agent);
	log_info(&pod_log, "started", KV("pod", p->spec.pod.name), KV("ip", p->spec.pod.ip));
	loop_run(p->loop);
	proc_free(p->agent.proc);
	proc_free(p->app.proc);
	signal_free(term);
	signal_free(intr);
	signal_free(chld);
	timer_free(p->agent.restart);
	timer_free(p->app.restart);
	timer_free(p->deadline);
	(void)close(p->agent.log_fd);
	(void)close(p->app.log_fd);
	loop_free(p->loop);
}

int pod_init_main(int argc, char **argv)
{
	struct err e = {0};
	struct pod_init p = {.arena = arena_new()};
	block_signals();
	log_set_process("pod");
	bool ok = argc == 2 || err_set(&e, ERR_PEER, "usage: fairlead pod-init SPEC");
	ok = ok && spec_read(p.arena, argv[1], &p.spec, &e) && prepare(&p, &e);
	if (ok)
		run(&p);
	else
		log_error(&pod_log, "the pod did not start", KV("error", e.text));
	arena_free(p.arena);
	return ok ? 0 : 1;
}
