/*
 * ZeroMQ under the loop. A socket's descriptor is edge-triggered and any send or receive may swallow the edge, so a
 * socket is drained both when its descriptor is readable and before each wait of the loop; one turn takes a bounded
 * number of messages.
 *
 * All objects of the bus in a process share one ZeroMQ context, counted by its users: the only global of this folder.
 * A socket belongs to the loop's thread. Nothing here blocks, except the last user's bus_context_put(): up to
 * BUS_LINGER_MS.
 */
#pragma once

#include <zmq.h>

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/io/loop.h"

#define BUS_LINGER_MS 500 /* closing with none loses what was just sent */
#define BUS_PARTS_MAX 16 /* of one message; a ZAP request has eight */

struct bus_context;
struct bus_context *bus_context_get(void);
void bus_context_put(struct bus_context *c);
void *bus_context_raw(struct bus_context *c);
/* The process's authenticator, owned by zap.c; see there. */
void **bus_context_zap_slot(struct bus_context *c);

struct zsock;
struct zsock_ops {
	/* Parts are borrowed. The socket must not be freed in here. */
	void (*on_message)(void *ctx, zmq_msg_t *parts, size_t n);
	/* The socket takes messages; called whenever it is drained. May be NULL. */
	void (*on_writable)(void *ctx);
};
struct zsock *zsock_new(struct loop *l, struct bus_context *c, int type, size_t high_water, const struct zsock_ops *ops,
	void *ctx, struct err *e) MUST_CHECK;
void zsock_start(struct zsock *s); /* after the options are set and the socket is bound or connected */
void zsock_drain(struct zsock *s); /* takes what has arrived, now */
void zsock_free(struct zsock *s);
void *zsock_raw(struct zsock *s);
void zsock_set_ctx(struct zsock *s, void *ctx);
/* Takes the message in any case. False: it was not sent (errno: EAGAIN, EHOSTUNREACH). */
bool zsock_send(struct zsock *s, zmq_msg_t *msg, bool more);
bool zsock_send_bytes(struct zsock *s, struct str bytes, bool more);
