/*
 * DOC: The gRPC server: listeners, the table of paths, the limit on connections, handing connections to other threads, draining.
 * When the process is out of descriptors the listeners rest for a moment instead of spinning on a readiness that cannot be served.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/vec.h"
#include "common/io/grpc_stream.h"
#include "common/io/scopes.h"

METRIC(refused_counter, COUNTER, "grpc_server_connections_refused_total", "connections closed at once", "reason");

#define ACCEPTS_PER_TURN 64
#define REST_MS 100u
#define SETUP_TIMEOUT_MS 10000u

struct listener {
	struct grpc_server *server;
	int fd;
	struct watch *watch;
	struct tls_context *tls;
	char *address;
	char *unix_path; /* removed at the end */
};

struct route {
	const struct grpc_handler *handler;
	void *ctx;
};

struct grpc_server {
	struct loop *loop;
	struct h2_env *env;
	struct map *routes;
	VEC(struct listener *) listeners;
	size_t max_connections;
	struct timer *rest; /* runs while listeners rest */
	struct timer *drain_timer;
	bool draining, drain_told;
	void (*drained)(void *ctx);
	void *drained_ctx;
	bool (*give_away)(void *ctx, int fd, struct tls_context *tls);
	void *give_away_ctx;
};

static const struct grpc_handler *find_route(void *owner, struct str path, void **ctx)
{
	struct grpc_server *s = owner;
	const struct route *r = map_get(s->routes, path);
	if (!r)
		return NULL;
	*ctx = r->ctx;
	return r->handler;
}

static void tell_drained(struct grpc_server *s)
{
	if (!s->draining || s->drain_told)
		return;
	s->drain_told = true;
	timer_stop(s->drain_timer);
	if (s->drained)
		s->drained(s->drained_ctx);
}

static void on_no_streams(void *owner)
{
	tell_drained(owner);
}

static const struct h2_ops server_ops = {.route = find_route, .idle = on_no_streams};

static void on_rest_over(void *ctx)
{
	struct grpc_server *s = ctx;
	for (size_t i = 0; i < s->listeners.len; i++)
		watch_set(s->listeners.items[i]->watch, WATCH_READ);
}

static void rest(struct grpc_server *s, const char *address, int why)
{
	log_warn(&grpc_log, "cannot accept connections", KV("address", address), KV("reason", strerror(why)),
		KV("pause_ms", REST_MS));
	for (size_t i = 0; i < s->listeners.len; i++)
		watch_set(s->listeners.items[i]->watch, 0);
	timer_start(s->rest, REST_MS, 0);
}

void grpc_server_adopt(struct grpc_server *s, int fd, struct tls_context *tls)
{
	char address[128];
	if (s->draining || s->env->n_conns >= s->max_connections) {
		metric_add(&refused_counter, 1, s->draining ? "draining" : "limit");
		log_debug(&grpc_log, "connection refused", KV("connections", s->env->n_conns),
			KV("limit", s->max_connections));
		(void)close(fd);
		return;
	}
	net_peer_address(fd, address);
	(void)h2_conn_new(s->env, fd, tls, NULL, address);
}

static void on_accept(void *ctx, int events)
{
	(void)events;
	struct listener *l = ctx;
	struct grpc_server *s = l->server;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (!s->give_away || !s->give_away(s->give_away_ctx, fd, l->tls))
				grpc_server_adopt(s, fd, l->tls);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			rest(s, l->address, errno);
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static struct h2_options options_of(const struct grpc_server_options *o)
{
	return (struct h2_options){
		.server = true,
		.keepalive_ms = o->keepalive_ms ? o->keepalive_ms : 30000,
		.keepalive_timeout_ms = o->keepalive_timeout_ms ? o->keepalive_timeout_ms : 10000,
		.setup_timeout_ms = SETUP_TIMEOUT_MS,
		.max_age_ms = o->max_connection_age_ms,
		.grace_ms = o->max_connection_grace_ms,
		.max_message_bytes = o->max_message_bytes ? o->max_message_bytes : LIMIT_GRPC_MESSAGE_BYTES,
		.max_streams = o->max_streams ? o->max_streams : LIMIT_GRPC_CONCURRENT_STREAMS,
	};
}

static void on_drain_over(void *ctx)
{
	struct grpc_server *s = ctx;
	tell_drained(s);
}

struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_server_options *o)
{
	const struct grpc_server_options none = {0};
	struct grpc_server *s = xzalloc(sizeof(*s));
	struct h2_options h2 = options_of(o ? o : &none);
	s->loop = l;
	s->env = h2_env_new(l, &h2, &server_ops, s);
	s->routes = map_new();
	s->max_connections = o && o->max_connections ? o->max_connections : LIMIT_GRPC_CONNECTIONS;
	s->rest = timer_new(l, on_rest_over, s);
	s->drain_timer = timer_new(l, on_drain_over, s);
	return s;
}

void grpc_server_route(struct grpc_server *s, const char *path, const struct grpc_handler *h, void *ctx)
{
	struct route *r = xzalloc(sizeof(*r));
	*r = (struct route){h, ctx};
	free(map_put(s->routes, str_of(path), r));
}

bool grpc_server_listen(
	struct grpc_server *s, const char *address, struct tls_context *tls, uint16_t *bound_port, struct err *e)
{
	struct addr a;
	int fd;
	uint16_t port = 0;
	if (!addr_parse(str_of(address), &a, e))
		return err_in(e, "listen");
	if (!net_listen(&a, &fd, &port, e))
		return err_in(e, "listen on %s", address);
	struct listener *l = xzalloc(sizeof(*l));
	*l = (struct listener){.server = s, .fd = fd, .tls = tls, .address = xstrdup(address)};
	const char *path = ((const struct sockaddr_un *)&a.sa)->sun_path;
	if (addr_is_unix(&a) && path[0])
		l->unix_path = xstrdup(path);
	if (tls)
		tls_context_ref(tls);
	l->watch = watch_new(s->loop, fd, WATCH_READ, on_accept, l);
	vec_push(&s->listeners, l);
	if (bound_port)
		*bound_port = port;
	log_info(&grpc_log, "listening", KV("address", address), KV("port", port), KV("tls", (bool)(tls != NULL)));
	return true;
}

void grpc_server_on_accept(
	struct grpc_server *s, bool (*give_away)(void *ctx, int fd, struct tls_context *tls), void *ctx)
{
	s->give_away = give_away;
	s->give_away_ctx = ctx;
}

static void close_listeners(struct grpc_server *s)
{
	for (size_t i = 0; i < s->listeners.len; i++) {
		struct listener *l = s->listeners.items[i];
		watch_free(l->watch);
		(void)close(l->fd);
		if (l->unix_path)
			(void)unlink(l->unix_path);
		tls_context_free(l->tls);
		free(l->unix_path);
		free(l->address);
		free(l);
	}
	vec_done(&s->listeners);
	timer_stop(s->rest);
}

void grpc_server_drain(struct grpc_server *s, uint64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
	s->draining = true;
	s->drain_told = false;
	s->drained = done;
	s->drained_ctx = ctx;
	close_listeners(s);
	for (struct h2_conn *c = s->env->conns, *next; c; c = next) {
		next = c->next;
		h2_conn_drain(c, grace_ms);
	}
	/* Streams are ended at grace_ms; their trailers get a moment on top. Without streams: in the next turn of the loop. */
	timer_start(s->drain_timer, s->env->n_streams ? grace_ms + grace_ms / 4 + 200 : 0, 0);
}

static void free_routes(struct map *routes)
{
	struct str path;
	void *r;
	for (size_t i = 0; map_next(routes, &i, &path, &r);)
		free(r);
	map_free(routes);
}

void grpc_server_free(struct grpc_server *s)
{
	if (!s)
		return;
	close_listeners(s);
	h2_env_close(s->env, "the server is being stopped");
	free_routes(s->routes);
	timer_free(s->rest);
	timer_free(s->drain_timer);
	free(s);
}

void grpc_server_flush(struct grpc_server *s)
{
	h2_env_flush(s->env);
}

size_t grpc_server_connections(const struct grpc_server *s)
{
	return s->env->n_conns;
}

void grpc_server_debug(const struct grpc_server *s, struct strbuf *json)
{
	for (const struct h2_conn *c = s->env->conns; c; c = c->next) {
		if (c != s->env->conns)
			strbuf_addc(json, ',');
		h2_conn_debug(c, json);
	}
}
