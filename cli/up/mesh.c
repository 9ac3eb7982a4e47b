/* DOC: Supervision of the daemons and pods of a machine-local mesh. Restart backoff is short: this stands in for a kubelet on a laptop. */
#include "cli/up/mesh.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "citadel/citadel.h"
#include "cli/up/config.h"
#include "cli/up/hosts.h"
#include "cli/up/netns.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/file.h"
#include "common/pki/pki.h"

#define RESTART_MIN_MS 300
#define RESTART_MAX_MS 5000
#define STABLE_MS 10000
#define NUDGE_MS 1000
#define SOCKET_PATH_MAX 107
#define STOP_GRACE_MS 40000 /* a pod's own is 30 s */
#define TOKEN_TTL_S 86400
#define TOKEN_RENEW_MS (TOKEN_TTL_S / 2 * 1000ull)

LOG_SCOPE(up_log, "up", "the machine-local mesh");

static void stop_next(struct mesh *m);

static void on_exit_unit(void *ctx, int status, int signo)
{
	struct unit *u = ctx;
	proc_free(take(u->proc));
	u->ending = false;
	if (u->mesh->stopping) {
		stop_next(u->mesh);
		return;
	}
	if (!u->wanted)
		return;
	bool stable = clock_mono_ms() - u->started_ms > STABLE_MS;
	u->backoff_ms = stable || !u->backoff_ms ? RESTART_MIN_MS : u->backoff_ms * 2;
	if (u->backoff_ms > RESTART_MAX_MS)
		u->backoff_ms = RESTART_MAX_MS;
	log_warn(&up_log, "ended and will be started again", KV("unit", u->name), KV("status", status),
		KV("signal", signo), KV("after_ms", u->backoff_ms), KV("log", u->log_path));
	timer_start(u->restart, u->backoff_ms, 0);
}

void unit_start(struct unit *u)
{
	u->wanted = true;
	if (u->proc || u->mesh->stopping)
		return;
	timer_stop(u->restart);
	int fd cleanup(close_p) = open(u->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	struct proc_options o = PROC_OPTIONS_INIT;
	struct err e = {0};
	o.argv = u->argv;
	o.stdout_fd = o.stderr_fd = fd;
	o.new_pid_namespace = u->kind == UNIT_POD;
	o.own_group = true; /* Ctrl-C is for the runner, which stops the rest in order */
	u->started_ms = clock_mono_ms();
	u->starts++;
	u->proc = proc_start(u->mesh->loop, &o, on_exit_unit, u, &e);
	if (!u->proc) {
		log_error(&up_log, "not started", KV("unit", u->name), KV("error", e.text));
		timer_start(u->restart, RESTART_MAX_MS, 0);
	}
}

static void on_restart(void *ctx)
{
	unit_start(ctx);
}

static void terminate(struct unit *u)
{
	if (!u->proc)
		return;
	u->ending = true;
	proc_kill(u->proc, SIGTERM);
}

/* The first process of a PID namespace does not get signals that it has no handler for yet: a pod that has only just started is told again. */
static void nudge_pods(void *ctx)
{
	struct mesh *m = ctx;
	for (struct unit *u = m->units; u; u = u->next)
		if (u->kind == UNIT_POD && u->ending)
			terminate(u);
}

void unit_stop(struct unit *u)
{
	u->wanted = false;
	timer_stop(u->restart);
	terminate(u);
}

void unit_kill(struct unit *u)
{
	if (u->proc)
		proc_kill(u->proc, SIGKILL);
}

static struct unit *unit_new(struct mesh *m, enum unit_kind kind, const char *name, char *log_path)
{
	struct unit *u = xzalloc(sizeof(*u)), **end = &m->units;
	u->mesh = m;
	u->kind = kind;
	u->name = arena_strdup(m->arena, name);
	u->log_path = log_path;
	u->restart = timer_new(m->loop, on_restart, u);
	while (*end)
		end = &(*end)->next;
	*end = u;
	return u;
}

static void unit_free(struct unit *u)
{
	proc_free(u->proc);
	timer_free(u->restart);
	free(u->log_path);
	free(u);
}

struct unit *mesh_unit(struct mesh *m, const char *name)
{
	for (struct unit *u = m->units; u; u = u->next)
		if (streq(u->name, name))
			return u;
	return NULL;
}

const struct pod *mesh_pod(const struct mesh *m, const struct unit *u)
{
	struct str ns, name;
	if (!str_cut(str_of(u->name), '/', &ns, &name))
		return NULL;
	for (size_t i = 0; i < m->pods.len; i++)
		if (str_eqc(ns, m->pods.items[i].ns) && str_eqc(name, m->pods.items[i].name))
			return &m->pods.items[i];
	return NULL;
}

/* Arguments that all three daemons share, then the daemon's own. */
static const char *const *daemon_argv(struct mesh *m, const char *name, const char *const *own)
{
	struct arena *a = m->arena;
	const char *common[] = {arena_printf(a, "%s/%s/%s", m->paths.bin, name, name), "--bus",
		arena_printf(a, "ipc://%s/bus/{role}", m->paths.state), "--state-dir",
		arena_printf(a, "%s/%s", m->paths.state, name), "--admin-address",
		arena_printf(a, "unix:%s/%s.admin", m->paths.state, name), "--instance", arena_printf(a, "%s-0", name),
		"--ctrlz-address", "off"};
	size_t n = ARRAY_LEN(common), k = 0;
	while (own[k])
		k++;
	const char **argv = ARENA_ARRAY(a, const char *, n + k + 1);
	for (size_t i = 0; i < n; i++)
		argv[i] = common[i];
	for (size_t i = 0; i < k; i++)
		argv[n + i] = own[i];
	return argv;
}

static void add_daemon(struct mesh *m, const char *name, const char *const *own)
{
	struct unit *u = unit_new(m, UNIT_DAEMON, name, xasprintf("%s/%s.log", m->paths.state, name));
	u->argv = daemon_argv(m, name, own);
}

static bool mint_token(struct mesh *m, const char *ns, const char *service_account, const char *path)
{
	struct err e = {0};
	char *citadel_dir cleanup(free_p) = xasprintf("%s/citadel", m->paths.state);
	const struct citadel_token token = {.state_dir = citadel_dir,
		.ns = ns,
		.service_account = service_account,
		.ttl_ms = TOKEN_TTL_S * 1000ull};
	char *text = NULL;
	bool ok = citadel_token_mint(&token, &text, &e) && file_write_atomic(path, str_of(text), 0600, &e);
	secret_free(text);
	if (!ok)
		log_error(&up_log, "no join token", KV("namespace", ns), KV("service_account", service_account),
			KV("error", e.text));
	return ok;
}

static void mint_tokens(void *ctx)
{
	struct mesh *m = ctx;
	char *pilot cleanup(free_p) = xasprintf("%s/pilot/token", m->paths.state);
	(void)mint_token(m, "istio-system", "istiod", pilot);
	for (size_t i = 0; i < m->pods.len; i++) {
		char *dir cleanup(free_p) = pod_state_dir(&m->paths, &m->pods.items[i]);
		char *path cleanup(free_p) = xasprintf("%s/token", dir);
		(void)mint_token(m, m->pods.items[i].ns, m->pods.items[i].service_account, path);
	}
}

void mesh_start_daemons(struct mesh *m, const char *const *only)
{
	struct arena *a = m->arena;
	static const char pilot[] = PILOT_LISTENS, citadel[] = CITADEL_ADDRESS;
	const char *root = arena_printf(a, "%s/citadel/root-cert.pem", m->paths.state);
	add_daemon(m, "galley", (const char *[]){"--source", m->paths.dir, NULL});
	add_daemon(m, "citadel", (const char *[]){"--address", citadel, "--trust-domain", m->paths.trust_domain, NULL});
	add_daemon(m, "pilot",
		(const char *[]){"--xds-address", "127.0.0.1:15010", "--xds-tls-address", pilot, "--ca-address",
			citadel, "--ca-roots", root, "--ca-token", arena_printf(a, "%s/pilot/token", m->paths.state),
			"--trust-domain", m->paths.trust_domain, NULL});
	mint_tokens(m);
	m->token_timer = timer_new(m->loop, mint_tokens, m);
	timer_start(m->token_timer, TOKEN_RENEW_MS, TOKEN_RENEW_MS);
	m->nudge = timer_new(m->loop, nudge_pods, m);
	timer_start(m->nudge, NUDGE_MS, NUDGE_MS);
	for (struct unit *u = m->units; u; u = u->next) {
		bool start = !only || !only[0];
		for (size_t i = 0; only && only[i]; i++)
			start |= streq(only[i], u->name);
		if (start)
			unit_start(u);
	}
}

static bool prepare_pod(struct mesh *m, const struct pod *p, char **spec_path, struct err *e)
{
	static const char longest[] = "/agent/xds.sock"; /* of the sockets below */
	char *dir cleanup(free_p) = pod_state_dir(&m->paths, p);
	if (strlen(dir) + strlen(longest) > SOCKET_PATH_MAX)
		return err_set(e, ERR_LIMIT,
			"its sockets below %s would have paths over %d bytes: choose a shorter --state", dir,
			SOCKET_PATH_MAX);
	char *token cleanup(free_p) = xasprintf("%s/token", dir);
	*spec_path = xasprintf("%s/pod.json", dir);
	return hosts_add_namespace(m->hosts, p->ns, e) && file_mkdirs(dir, 0700, e) &&
	       spec_write(&m->paths, p, *spec_path, e) && (mint_token(m, p->ns, p->service_account, token), true);
}

/* With the settings of its proxy; what it asks for without an effect here is said. */
static bool configure_pod(struct arena *a, const struct config *config, const char *name, struct pod *p, struct err *e)
{
	struct diags warnings;
	diags_init(&warnings, a);
	bool ok = !p->proxy || config_for_pod(a, config, p, &warnings, e);
	for (size_t i = 0; i < warnings.len; i++) {
		char *text cleanup(free_p) = diag_format(&warnings.items[i]);
		log_warn(&up_log, "pod", KV("pod", name), KV("problem", text));
	}
	return ok;
}

static void start_pod(struct mesh *m, struct arena *a, const struct config *config, struct pod p)
{
	struct err e = {0};
	char *spec = NULL, *name cleanup(free_p) = xasprintf("%s/%s", p.ns, p.name);
	if (!configure_pod(a, config, name, &p, &e) || !prepare_pod(m, &p, &spec, &e)) {
		log_error(&up_log, "pod not started", KV("pod", name), KV("error", e.text));
		free(spec);
		return;
	}
	struct unit *u = mesh_unit(m, name);
	if (!u) {
		u = unit_new(m, UNIT_POD, name, xasprintf("%.*s.log", (int)(strlen(spec) - strlen(".json")), spec));
		const char **argv = ARENA_ARRAY(m->arena, const char *, 4);
		argv[0] = "/proc/self/exe";
		argv[1] = "pod-init";
		argv[2] = arena_strdup(m->arena, spec);
		u->argv = argv;
	}
	free(spec);
	u->pod_hash = p.hash;
	terminate(u); /* comes back with the new specification */
	u->wanted = true;
	unit_start(u);
}

static bool is_gone(const struct unit *u, const struct pods *pods)
{
	if (u->kind != UNIT_POD || !u->wanted)
		return false;
	const char *slash = strchr(u->name, '/');
	char *ns cleanup(free_p) = xstrndup(u->name, (size_t)(slash - u->name));
	return !pods_find(pods, ns, slash + 1);
}

static bool any_gone(const struct mesh *m, const struct pods *pods)
{
	for (const struct unit *u = m->units; u; u = u->next)
		if (is_gone(u, pods))
			return true;
	return false;
}

static void stop_gone(struct mesh *m, const struct pods *pods)
{
	for (struct unit *u = m->units; u; u = u->next) {
		if (!is_gone(u, pods))
			continue;
		log_info(&up_log, "pod is gone from the directory", KV("pod", u->name));
		unit_stop(u);
	}
}

static bool is_new(struct mesh *m, const struct pod *p)
{
	char *name cleanup(free_p) = xasprintf("%s/%s", p->ns, p->name);
	const struct unit *u = mesh_unit(m, name);
	return !u || u->pod_hash != p->hash || (!u->wanted && !pods_find(&m->pods, p->ns, p->name));
}

/* The configuration is read again only when a pod starts. */
static bool start_new(struct mesh *m, struct arena *a, const struct pods *pods, struct err *e)
{
	struct config config = {0};
	for (size_t i = 0; i < pods->len; i++) {
		if (!is_new(m, &pods->items[i]))
			continue;
		if (!config.trust_domain && !config_read(a, m->paths.dir, false, &config, e))
			return false;
		start_pod(m, a, &config, pods->items[i]);
	}
	return true;
}

bool mesh_apply_pods(struct mesh *m, bool sure, bool *again, struct err *e)
{
	struct arena *a = arena_new();
	struct diags warnings;
	struct pods pods = {0};
	diags_init(&warnings, a);
	if (!pods_read(a, m->paths.dir, &m->pods, &pods, &warnings, e)) {
		arena_free(a);
		return false;
	}
	*again = !sure && any_gone(m, &pods);
	if (*again) {
		arena_free(a);
		return true;
	}
	for (size_t i = 0; i < warnings.len; i++) {
		char *text cleanup(free_p) = diag_format(&warnings.items[i]);
		log_warn(&up_log, "pods", KV("problem", text));
	}
	stop_gone(m, &pods);
	bool ok = start_new(m, a, &pods, e);
	arena_free(m->pods_arena);
	m->pods_arena = a;
	m->pods = pods;
	return ok;
}

static size_t running(const struct mesh *m, enum unit_kind kind)
{
	size_t n = 0;
	for (const struct unit *u = m->units; u; u = u->next)
		n += u->kind == kind && u->proc;
	return n;
}

static void terminate_all(const struct mesh *m, enum unit_kind kind)
{
	for (struct unit *u = m->units; u; u = u->next)
		if (u->kind == kind)
			terminate(u);
}

/* Daemons when the last pod has ended, so that agents can still drain and report. */
static void stop_next(struct mesh *m)
{
	if (running(m, UNIT_POD))
		return;
	if (!m->daemons_told) {
		m->daemons_told = true;
		terminate_all(m, UNIT_DAEMON);
	}
	if (!running(m, UNIT_DAEMON))
		loop_stop(m->loop);
}

static void on_grace_over(void *ctx)
{
	struct mesh *m = ctx;
	for (const struct unit *u = m->units; u; u = u->next)
		if (u->proc)
			log_warn(&up_log, "did not stop in time and is killed", KV("unit", u->name));
	loop_stop(m->loop);
}

void mesh_stop(struct mesh *m)
{
	if (m->stopping) {
		loop_stop(m->loop);
		return;
	}
	m->stopping = true;
	m->grace = timer_new(m->loop, on_grace_over, m);
	timer_start(m->grace, STOP_GRACE_MS, 0);
	for (struct unit *u = m->units; u; u = u->next)
		timer_stop(u->restart);
	terminate_all(m, UNIT_POD);
	stop_next(m);
}

void mesh_free(struct mesh *m)
{
	timer_free(m->token_timer);
	timer_free(m->nudge);
	timer_free(m->grace);
	hosts_free(m->hosts);
	while (m->units) {
		struct unit *u = m->units;
		m->units = u->next;
		unit_free(u);
	}
	arena_free(m->pods_arena);
	arena_free(m->arena);
}

void mesh_write_json(const struct mesh *m, struct strbuf *out)
{
	strbuf_adds(out, "{\"state\":");
	strbuf_add_json(out, str_of(m->paths.state));
	strbuf_adds(out, ",\"dir\":");
	strbuf_add_json(out, str_of(m->paths.dir));
	strbuf_addf(out, ",\"pid\":%d,\"units\":[", (int)getpid());
	const char *comma = "";
	for (const struct unit *u = m->units; u; u = u->next) {
		strbuf_addf(out, "%s{\"kind\":\"%s\",\"name\":", comma, u->kind == UNIT_DAEMON ? "daemon" : "pod");
		strbuf_add_json(out, str_of(u->name));
		strbuf_addf(out, ",\"pid\":%d,\"wanted\":%s,\"starts\":%u,\"log\":", u->proc ? proc_pid(u->proc) : 0,
			u->wanted ? "true" : "false", u->starts);
		strbuf_add_json(out, str_of(u->log_path));
		const struct pod *p = mesh_pod(m, u);
		if (p)
			strbuf_addf(out, ",\"ip\":\"%s\",\"proxy\":%s,\"gateway\":%s,\"port\":%u", p->ip,
				p->proxy ? "true" : "false", p->gateway ? "true" : "false", p->port);
		strbuf_adds(out, "}");
		comma = ",";
	}
	strbuf_adds(out, "]}\n");
}
