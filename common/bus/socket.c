/*
 * DOC: How ZeroMQ's sockets live on our loop. ZMQ_FD becomes readable when the socket's state *may* have changed;
 * what is true is only told by ZMQ_EVENTS, and asking it (or sending) takes the edge away. So drain() asks after
 * every message, and runs again before the loop waits. A busy socket may not starve the others: after BUDGET messages
 * it goes on in the next turn. A zero timer sees to it that the loop does not wait before; it does nothing itself,
 * because libuv runs a zero timer that is started by its own callback again in the same turn.
 */
#include "common/bus/socket.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define BUDGET 256

struct bus_context {
	void *zmq;
	unsigned users;
	void *zap;
};

struct zsock {
	struct loop *loop;
	void *zmq;
	const struct zsock_ops *ops;
	void *ctx;
	struct watch *watch;
	struct before_wait *before;
	struct timer *again;
};

static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;
static struct bus_context *context;

struct bus_context *bus_context_get(void)
{
	(void)pthread_mutex_lock(&context_lock);
	if (!context) {
		context = xzalloc(sizeof(*context));
		context->zmq = zmq_ctx_new();
		assert(context->zmq);
		(void)zmq_ctx_set(context->zmq, ZMQ_IO_THREADS, 1);
		(void)zmq_ctx_set(context->zmq, ZMQ_IPV6, 1);
	}
	context->users++;
	struct bus_context *c = context;
	(void)pthread_mutex_unlock(&context_lock);
	return c;
}

void bus_context_put(struct bus_context *c)
{
	if (!c)
		return;
	(void)pthread_mutex_lock(&context_lock);
	bool last = --c->users == 0;
	if (last)
		context = NULL;
	(void)pthread_mutex_unlock(&context_lock);
	if (!last)
		return;
	while (zmq_ctx_term(c->zmq) != 0 && errno == EINTR)
		;
	free(c);
}

void *bus_context_raw(struct bus_context *c)
{
	return c->zmq;
}

void **bus_context_zap_slot(struct bus_context *c)
{
	return &c->zap;
}

static int events_of(struct zsock *s)
{
	int events = 0;
	size_t len = sizeof(events);
	while (zmq_getsockopt(s->zmq, ZMQ_EVENTS, &events, &len) != 0)
		if (errno != EINTR)
			return 0;
	return events;
}

static size_t receive(struct zsock *s, zmq_msg_t parts[BUS_PARTS_MAX])
{
	size_t n = 0;
	for (bool more = true; more;) {
		zmq_msg_t one;
		(void)zmq_msg_init(&one);
		if (zmq_msg_recv(&one, s->zmq, ZMQ_DONTWAIT) < 0) {
			(void)zmq_msg_close(&one);
			break;
		}
		more = zmq_msg_more(&one) != 0;
		if (n < BUS_PARTS_MAX) {
			parts[n++] = one;
			continue;
		}
		(void)zmq_msg_close(&one); /* nothing of ours has so many parts */
	}
	return n;
}

static void drain(void *ctx)
{
	struct zsock *s = ctx;
	int events = events_of(s);
	for (unsigned i = 0; (events & ZMQ_POLLIN) != 0; i++, events = events_of(s)) {
		if (i == BUDGET) {
			timer_start(s->again, 0, 0);
			return;
		}
		zmq_msg_t parts[BUS_PARTS_MAX];
		size_t n = receive(s, parts);
		if (n == 0)
			continue;
		s->ops->on_message(s->ctx, parts, n);
		for (size_t k = 0; k < n; k++)
			(void)zmq_msg_close(&parts[k]);
	}
	if (s->ops->on_writable && (events & ZMQ_POLLOUT) != 0)
		s->ops->on_writable(s->ctx);
}

static void wake_only(void *ctx)
{
}

static void readable(void *ctx, int events)
{
	drain(ctx);
}

void zsock_drain(struct zsock *s)
{
	drain(s);
}

static void set_int(struct zsock *s, int option, int value)
{
	(void)zmq_setsockopt(s->zmq, option, &value, sizeof(value));
}

struct zsock *zsock_new(struct loop *l, struct bus_context *c, int type, size_t high_water, const struct zsock_ops *ops,
	void *ctx, struct err *e)
{
	void *zmq = zmq_socket(bus_context_raw(c), type);
	if (!zmq) {
		(void)err_set(e, ERR_LIBRARY, "zmq_socket: %s", zmq_strerror(errno));
		return NULL;
	}
	struct zsock *s = xzalloc(sizeof(*s));
	*s = (struct zsock){.loop = l, .zmq = zmq, .ops = ops, .ctx = ctx};
	set_int(s, ZMQ_LINGER, BUS_LINGER_MS);
	set_int(s, ZMQ_SNDHWM, (int)high_water);
	set_int(s, ZMQ_RCVHWM, (int)high_water);
	set_int(s, ZMQ_RECONNECT_IVL, 50);
	set_int(s, ZMQ_RECONNECT_IVL_MAX, 1000);
	/* A peer that vanished without a FIN is noticed by the transport, too. */
	set_int(s, ZMQ_HEARTBEAT_IVL, 5000);
	set_int(s, ZMQ_HEARTBEAT_TIMEOUT, 15000);
	int64_t max = LIMIT_BUS_FRAME_BYTES;
	(void)zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &max, sizeof(max));
	return s;
}

void zsock_start(struct zsock *s)
{
	int fd = -1;
	size_t len = sizeof(fd);
	int rc = zmq_getsockopt(s->zmq, ZMQ_FD, &fd, &len);
	assert(rc == 0);
	s->again = timer_new(s->loop, wake_only, s);
	s->watch = watch_new(s->loop, fd, WATCH_READ, readable, s);
	s->before = before_wait_new(s->loop, drain, s);
}

void zsock_free(struct zsock *s)
{
	if (!s)
		return;
	if (s->watch) {
		before_wait_free(s->before);
		watch_free(s->watch);
		timer_free(s->again);
	}
	(void)zmq_close(s->zmq);
	free(s);
}

void *zsock_raw(struct zsock *s)
{
	return s->zmq;
}

void zsock_set_ctx(struct zsock *s, void *ctx)
{
	s->ctx = ctx;
}

bool zsock_send(struct zsock *s, zmq_msg_t *msg, bool more)
{
	int rc = -1;
	do {
		rc = zmq_msg_send(msg, s->zmq, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
	} while (rc < 0 && errno == EINTR);
	if (rc >= 0)
		return true;
	int why = errno;
	(void)zmq_msg_close(msg);
	errno = why;
	return false;
}

bool zsock_send_bytes(struct zsock *s, struct str bytes, bool more)
{
	zmq_msg_t msg;
	int rc = zmq_msg_init_size(&msg, bytes.len);
	assert(rc == 0);
	if (bytes.len)
		memcpy(zmq_msg_data(&msg), bytes.ptr, bytes.len);
	return zsock_send(s, &msg, more);
}
