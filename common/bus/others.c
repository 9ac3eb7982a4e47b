/*
 * DOC: A publisher takes reports from whoever may follow it, whether it follows or not. ZeroMQ's DEALER shares out what it sends among its
 * connections, so each address has a socket of its own. The name is resolved again now and then: publishers come and go, and so do their
 * addresses. A socket to one that is gone is closed at the next look.
 */
#include "common/bus/others.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/bus/link.h"
#include "common/io/resolve.h"

#define LOOK_MS 10000u
#define QUEUE_FRAMES 8

LOG_SCOPE(others_log, "bus-others", "publishers that are told and not followed");

struct other {
	char endpoint[256];
	struct zsock *socket;
	bool seen; /* in the last look */
};

struct bus_others {
	struct loop *loop;
	struct bus_context *context;
	struct bus_others_options o;
	struct timer *timer;
	struct resolve *resolving;
	VEC(struct other *) list;
};

/* A refusal is all that could come back, and the publisher has counted it. */
static void on_message(void *ctx, zmq_msg_t *parts, size_t n)
{
	(void)ctx;
	(void)parts;
	(void)n;
}

static void other_free(struct other *x)
{
	zsock_free(x->socket);
	free(x);
}

static bool other_open(struct bus_others *all, struct other *x, struct err *e)
{
	static const struct zsock_ops ops = {.on_message = on_message};
	const int on = 1, none = 0;
	x->socket = zsock_new(all->loop, all->context, ZMQ_DEALER, QUEUE_FRAMES, &ops, x, e);
	if (!x->socket || !bus_keys_connect(all->o.keys, x->socket, all->o.publisher, e))
		return false;
	/* What is not connected takes nothing, and what is closed waits for nothing. */
	(void)zmq_setsockopt(zsock_raw(x->socket), ZMQ_IMMEDIATE, &on, sizeof(on));
	(void)zmq_setsockopt(zsock_raw(x->socket), ZMQ_LINGER, &none, sizeof(none));
	if (zmq_connect(zsock_raw(x->socket), x->endpoint) != 0)
		return err_set(e, ERR_LIBRARY, "connecting to %s: %s", x->endpoint, zmq_strerror(errno));
	zsock_start(x->socket);
	return true;
}

static void add(struct bus_others *all, const char *endpoint)
{
	struct other *x = xzalloc(sizeof(*x));
	struct err e = {0};
	(void)snprintf(x->endpoint, sizeof(x->endpoint), "%s", endpoint);
	x->seen = true;
	if (other_open(all, x, &e)) {
		vec_push(&all->list, x);
		return;
	}
	log_warn(&others_log, "a publisher is not told", KV("publisher", all->o.publisher), KV("endpoint", endpoint),
		KV("error", e.text));
	other_free(x);
}

static void see(struct bus_others *all, const struct addr *a)
{
	char endpoint[256];
	bus_link_endpoint(a, endpoint);
	for (size_t i = 0; i < all->list.len; i++)
		if (streq(all->list.items[i]->endpoint, endpoint)) {
			all->list.items[i]->seen = true;
			return;
		}
	if (all->list.len < LIMIT_BUS_OTHERS)
		add(all, endpoint);
}

static void on_addresses(void *ctx, const struct addr *list, size_t n, const struct err *why)
{
	struct bus_others *all = ctx;
	size_t kept = 0;
	(void)why;
	all->resolving = NULL;
	for (size_t i = 0; i < all->list.len; i++)
		all->list.items[i]->seen = n == 0; /* a name that cannot be resolved now still stands for what it did */
	/* One address is the publisher that is followed, or will be. */
	for (size_t i = 0; n > 1 && i < n; i++)
		see(all, &list[i]);
	for (size_t i = 0; i < all->list.len; i++)
		if (all->list.items[i]->seen)
			all->list.items[kept++] = all->list.items[i];
		else
			other_free(all->list.items[i]);
	all->list.len = kept;
}

static void look(void *ctx)
{
	struct bus_others *all = ctx;
	if (!all->resolving)
		all->resolving = resolve_start(
			all->loop, all->o.address->host, all->o.address->port, on_addresses, all);
}

struct bus_others *bus_others_new(struct loop *l, struct bus_context *c, const struct bus_others_options *o)
{
	struct bus_others *all = xzalloc(sizeof(*all));
	*all = (struct bus_others){.loop = l, .context = c, .o = *o};
	all->timer = timer_new(l, look, all);
	if (o->address->named)
		timer_start(all->timer, 0, LOOK_MS);
	return all;
}

void bus_others_free(struct bus_others *all)
{
	if (!all)
		return;
	resolve_cancel(all->resolving);
	timer_free(all->timer);
	for (size_t i = 0; i < all->list.len; i++)
		other_free(all->list.items[i]);
	vec_done(&all->list);
	free(all);
}

void bus_others_tell(struct bus_others *all, const char *followed, struct str frame)
{
	for (size_t i = 0; i < all->list.len; i++)
		if (!streq(all->list.items[i]->endpoint, followed))
			(void)zsock_send_bytes(all->list.items[i]->socket, frame, false);
}

size_t bus_others_count(const struct bus_others *all)
{
	return all->list.len;
}
