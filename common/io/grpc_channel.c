/*
 * DOC: The gRPC client: one connection at a time to one target, made again after a jittered, doubling delay. Names are resolved
 * anew (off the loop, by libuv's thread pool) for each attempt, and the addresses are tried in their order. Calls wait in the
 * channel until the server's SETTINGS have come. After GOAWAY the old connection finishes what it has and new calls go to a new one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/grpc_stream.h"
#include "common/io/resolve.h"
#include "common/io/scopes.h"

struct grpc_channel {
	struct loop *loop;
	struct h2_env *env;
	char *target, *host, *authority;
	uint16_t port;
	struct tls_context *tls;
	bool is_ip, is_unix, eager;
	uint64_t backoff_min_ms, backoff_max_ms, backoff_ms, connect_timeout_ms, idle_ms;
	void (*on_state)(void *ctx, bool connected, const char *reason);
	void *ctx;
	struct h2_conn *conn; /* the one for new calls; may not be up yet */
	struct grpc_stream *waiting; /* calls without a connection, newest first */
	struct timer *retry; /* next attempt, or the end of idleness */
	struct timer *limit; /* of one attempt to connect */
	struct timer *idle;
	struct resolve *resolving;
	struct addr *addresses; /* of the name, those not tried yet from next_address on */
	size_t n_addresses, next_address;
	struct addr source; /* len 0: any */
	int fd; /* connecting */
	char connecting_to[128];
	struct watch *watch;
	bool told_connected;
	struct err last;
};

static void start(void *ctx);
static void try_next(struct grpc_channel *c);

static bool busy_connecting(const struct grpc_channel *c)
{
	return c->conn || c->resolving || c->fd >= 0 || timer_active(c->retry);
}

static bool wants_connection(const struct grpc_channel *c)
{
	return c->eager || c->waiting;
}

static void stop_connecting(struct grpc_channel *c)
{
	watch_free(take(c->watch));
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	free(take(c->addresses));
	c->n_addresses = c->next_address = 0;
	resolve_cancel(take(c->resolving));
	timer_stop(c->limit);
}

static void tell_state(struct grpc_channel *c, bool connected, const char *reason)
{
	bool changed = c->told_connected != connected;
	c->told_connected = connected;
	if (connected)
		log_info(&grpc_log, "connected", KV("target", c->target));
	else if (changed)
		log_info(&grpc_log, "disconnected", KV("target", c->target), KV("reason", reason));
	if (c->on_state)
		c->on_state(c->ctx, connected, reason);
}

static void fail_waiting(struct grpc_channel *c, bool all, const char *reason)
{
	for (struct grpc_stream *s = c->waiting, *next; s; s = next) {
		next = s->next;
		if (all || s->fail_fast)
			stream_end(s, GRPC_UNAVAILABLE, str_of(reason));
	}
}

/* The attempt, or the connection, has failed. */
static void failed(struct grpc_channel *c, const char *reason)
{
	stop_connecting(c);
	if (wants_connection(c)) {
		uint64_t wait = random_jitter(c->backoff_ms, 0.2);
		c->backoff_ms = min_size(c->backoff_ms * 2, c->backoff_max_ms);
		timer_start(c->retry, wait, 0);
		log_debug(&grpc_log, "not connected", KV("target", c->target), KV("reason", reason),
			KV("retry_ms", wait));
	}
	fail_waiting(c, false, reason);
	tell_state(c, false, reason); /* last: the owner may free the channel */
}

static void attempt_failed(struct grpc_channel *c)
{
	char text[600];
	(void)snprintf(text, sizeof(text), "%s: %s", c->target, c->last.text);
	failed(c, text);
}

static void use_socket(struct grpc_channel *c)
{
	int fd = c->fd;
	c->fd = -1;
	stop_connecting(c);
	char address[300];
	(void)snprintf(address, sizeof(address), "%s", c->is_unix || c->is_ip ? c->target : "");
	if (!address[0])
		(void)snprintf(address, sizeof(address), "%s (%s)", c->target, c->connecting_to);
	c->conn = h2_conn_new(c->env, fd, c->tls, c->is_unix || c->is_ip ? NULL : c->host, address);
	c->conn->authority = xstrdup(c->authority);
}

static void on_connecting(void *ctx, int events)
{
	(void)events;
	struct grpc_channel *c = ctx;
	watch_free(take(c->watch));
	if (net_connected(c->fd, &c->last)) {
		use_socket(c);
		return;
	}
	(void)err_in(&c->last, "%s", c->connecting_to);
	(void)close(c->fd);
	c->fd = -1;
	try_next(c);
}

static bool connect_to(struct grpc_channel *c, const struct addr *a)
{
	addr_format(a, c->connecting_to);
	if (!net_connect(a, c->source.len ? &c->source : NULL, &c->fd, &c->last)) {
		(void)err_in(&c->last, "%s", c->connecting_to);
		return false;
	}
	c->watch = watch_new(c->loop, c->fd, WATCH_WRITE, on_connecting, c);
	return true;
}

static void try_next(struct grpc_channel *c)
{
	while (c->next_address < c->n_addresses)
		if (connect_to(c, &c->addresses[c->next_address++]))
			return;
	attempt_failed(c);
}

static void on_resolved(void *ctx, const struct addr *list, size_t n, const struct err *why)
{
	struct grpc_channel *c = ctx;
	c->resolving = NULL;
	if (!n) {
		c->last = *why;
		attempt_failed(c);
		return;
	}
	c->addresses = xmalloc(n * sizeof(*list));
	memcpy(c->addresses, list, n * sizeof(*list));
	c->n_addresses = n;
	try_next(c);
}

static void on_limit(void *ctx)
{
	struct grpc_channel *c = ctx;
	(void)err_set(&c->last, ERR_SYSTEM, "%s%sno connection within %llu ms", c->connecting_to,
		c->connecting_to[0] ? ": " : "", (unsigned long long)c->connect_timeout_ms);
	attempt_failed(c);
}

static void start(void *ctx)
{
	struct grpc_channel *c = ctx;
	if (busy_connecting(c) || !wants_connection(c))
		return;
	c->connecting_to[0] = 0;
	timer_start(c->limit, c->connect_timeout_ms, 0);
	struct addr a;
	if (!c->is_unix && !c->is_ip)
		c->resolving = resolve_start(c->loop, c->host, c->port, on_resolved, c);
	else if (!addr_parse(str_of(c->target), &a, &c->last) || !connect_to(c, &a))
		attempt_failed(c);
}

/* ---- what the connection tells */

static void give_to(struct grpc_stream *s, struct h2_conn *conn)
{
	stream_unlink(s);
	stream_link(s, &conn->streams, conn);
	stream_mark(s);
}

static void on_up(void *owner, struct h2_conn *conn)
{
	struct grpc_channel *c = owner;
	if (conn != c->conn)
		return;
	c->backoff_ms = c->backoff_min_ms;
	struct grpc_stream *s = c->waiting;
	while (s && s->next)
		s = s->next;
	while (s) { /* oldest first */
		struct grpc_stream *newer = s->prev;
		if (!s->over)
			give_to(s, conn);
		s = newer;
	}
	tell_state(c, true, "");
}

static void on_going(void *owner, struct h2_conn *conn, const char *why)
{
	struct grpc_channel *c = owner;
	if (conn->calm_down) { /* gRPC: after too_many_pings the keepalive interval doubles */
		c->env->o.keepalive_ms *= 2;
		log_warn(&grpc_log, "the server wants fewer keepalives", KV("target", c->target),
			KV("keepalive_ms", c->env->o.keepalive_ms));
	}
	if (conn != c->conn)
		return;
	log_debug(&grpc_log, "connection is going away", KV("target", c->target), KV("reason", why));
	c->conn = NULL;
	if (wants_connection(c))
		timer_start(c->retry, random_jitter(c->backoff_min_ms, 0.2), 0);
}

static void on_down(void *owner, struct h2_conn *conn, const char *why)
{
	struct grpc_channel *c = owner;
	if (conn != c->conn)
		return;
	c->conn = NULL;
	failed(c, why);
}

static void on_idle_over(void *ctx)
{
	struct grpc_channel *c = ctx;
	if (c->conn && !c->env->n_streams && !c->eager)
		h2_conn_close(c->conn, "idle");
}

static void on_no_calls(void *owner)
{
	struct grpc_channel *c = owner;
	if (c->idle_ms)
		timer_start(c->idle, c->idle_ms, 0);
}

static void wait_for_connection(struct grpc_channel *c, struct grpc_stream *s)
{
	stream_link(s, &c->waiting, NULL);
	if (!busy_connecting(c))
		timer_start(c->retry, 0, 0);
}

static void on_requeue(void *owner, struct grpc_stream *s)
{
	struct grpc_channel *c = owner;
	stream_unlink(s);
	if (grpc_channel_connected(c)) {
		stream_link(s, &c->conn->streams, c->conn);
		stream_mark(s);
	} else {
		wait_for_connection(c, s);
	}
}

static const struct h2_ops channel_ops = {
	.up = on_up, .going = on_going, .down = on_down, .idle = on_no_calls, .requeue = on_requeue};

/* ---- the interface */

static void on_retry(void *ctx)
{
	start(ctx);
}

static void set_target(struct grpc_channel *c, const char *target)
{
	struct str host = {0}, text = str_of(target);
	uint16_t port = 0;
	uint8_t ip[16];
	unsigned bits;
	c->target = xstrdup(target);
	c->is_unix = str_starts(text, STR("unix:"));
	if (c->is_unix) {
		c->authority = xstrdup("localhost");
		return;
	}
	if (!addr_split(text, &host, &port, &c->last)) /* told at the first attempt: resolving this name fails */
		host = text;
	c->is_ip = ip_parse(host, ip, &bits);
	c->host = xstrndup(host.ptr, host.len);
	c->port = port;
	c->authority = xstrdup(target);
}

struct grpc_channel *grpc_channel_new(struct loop *l, const struct grpc_channel_options *o)
{
	struct grpc_channel *c = xzalloc(sizeof(*c));
	c->loop = l;
	c->fd = -1;
	c->tls = o->tls;
	if (c->tls)
		tls_context_ref(c->tls);
	c->eager = o->eager;
	c->backoff_min_ms = c->backoff_ms = o->backoff_min_ms ? o->backoff_min_ms : 200;
	c->backoff_max_ms = max_size(o->backoff_max_ms ? o->backoff_max_ms : 10000, c->backoff_min_ms);
	c->connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : 5000;
	c->idle_ms = o->idle_disconnect_ms;
	if (o->source)
		c->source = *o->source;
	c->on_state = o->on_state;
	c->ctx = o->ctx;
	set_target(c, o->target);
	const struct h2_options h2 = {
		.keepalive_ms = o->keepalive_ms ? o->keepalive_ms : 30000,
		.keepalive_timeout_ms = o->keepalive_timeout_ms ? o->keepalive_timeout_ms : 10000,
		.setup_timeout_ms = c->connect_timeout_ms,
		.max_message_bytes = o->max_message_bytes ? o->max_message_bytes : LIMIT_GRPC_MESSAGE_BYTES,
	};
	c->env = h2_env_new(l, &h2, &channel_ops, c);
	c->retry = timer_new(l, on_retry, c);
	c->limit = timer_new(l, on_limit, c);
	c->idle = timer_new(l, on_idle_over, c);
	if (c->eager)
		timer_start(c->retry, 0, 0); /* from the loop: on_state() never comes from inside this function */
	return c;
}

void grpc_channel_free(struct grpc_channel *c)
{
	if (!c)
		return;
	stop_connecting(c);
	c->conn = NULL;
	fail_waiting(c, true, "the channel has been closed");
	h2_env_close(c->env, "the channel has been closed");
	timer_free(c->retry);
	timer_free(c->limit);
	timer_free(c->idle);
	tls_context_free(c->tls);
	free(c->target);
	free(c->host);
	free(c->authority);
	free(c);
}

bool grpc_channel_connected(const struct grpc_channel *c)
{
	return c->conn && c->conn->up;
}

static char **copy_headers(const char *const *headers)
{
	size_t n = 0;
	while (headers && headers[n])
		n++;
	char **copy = xzalloc((n + 1) * sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(headers[i]);
	return copy;
}

struct grpc_stream *grpc_channel_call(struct grpc_channel *c, const char *path, const char *const *headers,
	uint64_t timeout_ms, bool fail_fast, const struct grpc_handler *h, void *user)
{
	struct grpc_stream *s = stream_new(c->env, h, user);
	s->opened = true;
	s->fail_fast = fail_fast;
	s->path = xstrdup(path);
	s->request = copy_headers(headers);
	timer_stop(c->idle);
	if (timeout_ms)
		stream_start_deadline(s, timeout_ms);
	if (grpc_channel_connected(c)) {
		stream_link(s, &c->conn->streams, c->conn);
		stream_mark(s);
		return s;
	}
	bool resting = timer_active(c->retry);
	wait_for_connection(c, s);
	if (fail_fast && resting && c->last.text[0])
		stream_end(s, GRPC_UNAVAILABLE, str_of(c->last.text));
	return s;
}
