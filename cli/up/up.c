/*
 * DOC: `fairlead up`: options, the way into the node's namespaces, the control socket (<state>/up.sock, plain HTTP, used by `fairlead status`
 * and by tests), the summary that people read, and the end. Supervision is in mesh.c, namespaces in netns.c, the inside of a pod in pod_init.c.
 */
#include "cli/up/up.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/up/hosts.h"
#include "cli/up/mesh.h"
#include "cli/up/netns.h"
#include "cli/up/relay.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/daemon/admin.h"
#include "common/daemon/option.h"
#include "common/io/file.h"
#include "common/io/http.h"

#define POLL_READY_MS 200

static struct log_scope up_log = LOG_SCOPE("up.main", "fairlead up");

struct up_config {
	const char *state;
	const char *listen;
	const char *bin;
	const char *envoy;
	const char *trust_domain;
	const char *cert_ttl;
	const char **only;
	const char *log_level;
};

static const struct option_row options[] = {
	{"state", OPT_STR(struct up_config, state, NULL,
			  "directory for state, logs and sockets (default: made from DIR's path)")},
	{"listen", OPT_STR(struct up_config, listen, "127.0.0.1:8080",
			   "where this machine reaches the ingress gateway; port 0 picks one")},
	{"bin", OPT_STR(struct up_config, bin, NULL, "build folder with the daemons (default: beside this program)")},
	{"envoy", OPT_STR(struct up_config, envoy, "envoy", "Envoy's binary")},
	{"trust-domain", OPT_STR(struct up_config, trust_domain, "cluster.local", "trust domain of the mesh")},
	{"cert-ttl", OPT_STR(struct up_config, cert_ttl, "24h", "lifetime of workload certificates")},
	{"only-daemons",
		OPT_LIST(struct up_config, only, "start only these daemons now; the control socket starts the others")},
	{"log-level", OPT_STR(struct up_config, log_level, "default:info", "levels by scope")},
};

struct up {
	struct mesh mesh;
	struct arena *arena;
	struct up_config config;
	int listen_fd;
	char listen_address[128];
	int lock_fd;
	struct relay *relay;
	struct dir_watch *watch;
	struct admin *control;
	struct http_client *http;
	struct timer *ready_timer;
	size_t waiting; /* answers outstanding in this round */
	size_t unready;
	bool announced;
	uint64_t started_ms;
};

char *up_default_state(const char *dir)
{
	char *real cleanup(free_p) = realpath(dir, NULL);
	const char *base = getenv("XDG_RUNTIME_DIR");
	char *own cleanup(free_p) = xasprintf("/tmp/fairlead-%u", geteuid());
	/* Short, because Unix socket paths end at 107 bytes. */
	return xasprintf("%s/%08x", base && *base && strlen(base) < 40 ? base : own,
		(unsigned)hash64(str_of(real ? real : dir)));
}

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

static void print_summary(struct up *u)
{
	size_t pods = 0;
	for (const struct unit *x = u->mesh.units; x; x = x->next)
		pods += x->kind == UNIT_POD && x->wanted;
	(void)printf("\nThe mesh is up: galley, pilot, citadel and %zu pods, ready after %.1f s.\n\n"
		     "  gateway        http://%s/          (Bookinfo: http://%s/productpage)\n"
		     "  configuration  %s   (edit a file: it takes effect at once)\n"
		     "  state, logs    %s\n\n"
		     "Try, in another terminal:\n"
		     "  fairlead status --state %s\n"
		     "  fairlead proxy-status --state %s\n"
		     "  fairlead validate %s\n\n"
		     "Ctrl-C ends it.\n",
		pods, (double)(clock_mono_ms() - u->started_ms) / 1000.0, u->listen_address, u->listen_address,
		u->mesh.paths.dir, u->mesh.paths.state, u->mesh.paths.state, u->mesh.paths.state, u->mesh.paths.dir);
	(void)fflush(stdout);
}

static void on_ready_answer(void *ctx, int status, struct str body, struct str content_type)
{
	struct up *u = ctx;
	(void)body;
	(void)content_type;
	u->waiting--;
	u->unready += status != 200;
	if (u->waiting == 0 && u->unready == 0 && !u->announced) {
		u->announced = true;
		timer_stop(u->ready_timer);
		print_summary(u);
	}
}

static void ask_ready(struct up *u, const char *socket, const char *path)
{
	char *url cleanup(free_p) = xasprintf("http://localhost%s", path);
	const struct http_request r = {.url = url, .unix_socket = socket, .timeout_ms = 2000};
	u->waiting++;
	http_send(u->http, &r, on_ready_answer, u);
}

static void poll_ready(void *ctx)
{
	struct up *u = ctx;
	if (u->waiting)
		return;
	u->unready = 0;
	u->waiting = 1; /* holds the round open until all questions are asked */
	for (const struct unit *x = u->mesh.units; x; x = x->next) {
		const char *slash = strchr(x->name, '/');
		char *ns = slash ? xstrndup(x->name, (size_t)(slash - x->name)) : NULL;
		const struct pod *p = slash ? pods_find(&u->mesh.pods, ns, slash + 1) : NULL;
		char *socket = slash ? xasprintf("%s/pods/%s.%s/agent.admin", u->mesh.paths.state, ns, slash + 1)
				     : xasprintf("%s/%s.admin", u->mesh.paths.state, x->name);
		if (x->wanted && (!slash || (p && p->proxy)))
			ask_ready(u, socket, slash ? "/healthz/ready" : "/readyz");
		free(socket);
		free(ns);
	}
	on_ready_answer(u, 200, (struct str){0}, (struct str){0});
}

/* ---- life */

static void on_directory_change(void *ctx)
{
	struct up *u = ctx;
	struct err e = {0};
	if (!mesh_apply_pods(&u->mesh, &e))
		log_error(&up_log, "pods not read", KV("error", e.text));
}

static void on_signal(void *ctx, int signo)
{
	struct up *u = ctx;
	(void)signo;
	if (!u->mesh.stopping)
		(void)fprintf(stderr, "\nstopping\n");
	mesh_stop(&u->mesh);
}

static const struct pod *gateway_pod(const struct up *u)
{
	for (size_t i = 0; i < u->mesh.pods.len; i++)
		if (u->mesh.pods.items[i].gateway)
			return &u->mesh.pods.items[i];
	return NULL;
}

static bool open_relay(struct up *u, struct err *e)
{
	const struct pod *gateway = gateway_pod(u);
	if (!gateway) {
		log_warn(&up_log, "no pod with the annotation inject.istio.io/templates: gateway; nothing listens for "
				  "this machine");
		return true;
	}
	char *to cleanup(free_p) = xasprintf("%s:%u", gateway->ip, gateway->port ? gateway->port : 8080);
	u->relay = relay_new(u->mesh.loop, u->listen_fd, to, e);
	u->listen_fd = -1;
	return u->relay != NULL;
}

static bool lock_state(struct up *u, struct err *e)
{
	char *path cleanup(free_p) = xasprintf("%s/lock", u->mesh.paths.state);
	char *pids cleanup(free_p) = xasprintf("%s/pods", u->mesh.paths.state);
	if (!file_mkdirs(pids, 0700, e))
		return false;
	u->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (u->lock_fd < 0)
		return err_errno(e, "open %s", path);
	if (flock(u->lock_fd, LOCK_EX | LOCK_NB))
		return err_set(e, ERR_DENIED, "a mesh is already running with state in %s", u->mesh.paths.state);
	return true;
}

static bool paths_from(struct up *u, const char *dir, struct err *e)
{
	struct mesh_paths *p = &u->mesh.paths;
	char *real cleanup(free_p) = realpath(dir, NULL);
	if (!real)
		return err_errno(e, "%s", dir);
	char *self cleanup(free_p) = realpath("/proc/self/exe", NULL);
	char *state cleanup(free_p) = up_default_state(real);
	size_t slash = 0;
	struct str bin = str_of(self ? self : ".");
	for (int up = 0; up < 2 && str_rfind(bin, '/', &slash); up++) /* build/x/cli/fairlead -> build/x */
		bin = str_sub(bin, 0, slash);
	p->dir = arena_strdup(u->arena, real);
	p->bin = u->config.bin ? u->config.bin : arena_cstr(u->arena, bin);
	p->state = u->config.state ? u->config.state : arena_strdup(u->arena, state);
	p->envoy = u->config.envoy;
	p->discovery = NODE_ADDRESS ":15012";
	p->ca = NODE_ADDRESS ":15012";
	p->trust_domain = u->config.trust_domain;
	p->cert_ttl = u->config.cert_ttl;
	if (strlen(p->state) > 60)
		return err_set(e, ERR_LIMIT,
			"--state %s: Unix sockets below it would have paths over 107 bytes; choose one of at most 60",
			p->state);
	for (size_t i = 0; i < 4; i++) {
		static const char *const below[] = {"galley", "pilot", "citadel", "bus"};
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
	u->mesh.hosts = hosts_new(u->mesh.loop, u->mesh.paths.state, bus, e);
	if (!u->mesh.hosts || !control_open(u, e))
		return false;
	mesh_start_daemons(&u->mesh, u->config.only);
	if (!mesh_apply_pods(&u->mesh, e) || !open_relay(u, e))
		return false;
	u->watch = dir_watch_new(u->mesh.loop, u->mesh.paths.dir, 100, on_directory_change, u, e);
	u->ready_timer = timer_new(u->mesh.loop, poll_ready, u);
	timer_start(u->ready_timer, POLL_READY_MS, POLL_READY_MS);
	return u->watch != NULL;
}

static void finish(struct up *u)
{
	dir_watch_free(u->watch);
	relay_free(u->relay);
	admin_free(u->control);
	http_client_free(u->http);
	timer_free(u->ready_timer);
	struct loop *l = u->mesh.loop;
	mesh_free(&u->mesh);
	if (l)
		loop_free(l);
	if (u->listen_fd >= 0)
		(void)close(u->listen_fd);
	if (u->lock_fd >= 0)
		(void)close(u->lock_fd);
}

static bool prepare(struct up *u, int argc, char **argv, struct err *e)
{
	const char *const *rest = NULL;
	if (!options_parse(u->arena, "up", options, ARRAY_LEN(options), argc, argv, &u->config, &rest, e))
		return false;
	if (!rest[0] || rest[1])
		return err_set(e, ERR_PEER, "usage: fairlead up DIR [options]; one directory is wanted");
	if (!log_set_levels(str_of(u->config.log_level), e) || !paths_from(u, rest[0], e) || !lock_state(u, e))
		return false;
	u->listen_fd = relay_bind(u->config.listen, u->listen_address, e);
	return u->listen_fd >= 0 && netns_enter_node(e);
}

int up_main(int argc, char **argv)
{
	struct up u = {.arena = arena_new(), .listen_fd = -1, .lock_fd = -1, .started_ms = clock_mono_ms()};
	struct err e = {0};
	u.mesh.arena = arena_new();
	log_set_process("up");
	bool ok = prepare(&u, argc, argv, &e) && start(&u, &e);
	if (ok) {
		struct signal_watch *term = signal_new(u.mesh.loop, SIGTERM, on_signal, &u);
		struct signal_watch *intr = signal_new(u.mesh.loop, SIGINT, on_signal, &u);
		loop_run(u.mesh.loop);
		signal_free(term);
		signal_free(intr);
	} else {
		(void)fprintf(stderr, "fairlead up: %s\n", e.text);
	}
	finish(&u);
	arena_free(u.arena);
	return ok ? 0 : 1;
}
