/*
 * DOC: `fairlead up DIR`: a whole mesh on one machine, every part real. The runner plays the kubelet: it starts what the directory says,
 * starts again what dies, mints join tokens, and lets the machine in through a relay to the ingress gateway. Here are the options, the way
 * into the node's namespaces, the control socket (<state>/up.sock, plain HTTP, used by `fairlead status` and by tests), the summary that
 * people read, and the end. Supervision is in mesh.c, namespaces in netns.c, the inside of a pod in pod_init.c.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/target.h"
#include "cli/up/config.h"
#include "cli/up/hosts.h"
#include "cli/up/listening.h"
#include "cli/up/mesh.h"
#include "cli/up/netns.h"
#include "cli/up/relay.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/daemon/admin.h"
#include "common/daemon/option.h"
#include "common/io/file.h"
#include "common/io/http.h"

#define STATE_LEN_MAX 60
#define TWICE_MS 500
#define SECOND_LOOK_MS 300
#define POLL_READY_MS 200
#define PATIENCE_MS 15000 /* then it is said what is not ready */

LOG_SCOPE(up_log, "up-main", "fairlead up");

struct up_config {
	bool no_pods;
	const char *state;
	const char *listen;
	const char *bin;
	const char *envoy;
	const char *trust_domain;
	const char *cert_ttl;
	const char **only;
	const char *log_level;
};

struct up {
	struct mesh mesh;
	struct arena *arena;
	const struct up_config *config;
	int listen_fd;
	char listen_address[128];
	int lock_fd;
	struct relay *relay;
	struct dir_watch *watch;
	struct admin *control;
	struct http_client *http;
	struct timer *ready_timer;
	struct timer *second_look; /* a pod was gone from the directory */
	size_t waiting; /* answers outstanding in this round */
	bool announced;
	struct strbuf missing; /* names of what is not ready, in this round */
	uint64_t complain_ms, stopping_ms;
	char *link; /* by which other commands find a state directory of the user's choice; NULL: not needed */
	uint64_t started_ms;
};

/* ---- control socket */

static void answer(struct admin_request *r, unsigned status, const char *text)
{
	admin_respond(r, status, "text/plain", str_of(text));
}

static void control_mesh(void *ctx, struct admin_request *r)
{
	const struct up *u = ctx;
	struct strbuf out = {0};
	strbuf_addf(&out, "{\"listen\":\"%s\",\"mesh\":", u->listen_address);
	mesh_write_json(&u->mesh, &out);
	strbuf_adds(&out, "}");
	admin_respond(r, 200, "application/json", strbuf_str(&out));
	strbuf_done(&out);
}

/* POST /unit/<name>?do=start|stop|kill, the name of a daemon or "namespace/pod". */
static void control_unit(void *ctx, struct admin_request *r)
{
	static const struct {
		const char *name;
		void (*fn)(struct unit *u);
	} verbs[] = {{"start", unit_start}, {"stop", unit_stop}, {"kill", unit_kill}};
	struct up *u = ctx;
	char *name cleanup(free_p) = xstrndup(
		admin_request_path(r).ptr + strlen("/unit/"), admin_request_path(r).len - strlen("/unit/"));
	struct unit *unit = mesh_unit(&u->mesh, name);
	struct str verb = admin_request_query(r, "do");
	if (!unit) {
		answer(r, 404, "no such daemon or pod\n");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (str_eqc(verb, verbs[i].name)) {
			verbs[i].fn(unit);
			answer(r, 200, "done\n");
			return;
		}
	}
	answer(r, 400, "do= one of start, stop, kill\n");
}

static bool control_open(struct up *u, struct err *e)
{
	char *address cleanup(free_p) = xasprintf("unix:%s/up.sock", u->mesh.paths.state);
	uint16_t port = 0;
	u->control = admin_new(u->mesh.loop, address, &port, e);
	if (!u->control)
		return false;
	admin_route(u->control, "GET", "/mesh", control_mesh, u);
	admin_route(u->control, "POST", "/unit/", control_unit, u);
	return true;
}

/* ---- readiness and the summary */

static const struct pod *gateway_pod(const struct pods *pods)
{
	for (size_t i = 0; i < pods->len; i++)
		if (pods->items[i].gateway)
			return &pods->items[i];
	return NULL;
}

static void print_summary(struct up *u)
{
	size_t pods = 0;
	char *self cleanup(free_p) = realpath("/proc/self/exe", NULL); /* it need not be on the reader's $PATH */
	const char *program = self ? self : "fairlead";
	const struct mesh_paths *paths = &u->mesh.paths;
	bool bookinfo = pods_find(&u->mesh.pods, "default", "productpage-v1") != NULL;
	for (const struct unit *x = u->mesh.units; x; x = x->next)
		pods += x->kind == UNIT_POD && x->wanted;
	(void)printf("\nThe mesh is up: galley, pilot, citadel and %zu pods, ready after %.1f s.\n\n", pods,
		(double)(clock_mono_ms() - u->started_ms) / 1000.0);
	if (gateway_pod(&u->mesh.pods))
		(void)printf("  gateway        http://%s/%s\n", u->listen_address, bookinfo ? "productpage" : "");
	(void)printf("  configuration  %s   (edit a file: it takes effect at once)\n"
		     "  state, logs    %s\n\n"
		     "Try, in another terminal:\n"
		     "  %s status --state %s\n"
		     "  %s proxy-status --state %s\n"
		     "  %s validate %s\n\n"
		     "Ctrl-C ends it.\n",
		paths->dir, paths->state, program, paths->state, program, paths->state, program, paths->dir);
	(void)fflush(stdout);
}

struct question {
	struct up *up;
	char *unit;
};

static void round_over(struct up *u)
{
	if (u->announced)
		return;
	if (u->missing.len == 0) {
		u->announced = true;
		timer_stop(u->ready_timer);
		print_summary(u);
	} else if (clock_mono_ms() >= u->complain_ms) {
		u->complain_ms = clock_mono_ms() + PATIENCE_MS;
		log_warn(&up_log, "still waiting", KV("for", u->missing.ptr));
	}
}

static void note_missing(struct up *u, const char *unit)
{
	strbuf_addf(&u->missing, "%s%s", u->missing.len ? " " : "", unit);
}

static void on_ready_answer(void *ctx, int status, struct str body, struct str content_type)
{
	struct question *q = ctx;
	struct up *u = q->up;
	(void)body;
	(void)content_type;
	if (status != 200)
		note_missing(u, q->unit);
	free(q->unit);
	free(q);
	u->waiting--;
	if (u->waiting == 0)
		round_over(u);
}

static void ask_ready(struct up *u, const char *unit, const char *socket, const char *path)
{
	char *url cleanup(free_p) = xasprintf("http://localhost%s", path);
	const struct http_request r = {.url = url, .unix_socket = socket, .timeout_ms = 2000};
	struct question *q = xzalloc(sizeof(*q));
	*q = (struct question){u, xstrdup(unit)};
	u->waiting++;
	http_send(u->http, &r, on_ready_answer, q);
}

static void poll_ready(void *ctx)
{
	struct up *u = ctx;
	if (u->waiting)
		return;
	strbuf_clear(&u->missing);
	u->waiting = 1; /* holds the round open until all questions are asked */
	for (const struct unit *x = u->mesh.units; x; x = x->next) {
		const struct pod *p = x->kind == UNIT_POD ? mesh_pod(&u->mesh, x) : NULL;
		if (p && x->wanted && !pod_listens(&u->mesh.paths, p))
			note_missing(u, x->name);
		if (!x->wanted || (x->kind == UNIT_POD && (!p || !p->proxy)))
			continue;
		char *dir cleanup(free_p) = p ? pod_state_dir(&u->mesh.paths, p) : NULL;
		char *socket cleanup(free_p) = p ? xasprintf("%s/agent.admin", dir)
						 : xasprintf("%s/%s.admin", u->mesh.paths.state, x->name);
		ask_ready(u, x->name, socket, p ? "/healthz/ready" : "/readyz");
	}
	if (--u->waiting == 0)
		round_over(u);
}

/* ---- life */

/* The first gateway is where the machine's connections go. */
static bool aim_relay(struct up *u, struct err *e)
{
	const struct pod *p = gateway_pod(&u->mesh.pods);
	if (p) {
		char *to cleanup(free_p) = xasprintf("%s:%u", p->ip, p->port ? p->port : 8080);
		return relay_target(u->relay, to, e);
	}
	if (!u->config->no_pods)
		log_warn(&up_log,
			"no pod has the annotation inject.istio.io/templates: gateway; nothing answers this machine",
			KV("listen", u->listen_address));
	return relay_target(u->relay, NULL, e);
}

static bool apply_pods(struct up *u, bool sure, struct err *e)
{
	bool again = false;
	if (!u->config->no_pods && !mesh_apply_pods(&u->mesh, sure, &again, e))
		return false;
	if (!again)
		timer_stop(u->second_look);
	else if (!timer_active(u->second_look))
		timer_start(u->second_look, SECOND_LOOK_MS, 0);
	return again || aim_relay(u, e);
}

static void look(struct up *u, bool sure)
{
	struct err e = {0};
	if (!apply_pods(u, sure, &e))
		log_error(&up_log, "pods not read", KV("error", e.text));
}

static void on_directory_change(void *ctx)
{
	look(ctx, false);
}

static void on_second_look(void *ctx)
{
	look(ctx, true);
}

static void on_signal(void *ctx, int signo)
{
	struct up *u = ctx;
	(void)signo;
	/* Wrappers pass a signal on that the terminal has sent already: the second of such a pair is no wish of its own. */
	if (u->mesh.stopping && clock_mono_ms() - u->stopping_ms < TWICE_MS)
		return;
	(void)fprintf(stderr, u->mesh.stopping ? "\nstopping at once\n" : "\nstopping; once more stops at once\n");
	u->stopping_ms = clock_mono_ms();
	timer_stop(u->ready_timer);
	mesh_stop(&u->mesh);
}

static bool lock_state(struct up *u, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/lock", u->mesh.paths.state);
	u->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (u->lock_fd < 0)
		return err_errno(e, "open %s", path);
	if (flock(u->lock_fd, LOCK_EX | LOCK_NB))
		return err_set(e, ERR_DENIED, "a mesh is already running with state in %s", u->mesh.paths.state);
	return true;
}

/* build/x/cli/fairlead -> build/x */
static const char *default_bin(struct arena *a)
{
	char *self cleanup(free_p) = realpath("/proc/self/exe", NULL);
	struct str bin = str_of(self ? self : ".");
	size_t slash = 0;
	for (int up = 0; up < 2 && str_rfind(bin, '/', &slash); up++)
		bin = str_sub(bin, 0, slash);
	return arena_cstr(a, bin);
}

/* A program by path or on $PATH, as an absolute path; NULL: there is none. */
static const char *find_program(struct arena *a, const char *name)
{
	struct str path = str_of(getenv("PATH")), dir;
	char *real cleanup(free_p) = strchr(name, '/') ? realpath(name, NULL) : NULL;
	while (!strchr(name, '/') && !real && str_split(&path, ':', &dir)) {
		char *below cleanup(free_p) = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);
		if (access(below, X_OK) == 0)
			real = realpath(below, NULL);
	}
	return real && access(real, X_OK) == 0 ? arena_strdup(a, real) : NULL;
}

static bool find_envoy(struct up *u, struct err *e)
{
	const char *name = u->config->envoy ? u->config->envoy : getenv("FAIRLEAD_ENVOY");
	name = str_empty(name) ? "envoy" : name;
	u->mesh.paths.envoy = find_program(u->arena, name);
	if (!u->mesh.paths.envoy && u->config->no_pods)
		u->mesh.paths.envoy = name;
	return u->mesh.paths.envoy ||
	       err_set(e, ERR_SYSTEM,
		       "no Envoy: \"%s\" is not there or not executable; name one with --envoy or $FAIRLEAD_ENVOY "
		       "(in the source tree: --envoy \"$(tools/envoy-path)\")",
		       name);
}

static const char *const daemons[] = {"galley", "pilot", "citadel", "agent"};

static bool check_only(const char **only, struct err *e)
{
	for (size_t i = 0; only && only[i]; i++) {
		bool known = streq(only[i], "none");
		for (size_t k = 0; k < ARRAY_LEN(daemons) - 1; k++)
			known |= streq(only[i], daemons[k]);
		if (!known)
			return err_set(e, ERR_PEER, "--only-daemons: \"%.40s\" is none of galley, pilot, citadel, none",
				only[i]);
	}
	return true;
}

static bool find_programs(struct up *u, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(daemons) - u->config->no_pods; i++) {
		char *path cleanup(free_p) = xasprintf("%s/%s/%s", u->mesh.paths.bin, daemons[i], daemons[i]);
		if (access(path, X_OK))
			return err_errno(e, "%s (--bin names the build folder)", path);
	}
	if (!find_program(u->arena, "ip"))
		return err_set(e, ERR_SYSTEM, "the program `ip` is not on $PATH: install iproute2");
	return find_envoy(u, e);
}

static bool paths_from(struct up *u, const char *dir, struct err *e)
{
	struct mesh_paths *p = &u->mesh.paths;
	char *real cleanup(free_p) = realpath(dir, NULL);
	struct stat st;
	if (!real || stat(real, &st))
		return err_errno(e, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_PEER, "%s is not a directory", dir);
	char *state cleanup(free_p) = target_default_state(real);
	p->dir = arena_strdup(u->arena, real);
	p->bin = u->config->bin ? u->config->bin : default_bin(u->arena);
	p->state = arena_strdup(u->arena, u->config->state ? u->config->state : state);
	p->discovery = PILOT_ADDRESS;
	p->ca = PILOT_ADDRESS;
	p->cert_ttl = u->config->cert_ttl;
	struct config config = {0};
	if (!config_read(u->arena, real, true, &config, e))
		return false;
	p->trust_domain = u->config->trust_domain ? u->config->trust_domain : config.trust_domain;
	return true;
}

static const char *real_path(struct arena *a, const char *path)
{
	char *real cleanup(free_p) = realpath(path, NULL);
	return arena_strdup(a, real ? real : path);
}

static bool make_directories(struct up *u, struct err *e)
{
	static const char *const below[] = {"galley", "pilot", "citadel", "bus", "pods"};
	const struct mesh_paths *p = &u->mesh.paths;
	if (!file_mkdirs(p->state, 0700, e))
		return false;
	u->mesh.paths.state = real_path(u->arena, p->state); /* daemons and pods have other folders */
	if (strlen(p->state) > STATE_LEN_MAX)
		return err_set(e, ERR_LIMIT,
			"--state %s: Unix sockets below it would have paths over 107 bytes; choose one of at "
			"most %d",
			p->state, STATE_LEN_MAX);
	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		char *path cleanup(free_p) = xasprintf("%s/%s", p->state, below[i]);
		if (!file_mkdirs(path, 0700, e))
			return false;
	}
	return true;
}

static bool start(struct up *u, struct err *e)
{
	char *bus cleanup(free_p) = xasprintf("ipc://%s/bus/{role}", u->mesh.paths.state);
	u->mesh.loop = loop_new();
	u->http = http_client_new(u->mesh.loop);
	u->relay = relay_new(u->mesh.loop, u->listen_fd);
	u->listen_fd = -1;
	u->mesh.hosts = hosts_new(u->mesh.loop, u->mesh.paths.state, bus, e);
	if (!u->mesh.hosts || !control_open(u, e))
		return false;
	mesh_start_daemons(&u->mesh, u->config->only);
	u->second_look = timer_new(u->mesh.loop, on_second_look, u);
	if (!apply_pods(u, true, e))
		return false;
	u->watch = dir_watch_new(u->mesh.loop, u->mesh.paths.dir, 100, on_directory_change, u, e);
	u->ready_timer = timer_new(u->mesh.loop, poll_ready, u);
	u->complain_ms = clock_mono_ms() + PATIENCE_MS;
	timer_start(u->ready_timer, POLL_READY_MS, POLL_READY_MS);
	return u->watch != NULL;
}

static void finish(struct up *u)
{
	dir_watch_free(u->watch);
	relay_free(u->relay);
	admin_free(u->control);
	u->announced = true;
	http_client_free(u->http);
	timer_free(u->ready_timer);
	timer_free(u->second_look);
	strbuf_done(&u->missing);
	struct loop *l = u->mesh.loop;
	mesh_free(&u->mesh);
	if (l)
		loop_free(l);
	if (u->listen_fd >= 0)
		(void)close(u->listen_fd);
	target_forget(u->link);
	free(u->link);
	if (u->lock_fd >= 0)
		(void)close(u->lock_fd);
}

static bool prepare(struct up *u, const char *dir, struct err *e)
{
	if (!log_set_levels(str_of(u->config->log_level), e) || !paths_from(u, dir, e) ||
		!check_only(u->config->only, e) || !find_programs(u, e) || !make_directories(u, e) || !lock_state(u, e))
		return false;
	u->listen_fd = relay_bind(u->config->listen, u->listen_address, e);
	if (u->listen_fd < 0)
		return err_in(e, "--listen");
	return target_remember(u->mesh.paths.dir, u->mesh.paths.state, &u->link, e) && netns_enter_node(e);
}

/* What is left to do is short and is not cut off: one more Ctrl-C changes nothing. */
static void stop_listening(const int *signals, struct signal_watch **watches, size_t n)
{
	sigset_t set;
	(void)sigemptyset(&set);
	for (size_t k = 0; k < n; k++)
		(void)sigaddset(&set, signals[k]);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t k = 0; k < n; k++) {
		signal_free(watches[k]);
		(void)signal(signals[k], SIG_IGN);
	}
}

static int run(const struct invocation *i)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct signal_watch *watches[ARRAY_LEN(signals)];
	struct up u = {
		.arena = i->arena, .config = i->config, .listen_fd = -1, .lock_fd = -1, .started_ms = clock_mono_ms()};
	struct err e = {0};
	u.mesh.arena = arena_new();
	log_set_process("up");
	bool ok = prepare(&u, i->args[0], &e) && start(&u, &e);
	if (ok) {
		for (size_t k = 0; k < ARRAY_LEN(signals); k++)
			watches[k] = signal_new(u.mesh.loop, signals[k], on_signal, &u);
		loop_run(u.mesh.loop);
		stop_listening(signals, watches, ARRAY_LEN(signals));
	}
	finish(&u);
	return ok ? 0 : command_fail("up", 1, &e);
}

static const struct option_row options[] = {
	{.name = "state",
		OPT_STR(struct up_config, state, NULL,
			"directory for state, logs and sockets (default: made from DIR's path)")},
	{.name = "listen",
		OPT_STR(struct up_config, listen, "127.0.0.1:8080",
			"where this machine reaches the ingress gateway; port 0 picks one")},
	{.name = "bin",
		OPT_STR(struct up_config, bin, NULL, "build folder with the daemons (default: beside this program)")},
	{.name = "envoy",
		OPT_STR(struct up_config, envoy, NULL,
			"Envoy's binary (default: $FAIRLEAD_ENVOY, then envoy on $PATH)")},
	{.name = "trust-domain",
		OPT_STR(struct up_config, trust_domain, NULL, "trust domain of the mesh (default: the mesh config's)")},
	{.name = "cert-ttl", OPT_STR(struct up_config, cert_ttl, "24h", "lifetime of workload certificates")},
	{.name = "no-pods", OPT_BOOL(struct up_config, no_pods, "start the three daemons and no pod")},
	{.name = "only-daemons",
		OPT_LIST(struct up_config, only,
			"start only these daemons now (or none); the control socket starts the others")},
	{.name = "log-level", OPT_STR(struct up_config, log_level, "default:info", "levels by scope")},
};

const struct command up_command = {
	.name = "up",
	.arguments = "DIR",
	.summary = "run a whole mesh on this machine from a directory of YAML",
	.text = "Starts galley, pilot and citadel, and each Pod of DIR in a network namespace of its own with its "
		"application,\n"
		"its agent and its Envoy; lets this machine in through the first gateway. Pods need status.podIP in "
		"10.88.0.0/16 or fd88::/64, and may have one of each in status.podIPs.\n"
		"What dies is started again. Editing a file takes effect at once. Ctrl-C ends everything; state and "
		"logs stay.\n"
		"Works as root and, with user namespaces, as an ordinary user.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct up_config),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
