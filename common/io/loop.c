/*
 * DOC: The event loop. A thin layer over libuv that gives every handle one owner and one way to be freed: the visible
 * object embeds the uv handle, *_free() forgets the callback and closes, and the memory goes when libuv has let go of it
 * (in the same turn of the loop, or in loop_free()). So an owner may free a handle inside that handle's own callback.
 *
 * Posted work is a lock-free stack that producers push to and the loop takes whole and reverses: order is kept per
 * producer and between producers that are ordered by anything else. No mutex.
 */
#include "common/io/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/io/scopes.h"

struct posted {
	struct posted *next;
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop {
	uv_loop_t uv;
	uv_async_t wake;
	uv_timer_t limit; /* ends loop_run_once() */
	_Atomic(struct posted *) posts;
	atomic_bool stop;
};

struct timer {
	uv_timer_t uv;
	void (*fn)(void *ctx);
	void *ctx;
};

struct watch {
	uv_poll_t uv;
	void (*fn)(void *ctx, int events);
	void *ctx;
	int events;
};

struct signal_watch {
	uv_signal_t uv;
	void (*fn)(void *ctx, int signo);
	void *ctx;
};

struct before_wait {
	uv_prepare_t uv;
	void (*fn)(void *ctx);
	void *ctx;
};

static void run_posted(struct loop *l)
{
	struct posted *list = atomic_exchange(&l->posts, NULL);
	struct posted *ordered = NULL;
	while (list) {
		struct posted *p = list;
		list = p->next;
		p->next = ordered;
		ordered = p;
	}
	while (ordered) {
		struct posted *p = ordered;
		ordered = p->next;
		p->fn(p->ctx);
		free(p);
	}
}

static void on_wake(uv_async_t *a)
{
	struct loop *l = a->data;
	run_posted(l);
	if (atomic_load(&l->stop))
		uv_stop(&l->uv);
}

static void on_limit(uv_timer_t *t)
{
	(void)t; /* waking is all it is for */
}

struct loop *loop_new(void)
{
	struct loop *l = xzalloc(sizeof(*l));
	int bad = uv_loop_init(&l->uv);
	assert(!bad); /* only without memory or descriptors, before anything is served */
	bad = uv_async_init(&l->uv, &l->wake, on_wake);
	assert(!bad);
	bad = uv_timer_init(&l->uv, &l->limit);
	assert(!bad);
	l->wake.data = l;
	/* A peer that is gone shows as EPIPE where we write; a signal would end the process. */
	(void)signal(SIGPIPE, SIG_IGN);
	return l;
}

static void say_open(uv_handle_t *h, void *ctx)
{
	(void)ctx;
	log_error(&io_log, "a handle outlives its loop", KV("type", uv_handle_type_name(h->type)),
		KV("closing", (bool)(uv_is_closing(h) != 0)));
}

void loop_run_posted(struct loop *l)
{
	while (atomic_load(&l->posts))
		run_posted(l);
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	loop_run_posted(l);
	uv_close((uv_handle_t *)&l->wake, NULL);
	uv_close((uv_handle_t *)&l->limit, NULL);
	/* Closing callbacks run; what is still active (an owner forgot it) is not waited for. */
	for (int i = 0; i < 1000 && uv_run(&l->uv, UV_RUN_NOWAIT); i++)
		run_posted(l);
	run_posted(l);
	if (uv_loop_close(&l->uv)) {
		uv_walk(&l->uv, say_open, NULL);
		return; /* left behind: freeing it would be a use after free later */
	}
	free(l);
}

void loop_run(struct loop *l)
{
	while (!atomic_exchange(&l->stop, false))
		(void)uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_run_once(struct loop *l, uint64_t max_wait_ms)
{
	if (max_wait_ms) {
		uv_update_time(&l->uv);
		(void)uv_timer_start(&l->limit, on_limit, max_wait_ms, 0);
	}
	(void)uv_run(&l->uv, max_wait_ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
	(void)uv_timer_stop(&l->limit);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	(void)uv_async_send(&l->wake);
}

void loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct posted *p = xmalloc(sizeof(*p));
	p->fn = fn;
	p->ctx = ctx;
	p->next = atomic_load(&l->posts);
	while (!atomic_compare_exchange_weak(&l->posts, &p->next, p)) {
	}
	(void)uv_async_send(&l->wake);
}

struct uv_loop_s *loop_uv(struct loop *l)
{
	return &l->uv;
}

/* ---- timers */

static void on_timer(uv_timer_t *h)
{
	struct timer *t = container_of(h, struct timer, uv);
	if (t->fn)
		t->fn(t->ctx);
}

struct timer *timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct timer *t = xzalloc(sizeof(*t));
	(void)uv_timer_init(&l->uv, &t->uv);
	t->fn = fn;
	t->ctx = ctx;
	return t;
}

void timer_start(struct timer *t, uint64_t delay_ms, uint64_t repeat_ms)
{
	uv_update_time(t->uv.loop); /* the delay counts from now, not from when this turn of the loop began */
	(void)uv_timer_start(&t->uv, on_timer, delay_ms, repeat_ms);
}

void timer_stop(struct timer *t)
{
	(void)uv_timer_stop(&t->uv);
}

bool timer_active(const struct timer *t)
{
	return uv_is_active((const uv_handle_t *)&t->uv) != 0;
}

static void timer_closed(uv_handle_t *h)
{
	free(container_of((uv_timer_t *)h, struct timer, uv));
}

void timer_free(struct timer *t)
{
	if (!t)
		return;
	t->fn = NULL;
	uv_close((uv_handle_t *)&t->uv, timer_closed);
}

/* ---- readiness of descriptors */

static void on_ready(uv_poll_t *h, int status, int uv_events);

static void watch_arm(struct watch *w)
{
	int want = ((w->events & WATCH_READ) ? UV_READABLE : 0) | ((w->events & WATCH_WRITE) ? UV_WRITABLE : 0);
	if (want)
		(void)uv_poll_start(&w->uv, want, on_ready);
	else
		(void)uv_poll_stop(&w->uv);
}

static void on_ready(uv_poll_t *h, int status, int uv_events)
{
	struct watch *w = container_of(h, struct watch, uv);
	int events = ((uv_events & UV_READABLE) ? WATCH_READ : 0) | ((uv_events & UV_WRITABLE) ? WATCH_WRITE : 0);
	if (status < 0) {
		/* libuv stops polling at POLLERR. The owner learns the error from its own read or write. */
		events = w->events;
		watch_arm(w);
	}
	if (w->fn)
		w->fn(w->ctx, events);
}

struct watch *watch_new(struct loop *l, int fd, int events, void (*fn)(void *ctx, int events), void *ctx)
{
	struct watch *w = xzalloc(sizeof(*w));
	int bad = uv_poll_init(&l->uv, &w->uv, fd);
	assert(!bad); /* not a descriptor that can be polled, or watched twice: our bug */
	w->fn = fn;
	w->ctx = ctx;
	w->events = events;
	watch_arm(w);
	return w;
}

void watch_set(struct watch *w, int events)
{
	if (w->events == events)
		return;
	w->events = events;
	watch_arm(w);
}

static void watch_closed(uv_handle_t *h)
{
	free(container_of((uv_poll_t *)h, struct watch, uv));
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	w->fn = NULL;
	uv_close((uv_handle_t *)&w->uv, watch_closed);
}

/* ---- signals */

static void on_signal(uv_signal_t *h, int signo)
{
	struct signal_watch *s = container_of(h, struct signal_watch, uv);
	if (s->fn)
		s->fn(s->ctx, signo);
}

struct signal_watch *signal_new(struct loop *l, int signo, void (*fn)(void *ctx, int signo), void *ctx)
{
	struct signal_watch *s = xzalloc(sizeof(*s));
	(void)uv_signal_init(&l->uv, &s->uv);
	s->fn = fn;
	s->ctx = ctx;
	int bad = uv_signal_start(&s->uv, on_signal, signo);
	assert(!bad); /* not a signal that can be caught */
	return s;
}

static void signal_closed(uv_handle_t *h)
{
	free(container_of((uv_signal_t *)h, struct signal_watch, uv));
}

void signal_free(struct signal_watch *s)
{
	if (!s)
		return;
	s->fn = NULL;
	uv_close((uv_handle_t *)&s->uv, signal_closed);
}

/* ---- before waiting */

static void on_prepare(uv_prepare_t *h)
{
	struct before_wait *b = container_of(h, struct before_wait, uv);
	if (b->fn)
		b->fn(b->ctx);
}

struct before_wait *before_wait_new(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct before_wait *b = xzalloc(sizeof(*b));
	(void)uv_prepare_init(&l->uv, &b->uv);
	b->fn = fn;
	b->ctx = ctx;
	(void)uv_prepare_start(&b->uv, on_prepare);
	return b;
}

static void before_wait_closed(uv_handle_t *h)
{
	free(container_of((uv_prepare_t *)h, struct before_wait, uv));
}

void before_wait_free(struct before_wait *b)
{
	if (!b)
		return;
	b->fn = NULL;
	uv_close((uv_handle_t *)&b->uv, before_wait_closed);
}
