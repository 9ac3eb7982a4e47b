/*
 * DOC: A connection's life: TLS handshake, reading into nghttp2, flushing what nghttp2 and the streams want to send, ageing,
 * keepalive, closing. Output stands in one queue of references; nghttp2 is asked for more only while that queue is shorter than
 * OUT_HIGH, so a slow peer holds data in the streams' queues, where their owners see it.
 */
#include "common/io/grpc_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/metric.h"
#include "common/io/scopes.h"

METRIC(connections_gauge, GAUGE, "grpc_server_connections", "open gRPC server connections", NULL);
#define READ_BYTES 65536u
#define READ_ROUNDS 32 /* then others have a turn */
#define WRITE_ROUNDS 8
#define DRAIN_WAIT_MS 1000u /* for the PING that follows the first GOAWAY */

static void on_ready(void *ctx, int events);

struct h2_conn *h2_conn_new(
	struct h2_env *env, int fd, struct tls_context *tls, const char *server_name, const char *address)
{
	struct h2_conn *c = xzalloc(sizeof(*c));
	c->env = env;
	h2_env_ref(env);
	c->net.fd = fd;
	c->address = xstrdup(address);
	c->opened_ms = c->heard_ms = clock_mono_ms();
	c->age_ms = random_jitter(env->o.max_age_ms, 0.1);
	c->next = env->conns;
	if (c->next)
		c->next->prev = c;
	env->conns = c;
	env->n_conns++;
	if (env->o.server)
		metric_add(&connections_gauge, 1);
	net_tune(fd);
	if (tls)
		c->net.tls = tls_conn_new(tls, fd, server_name);
	c->watch = watch_new(env->loop, fd, WATCH_READ, on_ready, c);
	h2_conn_mark(c); /* the first flush begins the handshake or sends SETTINGS */
	return c;
}

void h2_conn_mark(struct h2_conn *c)
{
	if (c->is_dirty)
		return;
	c->is_dirty = true;
	c->dirty_next = NULL;
	if (c->env->dirty)
		c->env->dirty_last->dirty_next = c;
	else
		c->env->dirty = c;
	c->env->dirty_last = c;
	h2_env_wake(c->env);
}

static void destroy_if_closed(struct h2_conn *c)
{
	if (!c->closed || c->busy || c->is_dirty)
		return;
	nghttp2_session_del(c->session);
	outq_done(&c->out);
	free(c->address);
	free(c->authority);
	h2_env_unref(c->env);
	free(c);
}

void h2_conn_pin(struct h2_conn *c)
{
	c->busy++;
}

void h2_conn_unpin(struct h2_conn *c)
{
	c->busy--;
	destroy_if_closed(c);
}

static void unlink_conn(struct h2_conn *c)
{
	struct h2_env *env = c->env;
	if (c->prev)
		c->prev->next = c->next;
	else
		env->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next = c->prev = NULL;
	env->n_conns--;
	if (env->o.server)
		metric_add(&connections_gauge, -1);
}

void h2_conn_close(struct h2_conn *c, const char *why)
{
	if (c->closed)
		return;
	c->closed = true;
	h2_conn_pin(c);
	/* A copy: the reason may lie in something that goes away here. */
	cleanup(free_p) char *reason = xasprintf(
		"connection %s %s: %s", c->env->o.server ? "from" : "to", c->address, why);
	log_debug(&grpc_log, "connection closed", KV("address", c->address), KV("reason", why));
	unlink_conn(c);
	watch_free(take(c->watch));
	while (c->dirty_streams) {
		struct grpc_stream *s = c->dirty_streams;
		c->dirty_streams = s->dirty_next;
		s->is_dirty = false;
	}
	c->dirty_last = NULL;
	while (c->streams)
		stream_lost(c->streams, str_of(reason));
	net_close(&c->net);
	if (c->env->owner && c->env->ops->down)
		c->env->ops->down(c->env->owner, c, reason);
	h2_conn_unpin(c);
}

/* ---- reading */

static bool handshake(struct h2_conn *c)
{
	struct err e = {0};
	enum net_result r = tls_conn_handshake(c->net.tls, &e);
	if (r == NET_AGAIN)
		return true;
	if (r != NET_OK) {
		if (c->env->o.server)
			log_info(&tls_log, "handshake failed", KV("address", c->address), KV("reason", e.text));
		h2_conn_close(c, r == NET_EOF ? "closed during the TLS handshake" : e.text);
		return false;
	}
	c->tls_ready = true;
	return true;
}

static bool start_session(struct h2_conn *c)
{
	struct err e = {0};
	if (c->session || h2_session_start(c, &e))
		return true;
	h2_conn_close(c, e.text);
	return false;
}

static void feed(struct h2_conn *c, const uint8_t *data, size_t len)
{
	c->bytes_in += len;
	c->env->bytes_in += len;
	c->heard_ms = clock_mono_ms();
	ssize_t n = nghttp2_session_mem_recv(c->session, data, len);
	if (c->closed || n >= 0)
		return;
	log_debug(&grpc_log, "protocol error", KV("address", c->address), KV("reason", nghttp2_strerror((int)n)));
	h2_conn_close(c, nghttp2_strerror((int)n));
}

static void read_some(struct h2_conn *c)
{
	uint8_t data[READ_BYTES];
	c->read_again = false;
	for (int i = 0; i < READ_ROUNDS && !c->closed; i++) {
		struct err e = {0};
		size_t got = 0;
		enum net_result r = net_read(&c->net, data, sizeof(data), &got, &e);
		if (r == NET_AGAIN)
			return;
		if (r != NET_OK) {
			h2_conn_close(c, r == NET_EOF ? "closed by the peer" : e.text);
			return;
		}
		feed(c, data, got);
		if (!c->net.tls && got < sizeof(data))
			return; /* most likely all; if not, the watch says so again */
	}
	c->read_again = true; /* TLS may hold decrypted bytes that no watch will report */
}

/* Most of what is read (acknowledgements) asks for nothing to be written. */
static bool has_work(const struct h2_conn *c)
{
	return c->blocked || c->read_again || c->out.bytes || c->dirty_streams ||
	       nghttp2_session_want_write(c->session) || !nghttp2_session_want_read(c->session);
}

static void on_ready(void *ctx, int events)
{
	struct h2_conn *c = ctx;
	h2_conn_pin(c);
	if (events & WATCH_WRITE)
		c->blocked = false;
	if ((events & WATCH_READ) && c->session && !c->closed)
		read_some(c);
	if (!c->closed && (!c->session || c->net.tls || has_work(c)))
		h2_conn_mark(c);
	h2_conn_unpin(c);
}

/* ---- flushing */

static void submit_streams(struct h2_conn *c)
{
	struct grpc_stream *list = c->dirty_streams;
	c->dirty_streams = c->dirty_last = NULL;
	while (list) {
		struct grpc_stream *s = list;
		list = s->dirty_next;
		if (c->closed) { /* by a callback; the rest has been told by stream_lost() */
			s->is_dirty = false;
			stream_free_if_done(s);
			continue;
		}
		s->pins++;
		s->is_dirty = false;
		stream_flush(s);
		s->pins--;
		stream_free_if_done(s);
	}
}

static void write_out(struct h2_conn *c)
{
	for (int i = 0; i < WRITE_ROUNDS && !c->blocked; i++) {
		int bad = nghttp2_session_send(c->session);
		if (bad) {
			h2_conn_close(c, nghttp2_strerror(bad));
			return;
		}
		if (!c->out.bytes)
			return;
		struct err e = {0};
		size_t written = 0;
		enum net_result r = net_write(&c->net, &c->out, &written, &e);
		c->bytes_out += written;
		c->env->bytes_out += written;
		if (r == NET_AGAIN)
			c->blocked = true;
		else if (r != NET_OK) {
			h2_conn_close(c, e.text);
			return;
		}
	}
	if (!c->blocked && nghttp2_session_want_write(c->session))
		h2_conn_mark(c); /* the others have a turn first */
}

static bool finished(const struct h2_conn *c)
{
	return !c->out.bytes && !nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session);
}

static int wanted_events(const struct h2_conn *c)
{
	if (c->net.tls && !c->tls_ready)
		return tls_conn_wants_write(c->net.tls) ? WATCH_WRITE : WATCH_READ;
	return WATCH_READ | (c->blocked ? WATCH_WRITE : 0);
}

void h2_conn_flush(struct h2_conn *c)
{
	h2_conn_pin(c);
	bool ready = !c->closed && (!c->net.tls || c->tls_ready || handshake(c));
	if (ready && (!c->net.tls || c->tls_ready) && start_session(c)) {
		if (c->read_again)
			read_some(c);
		if (!c->closed)
			submit_streams(c);
		if (!c->closed)
			write_out(c);
		if (!c->closed && finished(c))
			h2_conn_close(c, c->going ? "the peer said goodbye" : "finished");
		if (!c->closed && c->read_again)
			h2_conn_mark(c);
	}
	if (!c->closed)
		watch_set(c->watch, wanted_events(c));
	h2_conn_unpin(c);
}

/* ---- time */

void h2_conn_drain(struct h2_conn *c, uint64_t grace_ms)
{
	uint64_t now = clock_mono_ms();
	if (grace_ms && (!c->end_streams_ms || now + grace_ms < c->end_streams_ms))
		c->end_streams_ms = now + grace_ms;
	if (c->draining)
		return;
	c->draining = true;
	c->drain_ms = now;
	if (!c->session) {
		h2_conn_close(c, "draining");
		return;
	}
	/* RFC 9113, 6.8: first a GOAWAY that promises everything, and after a round trip the one that counts. */
	(void)nghttp2_submit_shutdown_notice(c->session);
	(void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"fl-drain");
	h2_conn_mark(c);
}

static void last_goaway(struct h2_conn *c)
{
	if (c->last_goaway_sent)
		return;
	c->last_goaway_sent = true;
	int32_t last = nghttp2_session_get_last_proc_stream_id(c->session);
	(void)nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
	h2_conn_mark(c);
}

static void end_streams(struct h2_conn *c)
{
	c->end_streams_ms = 0;
	last_goaway(c);
	for (struct grpc_stream *s = c->streams; s; s = s->next)
		stream_abort(s, GRPC_UNAVAILABLE, STR("the connection is being closed; connect again"));
	h2_conn_mark(c);
}

static void keepalive(struct h2_conn *c, uint64_t now)
{
	const struct h2_options *o = &c->env->o;
	if (c->ping_ms && now - c->ping_ms >= o->keepalive_timeout_ms) {
		cleanup(free_p) char *why = xasprintf(
			"no answer to a keepalive within %llu ms", (unsigned long long)o->keepalive_timeout_ms);
		h2_conn_close(c, why);
		return;
	}
	if (c->ping_ms || now - c->heard_ms < o->keepalive_ms)
		return;
	c->ping_ms = now;
	(void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"fl-alive");
	h2_conn_mark(c);
}

void h2_conn_tick(struct h2_conn *c, uint64_t now)
{
	const struct h2_options *o = &c->env->o;
	if (!c->up && now - c->opened_ms >= o->setup_timeout_ms) {
		cleanup(free_p) char *why = xasprintf("no %s within %llu ms",
			c->session ? "HTTP/2 SETTINGS" : "TLS handshake", (unsigned long long)o->setup_timeout_ms);
		h2_conn_close(c, why);
		return;
	}
	if (!c->session)
		return;
	if (o->max_age_ms && !c->draining && now - c->opened_ms >= c->age_ms)
		h2_conn_drain(c, o->grace_ms);
	if (c->draining && !c->closed && now - c->drain_ms >= DRAIN_WAIT_MS)
		last_goaway(c);
	if (c->end_streams_ms && now >= c->end_streams_ms)
		end_streams(c);
	if (!c->closed)
		keepalive(c, now);
}

void h2_conn_pong(struct h2_conn *c)
{
	c->ping_ms = 0;
	if (c->draining)
		last_goaway(c);
}

void h2_conn_debug(const struct h2_conn *c, struct strbuf *json)
{
	uint64_t now = clock_mono_ms();
	strbuf_adds(json, "{\"address\":");
	strbuf_add_json(json, str_of(c->address));
	const struct tls_peer *peer = c->net.tls ? tls_conn_peer(c->net.tls) : NULL;
	if (peer) {
		strbuf_adds(json, ",\"peer\":");
		strbuf_add_json(json, peer->spiffe_id);
	}
	strbuf_addf(json,
		",\"tls\":%s,\"streams\":%zu,\"age_ms\":%llu,\"silent_ms\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu",
		c->net.tls ? "true" : "false", c->n_streams, (unsigned long long)(now - c->opened_ms),
		(unsigned long long)(now - c->heard_ms), (unsigned long long)c->bytes_in,
		(unsigned long long)c->bytes_out);
	size_t queued = c->out.bytes;
	for (const struct grpc_stream *s = c->streams; s; s = s->next)
		queued += s->out.bytes;
	strbuf_addf(json, ",\"queued\":%zu,\"blocked\":%s,\"draining\":%s}", queued, c->blocked ? "true" : "false",
		c->draining ? "true" : "false");
}
