/*
 * DOC: What the connections of a server or a channel share. Work is collected and done once before the loop waits: streams mark
 * their connection, connections stand in the dirty list, flush goes through it, in slices. While something is left (or was added by a
 * callback that ran after us in the same turn), an idle handle keeps the loop from sleeping.
 *
 * One coarse timer per environment checks ages, keepalives and time-outs of all its connections: a timer of its own would make
 * an idle connection dearer, and none of these limits needs more than the tick's precision.
 */
#include <stdlib.h>
#include <uv.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/io/grpc_stream.h"
#include "common/io/scopes.h"

METRIC(bytes_in_counter, COUNTER, "grpc_bytes_received_total",
	"bytes read from gRPC connections, before decryption is counted off", "side");
METRIC(bytes_out_counter, COUNTER, "grpc_bytes_sent_total", "bytes written to gRPC connections, before encryption",
	"side");

#define TICK_MAX_MS 1000u
#define TICK_MIN_MS 10u
#define SLICE_US 3000u

static void on_idle(uv_idle_t *h)
{
	(void)h; /* its being active is all it is for */
}

void h2_env_wake(struct h2_env *env)
{
	if (env->idle_on || !env->idle)
		return;
	env->idle_on = true;
	(void)uv_idle_start(env->idle, on_idle);
}

void h2_env_tell_ended(struct h2_env *env)
{
	h2_env_ref(env);
	bool any = false;
	while (env->ended) {
		struct grpc_stream *s = env->ended;
		env->ended = s->ended_next;
		if (!env->ended)
			env->ended_last = NULL;
		any = true;
		env->n_streams--;
		s->pins++;
		s->told = true;
		if (s->handler && s->handler->on_close && s->opened)
			s->handler->on_close(s, (enum grpc_status)s->status, str_of(s->message));
		s->pins--;
		stream_free_if_done(s);
	}
	if (any && !env->n_streams && env->owner && env->ops->idle)
		env->ops->idle(env->owner);
	h2_env_unref(env);
}

static struct h2_conn *next_dirty(struct h2_env *env)
{
	struct h2_conn *c = env->dirty;
	if (c) {
		env->dirty = c->dirty_next;
		c->is_dirty = false;
	}
	return c;
}

void h2_env_flush(struct h2_env *env)
{
	struct h2_conn *c, *last = env->dirty_last;
	/* Not those that are marked meanwhile. */
	while (env->dirty && (c = next_dirty(env))) {
		bool end = c == last;
		h2_conn_flush(c);
		if (end)
			break;
	}
}

static void count(struct h2_env *env)
{
	const char *side = env->o.server ? "server" : "client";
	if (env->bytes_in)
		metric_add(&bytes_in_counter, env->bytes_in, side);
	if (env->bytes_out)
		metric_add(&bytes_out_counter, env->bytes_out, side);
	env->bytes_in = env->bytes_out = 0;
}

/* For SLICE_US at most: then the loop looks what else has come, and goes on here. */
static void flush(void *ctx)
{
	struct h2_env *env = ctx;
	struct h2_conn *c;
	h2_env_ref(env);
	uint64_t end = env->dirty ? clock_mono_us() + SLICE_US : 0;
	while ((c = next_dirty(env))) {
		h2_conn_flush(c);
		if (env->dirty && clock_mono_us() >= end)
			break;
	}
	h2_env_tell_ended(env);
	count(env);
	if (env->idle && env->idle_on && !env->dirty && !env->ended) {
		env->idle_on = false;
		(void)uv_idle_stop(env->idle);
	}
	h2_env_unref(env);
}

static void on_tick(void *ctx)
{
	struct h2_env *env = ctx;
	uint64_t now = clock_mono_ms();
	h2_env_ref(env);
	struct h2_conn *c = env->conns;
	if (c)
		h2_conn_pin(c);
	while (c) {
		struct h2_conn *next = c->next;
		if (next)
			h2_conn_pin(next);
		if (!c->closed)
			h2_conn_tick(c, now);
		h2_conn_unpin(c);
		/* One that was closed by what its neighbour's callbacks did has no successor; the rest waits for the next tick. */
		if (next && next->closed) {
			h2_conn_unpin(next);
			next = NULL;
		}
		c = next;
	}
	h2_env_unref(env);
}

static uint64_t tick_ms(const struct h2_options *o)
{
	const uint64_t all[] = {
		o->keepalive_ms, o->keepalive_timeout_ms, o->setup_timeout_ms, o->max_age_ms, o->grace_ms};
	uint64_t least = TICK_MAX_MS * 4;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i] && all[i] < least)
			least = all[i];
	return max_size(least / 4, TICK_MIN_MS);
}

struct h2_env *h2_env_new(struct loop *l, const struct h2_options *o, const struct h2_ops *ops, void *owner)
{
	struct h2_env *env = xzalloc(sizeof(*env));
	uv_idle_t *idle = xzalloc(sizeof(*idle));
	(void)uv_idle_init(loop_uv(l), idle);
	*env = (struct h2_env){.refs = 1, .loop = l, .ops = ops, .owner = owner, .o = *o, .idle = idle};
	env->before = before_wait_new(l, flush, env);
	env->tick = timer_new(l, on_tick, env);
	timer_start(env->tick, tick_ms(o), tick_ms(o));
	return env;
}

void h2_env_ref(struct h2_env *env)
{
	env->refs++;
}

void h2_env_unref(struct h2_env *env)
{
	if (--env->refs == 0)
		free(env);
}

static void idle_closed(uv_handle_t *h)
{
	free(h);
}

void h2_env_close(struct h2_env *env, const char *why)
{
	if (!env)
		return;
	env->owner = NULL;
	while (env->conns)
		h2_conn_close(env->conns, why);
	struct h2_conn *c;
	while ((c = next_dirty(env)))
		h2_conn_flush(c); /* closed: only frees it */
	h2_env_tell_ended(env);
	count(env);
	before_wait_free(take(env->before));
	timer_free(take(env->tick));
	uv_handle_t *idle = env->idle;
	env->idle = NULL;
	uv_close(idle, idle_closed);
	h2_env_unref(env);
}
