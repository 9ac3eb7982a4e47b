/*
 * The event loop of a thread (libuv underneath): timers, readiness of descriptors, signals, work posted from other
 * threads. One loop per thread; everything here is called on the loop's own thread, but loop_post() and loop_stop().
 * Callbacks never block. Handles are freed by their owner; freeing one inside its own callback is fine.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/util.h"

struct loop;
struct timer;
struct watch;

struct loop *loop_new(void);
void loop_free(struct loop *l); /* runs what closing handles still need */
void loop_run(struct loop *l); /* until loop_stop() */
void loop_run_once(struct loop *l, uint64_t max_wait_ms); /* for tests */
void loop_stop(struct loop *l); /* from any thread */
/* Runs fn(ctx) on the loop's thread, in the order posted, from any thread. What was posted before loop_free() still runs. */
void loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* Runs what was posted so far, now: for an owner that stops, when those who post to it are gone. The loop must not run. */
void loop_run_posted(struct loop *l);
struct uv_loop_s *loop_uv(struct loop *l); /* for common/io and nobody else */

struct timer *timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx);
void timer_start(struct timer *t, uint64_t delay_ms, uint64_t repeat_ms); /* restarts; repeat 0 = once */
void timer_stop(struct timer *t);
bool timer_active(const struct timer *t);
void timer_free(struct timer *t);

#define WATCH_READ 1
#define WATCH_WRITE 2
/* Readiness of a descriptor that the caller owns and closes after watch_free(). Level-triggered. */
struct watch *watch_new(struct loop *l, int fd, int events, void (*fn)(void *ctx, int events), void *ctx);
void watch_set(struct watch *w, int events);
void watch_free(struct watch *w);

struct signal_watch;
struct signal_watch *signal_new(struct loop *l, int signo, void (*fn)(void *ctx, int signo), void *ctx);
void signal_free(struct signal_watch *s);

/* Runs before the loop waits, each time round: for sources that must be drained (ZeroMQ) and for coalesced writes. */
struct before_wait;
struct before_wait *before_wait_new(struct loop *l, void (*fn)(void *ctx), void *ctx);
void before_wait_free(struct before_wait *b);
