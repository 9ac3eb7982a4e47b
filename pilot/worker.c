/*
 * DOC: A worker's thread: streams in, sessions, responses out. A response is written as pieces that all streams share. A stream whose
 * queue has not drained gets nothing more until it has: what changes meanwhile merges in its session, so that a slow proxy costs
 * itself only. Before the first model streams are paused: an empty configuration must never reach a proxy.
 */
#include "pilot/worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/file.h"
#include "common/io/trim.h"
#include "common/base/limits.h"
#include "common/mesh/spiffe.h"
#include "common/pki/pki.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
#define QUEUE_BYTES_MAX (256u << 10) /* of unsent output before a stream's changes begin to merge */
#define CALL_WAIT_S 2
#define WRITE_TURN_US 10000u
#define TEND_MS 5000u

METRIC(connected, GAUGE, "pilot_xds", "xDS streams that are open");
METRIC(withheld, COUNTER, "pilot_sds_certificate_errors_total",
	"gateways that were refused the keys of Secrets, since their account may not list those");
METRIC(denied, COUNTER, "pilot_xds_identity_mismatch",
	"streams whose certificate is not that of the proxy they claim to be");

LOG_SCOPE(worker_log, "worker", "threads that serve proxies");
static atomic_int open_streams;

struct stream {
	struct worker *worker;
	struct grpc_stream *grpc;
	struct xds_session *session;
	size_t place;
};

struct worker {
	struct worker_options options;
	struct loop *loop;
	pthread_t thread;
	struct engine *engine;
	struct engine_source source;
	struct grpc_server *server;
	struct grpc_channel *ca;
	struct tls_context *ca_tls, *tls;
	struct timer *wake;
	struct trim *trim;
	struct timer *tend;
	struct xds_response out;
	VEC(struct stream *) streams;
	clockid_t cpu; /* the thread's clock */
	bool moved; /* levels may differ from those that were collected last, and the main thread was told so */
	_Atomic uint64_t snapshot_cpu_us; /* when the last snapshot came; 0: none yet */
};

/* NULL: not about a workload that registers itself. */
static void tell(const struct stream *s, struct workload_note *n)
{
	if (!n)
		return;
	n->pilot = s->worker->options.pilot;
	loop_post(s->worker->options.main_loop, s->worker->options.on_workload, n);
}

static void on_health(void *ctx, bool healthy, struct str why)
{
	const struct stream *s = ctx;
	struct workload_note *n = workload_note(session_proxy(s->session), WORKLOAD_HEALTH);

	if (!n)
		return;
	n->healthy = healthy;
	n->why = arena_str(n->arena, why);
	tell(s, n);
}

static bool admit(void *ctx, struct proxy *p, struct err *e)
{
	const struct stream *s = ctx;
	const struct tls_peer *peer = grpc_stream_peer(s->grpc);
	struct spiffe_id id;

	p->own_gateways = s->worker->options.scope_gateways;
	if (!peer && p->register_group.len) /* else anybody could become an endpoint */
		return err_set(
			e, ERR_DENIED, "a workload that registers itself must come over TLS, with its certificate");
	if (!peer)
		return true;
	if (!peer->verified || !peer->spiffe_id.len)
		return err_set(e, ERR_DENIED, "xDS over TLS needs a client certificate");
	if (!spiffe_parse(peer->spiffe_id, &id, e))
		return err_in(e, "client certificate");
	if (str_eq(id.ns, p->ns) && (!p->service_account.len || str_eq(id.service_account, p->service_account))) {
		p->verified_ns = p->ns;
		p->verified_account = id.service_account;
		return true;
	}
	metric_add(&denied, 1);
	return err_set(e, ERR_DENIED,
		"identity " STR_FMT " is not that of proxy " STR_FMT " (namespace " STR_FMT ", service account " STR_FMT
		")",
		STR_ARG(peer->spiffe_id), STR_ARG(p->id), STR_ARG(p->ns), STR_ARG(p->service_account));
}

static struct str join(struct arena *a, const struct str *items, size_t n)
{
	struct strbuf b = {0};
	for (size_t i = 0; i < n; i++)
		strbuf_addf(&b, "%s" STR_FMT, i ? ", " : "", STR_ARG(items[i]));
	struct str out = arena_str(a, strbuf_str(&b));
	strbuf_done(&b);
	return out;
}

static void on_nack(void *ctx, const struct xds_nack *n)
{
	const struct stream *s = ctx;
	struct arena *a = arena_new();
	struct worker_nack *copy = ARENA_NEW(a, struct worker_nack);
	struct str *objects = ARENA_ARRAY(a, struct str, n->n_objects);

	for (size_t i = 0; i < n->n_objects; i++)
		objects[i] = str_of(n->objects[i].object);
	*copy = (struct worker_nack){.pilot = s->worker->options.pilot,
		.arena = a,
		.proxy = arena_str(a, n->proxy->id),
		.type = str_of(xds_type_info(n->type)->name),
		.text = arena_str(a, n->text),
		.isolated = n->isolated,
		.resources = join(a, n->resources, n->n_resources),
		.objects = join(a, objects, n->n_objects)};
	loop_post(s->worker->options.main_loop, s->worker->options.on_nack, copy);
}

/* Sidecars seldom ask for Secrets: of them only the debug page tells. */
static void on_withheld(void *ctx, struct str why)
{
	const struct stream *s = ctx;
	const struct proxy *p = session_proxy(s->session);

	if (p->type == PROXY_SIDECAR)
		return;
	if (!why.len) {
		log_info(&worker_log, "a gateway is given the keys of Secrets again", KV("proxy", p->id));
		return;
	}
	metric_add(&withheld, 1);
	log_warn(&worker_log, "keys of Secrets are withheld from a gateway", KV("proxy", p->id),
		KV("account", p->verified_account), KV("reason", why));
}

static const struct session_ops ops = {
	.admit = admit, .on_nack = on_nack, .on_withheld = on_withheld, .on_health = on_health};

static void moved(struct worker *w)
{
	if (!w->moved)
		loop_post(w->options.main_loop, w->options.on_moved, w->options.pilot);
	w->moved = true;
}

static void on_levels_asked(void *ctx)
{
	struct worker *w = ctx;
	w->moved = false;
	struct worker_levels *l = levels_collect(w->engine, w->options.index);
	l->pilot = w->options.pilot;
	loop_post(w->options.main_loop, w->options.on_levels, l);
}

void worker_ask_levels(struct worker *w)
{
	loop_post(w->loop, on_levels_asked, w);
}

static void pump(struct stream *s, uint64_t now)
{
	struct worker *w = s->worker;
	while (grpc_stream_queued(s->grpc) < QUEUE_BYTES_MAX && session_next(s->session, now, &w->out))
		grpc_stream_send_slices(s->grpc, w->out.pieces, w->out.n_pieces);
	uint64_t wake = session_wake_us(s->session);
	if (wake && !timer_active(w->wake))
		timer_start(w->wake, wake > now ? (wake - now) / 1000 + 1 : 1, 0);
}

/* A response is written at once, while all that belongs to the proxy is at hand; after a while answers have a turn first. */
static void pump_all(void *ctx)
{
	struct worker *w = ctx;
	uint64_t now = clock_mono_us(), end = now + WRITE_TURN_US;
	bool write = true;
	for (size_t i = 0; i < w->streams.len; i++) {
		pump(w->streams.items[i], now);
		write = write && clock_mono_us() < end;
		if (write)
			grpc_server_flush(w->server);
	}
}

static void tend(void *ctx)
{
	struct worker *w = ctx;
	engine_tend(w->engine, clock_mono_us());
}

static void open_stream(struct grpc_stream *g, struct worker *w, enum xds_mode mode)
{
	struct stream *s = xzalloc(sizeof(*s));
	s->worker = w;
	s->grpc = g;
	s->session = session_new(w->engine, mode, &ops, s);
	s->place = w->streams.len;
	vec_push(&w->streams, s);
	grpc_stream_set_user(g, s);
	if (!engine_has_content(w->engine))
		grpc_stream_pause(g, true);
	metric_set(&connected, atomic_fetch_add(&open_streams, 1) + 1);
	trim_soon(w->trim);
}

static void on_open_sotw(struct grpc_stream *g, void *ctx)
{
	open_stream(g, ctx, XDS_SOTW);
}

static void on_open_delta(struct grpc_stream *g, void *ctx)
{
	open_stream(g, ctx, XDS_DELTA);
}

static enum grpc_status status_of(enum err_kind kind)
{
	switch (kind) {
	case ERR_LIMIT:
		return GRPC_RESOURCE_EXHAUSTED;
	case ERR_DENIED:
		return GRPC_PERMISSION_DENIED;
	case ERR_BUG:
		return GRPC_UNAVAILABLE;
	case ERR_PEER:
		return GRPC_INVALID_ARGUMENT;
	case ERR_NONE:
	case ERR_SYSTEM:
	case ERR_LIBRARY:
	case ERR_COUNT:
		break;
	}
	return GRPC_INTERNAL;
}

static void on_message(struct grpc_stream *g, const uint8_t *data, size_t len)
{
	struct stream *s = grpc_stream_user(g);
	struct err e = {0};
	uint64_t now = clock_mono_us();
	bool known = session_proxy(s->session) != NULL;

	if (!session_recv(s->session, data, len, now, &e)) {
		log_warn(&worker_log, "stream refused", KV("address", grpc_stream_address(g)), KV("reason", e.text));
		grpc_stream_finish(g, status_of(e.kind), "%s", e.text);
		return;
	}
	if (!known) {
		log_info(&worker_log, "proxy connected", KV("proxy", session_proxy(s->session)->id),
			KV("address", grpc_stream_address(g)));
		tell(s, workload_note(session_proxy(s->session), WORKLOAD_CONNECTED));
	}
	pump(s, now);
	moved(s->worker);
}

static void on_half_close(struct grpc_stream *g)
{
	grpc_stream_finish(g, GRPC_OK, "%s", "");
}

static void on_writable(struct grpc_stream *g)
{
	pump(grpc_stream_user(g), clock_mono_us());
}

static void on_close(struct grpc_stream *g, enum grpc_status status, struct str message)
{
	struct stream *s = grpc_stream_user(g);
	struct worker *w = s->worker;
	struct stream *last = w->streams.items[--w->streams.len];

	w->streams.items[s->place] = last;
	last->place = s->place;
	if (session_proxy(s->session))
		log_info(&worker_log, "proxy left", KV("proxy", session_proxy(s->session)->id),
			KV("status", grpc_status_name(status)));
	tell(s, workload_note(session_proxy(s->session), WORKLOAD_LEFT));
	session_free(s->session, clock_mono_us());
	free(s);
	moved(w);
	trim_soon(w->trim);
	metric_set(&connected, atomic_fetch_sub(&open_streams, 1) - 1);
}

static const struct grpc_handler sotw = {on_open_sotw, on_message, on_half_close, on_writable, on_close};
static const struct grpc_handler delta = {on_open_delta, on_message, on_half_close, on_writable, on_close};

struct snapshot {
	struct worker *worker;
	struct model *model;
	struct read_keys touched;
	uint64_t at_us;
};

static uint64_t cpu_us(const struct worker *w)
{
	struct timespec t = {0};
	(void)clock_gettime(w->cpu, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t worker_push_cost_us(const struct worker *w)
{
	uint64_t at = atomic_load(&w->snapshot_cpu_us);
	return at ? min_size(cpu_us(w) - at, 1000000u) : 0;
}

static void on_snapshot(void *ctx)
{
	struct snapshot *n = ctx;
	struct worker *w = n->worker;
	bool first = !engine_has_content(w->engine);

	atomic_store(&w->snapshot_cpu_us, cpu_us(w));
	engine_update(w->engine, n->model, &n->touched, n->at_us);
	if (first) {
		for (size_t i = 0; i < w->streams.len; i++)
			grpc_stream_pause(w->streams.items[i]->grpc, false);
	}
	pump_all(w);
	moved(w);
	trim_soon(w->trim);
	model_unref(n->model);
	read_keys_done(&n->touched);
	free(n);
}

void worker_publish(struct worker *w, struct model *m, const struct read_keys *touched, uint64_t at_us)
{
	struct snapshot *n = xzalloc(sizeof(*n));
	n->worker = w;
	n->model = model_ref(m);
	n->at_us = at_us;
	for (size_t i = 0; i < touched->len; i++)
		read_keys_add(&n->touched, touched->items[i]);
	read_keys_seal(&n->touched);
	loop_post(w->loop, on_snapshot, n);
}

struct given {
	struct worker *worker;
	int fd;
	bool secure;
};

static void on_given(void *ctx)
{
	struct given *g = ctx;
	grpc_server_adopt(g->worker->server, g->fd, g->secure ? g->worker->tls : NULL);
	free(g);
}

void worker_adopt(struct worker *w, int fd, bool secure)
{
	struct given *g = xzalloc(sizeof(*g));
	*g = (struct given){.worker = w, .fd = fd, .secure = secure};
	loop_post(w->loop, on_given, g);
}

struct material {
	struct worker *worker;
	char *key, *chain, *roots;
};

static void on_material(void *ctx)
{
	struct material *m = ctx;
	struct worker *w = m->worker;
	struct err e = {0};

	if (!tls_context_set_identity(w->tls, str_of(m->chain), str_of(m->key), &e) ||
		!tls_context_set_roots(w->tls, str_of(m->roots), &e) ||
		(w->ca_tls && (!tls_context_set_identity(w->ca_tls, str_of(m->chain), str_of(m->key), &e) ||
				      !tls_context_set_roots(w->ca_tls, str_of(m->roots), &e))))
		log_error(&worker_log, "identity refused", KV("reason", e.text));
	secret_free(m->key);
	free(m->chain);
	free(m->roots);
	free(m);
}

void worker_identity(struct worker *w, const char *key_pem, const char *chain_pem, const char *roots_pem)
{
	struct material *m = xzalloc(sizeof(*m));
	*m = (struct material){
		.worker = w, .key = xstrdup(key_pem), .chain = xstrdup(chain_pem), .roots = xstrdup(roots_pem)};
	loop_post(w->loop, on_material, m);
}

struct drain {
	struct worker *worker;
	uint64_t grace_ms;
	void (*done)(void *ctx);
	void *ctx;
};

static void on_drained(void *ctx)
{
	struct drain *d = ctx;
	loop_post(d->worker->options.main_loop, d->done, d->ctx);
	free(d);
}

static void on_drain(void *ctx)
{
	struct drain *d = ctx;
	grpc_server_drain(d->worker->server, d->grace_ms, on_drained, d);
}

void worker_drain(struct worker *w, uint64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
	struct drain *d = xzalloc(sizeof(*d));
	*d = (struct drain){.worker = w, .grace_ms = grace_ms, .done = done, .ctx = ctx};
	loop_post(w->loop, on_drain, d);
}

static bool connect_ca(struct worker *w, struct err *e)
{
	const struct worker_options *o = &w->options;
	if (str_empty(o->ca_address))
		return true;
	if (!str_starts(str_of(o->ca_address), STR("unix:"))) {
		cleanup(free_p) char *roots = NULL;
		size_t len;
		const struct tls_options tls = {.peer_auth = TLS_PEER_REQUIRED};
		if (str_empty(o->ca_roots))
			return err_set(e, ERR_PEER, "--ca-roots is needed to reach the CA over TLS");
		w->ca_tls = tls_context_new(&tls);
		/* Citadel makes the file at its first start, and pilot waits for nobody: then the roots come with pilot's own certificate. */
		bool there = file_exists(o->ca_roots);
		if ((there && (!file_read(o->ca_roots, LIMIT_PEM_BYTES, &roots, &len, e) ||
				      !tls_context_set_roots(w->ca_tls, str_n(roots, len), e))) ||
			!tls_context_set_server_names(w->ca_tls, o->ca_names, e))
			return err_in(e, "--ca-roots");
	}
	const struct grpc_channel_options options = {.target = o->ca_address, .tls = w->ca_tls};
	w->ca = grpc_channel_new(w->loop, &options);
	return true;
}

static void *run(void *ctx)
{
	struct worker *w = ctx;
	loop_run(w->loop);
	return NULL;
}

static void free_worker(struct worker *w)
{
	grpc_server_free(w->server);
	if (w->ca)
		grpc_channel_free(w->ca);
	if (w->ca_tls)
		tls_context_free(w->ca_tls);
	tls_context_free(w->tls);
	timer_free(w->wake);
	trim_free(w->trim);
	timer_free(w->tend);
	loop_free(w->loop); /* runs what was posted and not yet done */
	vec_done(&w->streams);
	xds_response_done(&w->out);
	engine_free(w->engine);
	free(w);
}

struct worker *worker_start(const struct worker_options *o, struct err *e)
{
	struct worker *w = xzalloc(sizeof(*w));
	const struct grpc_server_options server = {
		.max_connection_age_ms = o->max_connection_age_ms, .keepalive_ms = o->keepalive_ms};

	w->options = *o;
	w->loop = loop_new();
	for (unsigned t = 0; t < XDS_TYPE_COUNT; t++)
		w->source.translators[t] = translator_get((enum xds_type)t);
	w->source.scope_of = scope_of;
	w->engine = engine_new(&w->source);
	w->wake = timer_new(w->loop, pump_all, w);
	w->trim = trim_new(w->loop);
	w->tend = timer_new(w->loop, tend, w);
	timer_start(w->tend, TEND_MS, TEND_MS);
	w->server = grpc_server_new(w->loop, &server);
	grpc_server_route(w->server, ADS "StreamAggregatedResources", &sotw, w);
	grpc_server_route(w->server, ADS "DeltaAggregatedResources", &delta, w);
	ca_relay_route(w->server, &w->ca);
	const struct tls_options tls = {
		.server = true, .peer_auth = TLS_PEER_OPTIONAL, .trust_domain = o->trust_domain};
	w->tls = tls_context_new(&tls);
	if (!connect_ca(w, e)) {
		free_worker(w);
		return NULL;
	}
	int failed = pthread_create(&w->thread, NULL, run, w);
	if (failed) {
		errno = failed;
		(void)err_errno(e, "worker thread");
		free_worker(w);
		return NULL;
	}
	(void)pthread_getcpuclockid(w->thread, &w->cpu);
	return w;
}

void worker_stop(struct worker *w)
{
	loop_stop(w->loop);
	(void)pthread_join(w->thread, NULL);
	free_worker(w);
}

struct call {
	atomic_int users;
	sem_t done;
	struct worker *worker;
	void (*fn)(const struct worker_view *v, struct str argument, struct strbuf *json);
	char *argument;
	struct strbuf json;
};

static void call_unref(struct call *c)
{
	if (atomic_fetch_sub(&c->users, 1) > 1)
		return;
	(void)sem_destroy(&c->done);
	strbuf_done(&c->json);
	free(c->argument);
	free(c);
}

static void on_call(void *ctx)
{
	struct call *c = ctx;
	const struct worker_view v = {c->worker->engine, c->worker->server, c->worker->options.index};
	c->fn(&v, str_of(c->argument), &c->json);
	(void)sem_post(&c->done);
	call_unref(c);
}

bool worker_call(struct worker *w, void (*fn)(const struct worker_view *v, struct str argument, struct strbuf *json),
	struct str argument, struct strbuf *json)
{
	struct call *c = xzalloc(sizeof(*c));
	struct timespec until;
	bool ok;

	atomic_init(&c->users, 2);
	(void)sem_init(&c->done, 0, 0);
	c->worker = w;
	c->fn = fn;
	c->argument = xstrndup(argument.ptr ? argument.ptr : "", argument.len);
	loop_post(w->loop, on_call, c);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CALL_WAIT_S;
	do
		ok = sem_timedwait(&c->done, &until) == 0;
	while (!ok && errno == EINTR);
	if (ok)
		strbuf_add(json, strbuf_str(&c->json));
	call_unref(c);
	return ok;
}
