/*
 * DOC: Where a replica's sockets lead. ZeroMQ connects again to an address by itself for ever; what it cannot know is that another address of
 * the same name is as good. So a link follows what is heard: TRYING until a publisher with content speaks, HEARD while it does, WAITING
 * before the name is resolved again. A publisher that is not ready yet counts as silent, unless it is the only one. Sockets keep their
 * options and subscription over all of that: only their endpoints change.
 */
#include "common/bus/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/io/resolve.h"

#define PATIENCE_MS 3000u /* for a connection, a handshake and the heartbeat that answers a subscription */
#define BACKOFF_FIRST_MS 50u
#define BACKOFF_MAX_MS 5000u

LOG_SCOPE(link_log, "bus-link", "which publisher a replica follows");

METRIC(reconnects, COUNTER, "bus_reconnects_total", "times that a replica looked for a publisher again, by reason",
	"publisher", "reason");

enum link_state { LINK_TRYING, LINK_HEARD, LINK_WAITING, LINK_STATE_COUNT };

struct endpoints {
	char snap[256], live[256]; /* "": not connected */
};

struct bus_link {
	struct loop *loop;
	struct bus_link_options o;
	struct zsock *live, *snap;
	struct timer *timer; /* TRYING: patience; WAITING: the end of the wait */
	struct resolve *resolving;
	enum link_state state;
	struct endpoints at;
	struct addr current;
	bool has_current;
	bool apart; /* the two sockets are to be separated from where they are */
	uint64_t seed;
	unsigned failures, crossings;
	size_t addresses; /* that the name had */
	uint64_t moves;
	char error[256];
};

/* ---- choosing */

static uint64_t rank_of(const struct addr *a, uint64_t seed)
{
	return hash64(str_n(&a->sa, a->len)) ^ seed;
}

size_t bus_link_pick(const struct addr *list, size_t n, uint64_t seed, const struct addr *current)
{
	size_t first = 0, next = n;
	for (size_t i = 0; i < n; i++) {
		const uint64_t rank = rank_of(&list[i], seed);
		if (rank < rank_of(&list[first], seed))
			first = i;
		if (current && rank > rank_of(current, seed) && (next == n || rank < rank_of(&list[next], seed)))
			next = i;
	}
	return next < n ? next : first;
}

/* ---- connecting */

static void endpoint_of(const struct addr *a, uint16_t plus, char out[256])
{
	struct addr at = *a;
	char text[128];
	in_port_t *port = at.sa.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&at.sa)->sin6_port
						      : &((struct sockaddr_in *)&at.sa)->sin_port;
	*port = htons((uint16_t)(ntohs(*port) + plus));
	addr_format(&at, text);
	(void)snprintf(out, 256, "tcp://%s", text);
}

static void disconnect(struct bus_link *k)
{
	if (!k->at.snap[0])
		return;
	(void)zmq_disconnect(zsock_raw(k->live), k->at.live);
	(void)zmq_disconnect(zsock_raw(k->snap), k->at.snap);
	k->at = (struct endpoints){0};
}

/* Where it is connected already ZeroMQ is at it. */
static bool connect_to(struct bus_link *k, const struct endpoints *to, struct err *e)
{
	if (streq(k->at.snap, to->snap))
		return true;
	disconnect(k);
	if (zmq_connect(zsock_raw(k->live), to->live) != 0)
		return err_set(e, ERR_LIBRARY, "connecting to %s: %s", to->live, zmq_strerror(errno));
	if (zmq_connect(zsock_raw(k->snap), to->snap) != 0) {
		(void)err_set(e, ERR_LIBRARY, "connecting to %s: %s", to->snap, zmq_strerror(errno));
		(void)zmq_disconnect(zsock_raw(k->live), to->live);
		return false;
	}
	k->at = *to;
	k->moves++;
	return true;
}

static bool connect_fixed(struct bus_link *k, struct err *e)
{
	struct endpoints to;
	(void)snprintf(to.snap, sizeof(to.snap), "%s", k->o.address->snap);
	(void)snprintf(to.live, sizeof(to.live), "%s", k->o.address->live);
	k->state = LINK_TRYING;
	return connect_to(k, &to, e);
}

static void failed(struct bus_link *k, const char *reason, const char *why)
{
	metric_add(&reconnects, 1, k->o.publisher, reason);
	if (k->failures++ == 0)
		log_warn(&link_log, "no publisher yet", KV("publisher", k->o.publisher), KV("reason", why),
			KV("endpoint", (const char *)k->at.snap));
	(void)snprintf(k->error, sizeof(k->error), "%s", why);
	k->state = LINK_WAITING;
	timer_start(k->timer, random_backoff(k->failures, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 0.3), 0);
}

static void on_addresses(void *ctx, const struct addr *list, size_t n, const struct err *why)
{
	struct bus_link *k = ctx;
	struct endpoints to;
	struct err e = {0};
	k->resolving = NULL;
	k->addresses = n;
	if (!n) {
		failed(k, "unresolved", why->text);
		return;
	}
	const struct addr *chosen = &list[bus_link_pick(list, n, k->seed, k->has_current ? &k->current : NULL)];
	endpoint_of(chosen, 0, to.snap);
	endpoint_of(chosen, 1, to.live);
	k->current = *chosen;
	k->has_current = true;
	k->state = LINK_TRYING;
	if (!connect_to(k, &to, &e)) {
		failed(k, "unheard", e.text);
		return;
	}
	log_info(&link_log, "connecting", KV("publisher", k->o.publisher), KV("endpoint", (const char *)to.snap),
		KV("addresses", n));
	timer_start(k->timer, PATIENCE_MS, 0);
}

static void resolve(struct bus_link *k)
{
	if (!k->resolving)
		k->resolving = resolve_start(k->loop, k->o.address->host, k->o.address->port, on_addresses, k);
}

static void on_timer(void *ctx)
{
	struct bus_link *k = ctx;
	struct err e = {0};
	if (k->apart)
		disconnect(k);
	k->apart = false;
	if (k->state == LINK_TRYING)
		failed(k, "unheard", "it says nothing, or has nothing to say yet");
	else if (k->o.address->named)
		resolve(k);
	else if (!connect_fixed(k, &e))
		failed(k, "unheard", e.text);
}

/* ---- what the replica notes */

void bus_link_heard(struct bus_link *k)
{
	if (k->state == LINK_HEARD)
		return;
	k->state = LINK_HEARD;
	k->failures = 0;
	k->error[0] = '\0';
	timer_stop(k->timer);
	resolve_cancel(take(k->resolving));
}

void bus_link_lost(struct bus_link *k)
{
	if (!k->o.address->named || k->state != LINK_HEARD)
		return;
	metric_add(&reconnects, 1, k->o.publisher, "lost");
	log_info(&link_log, "the publisher fell silent", KV("publisher", k->o.publisher),
		KV("endpoint", (const char *)k->at.snap));
	k->state = LINK_WAITING;
	timer_start(k->timer, random_jitter(BACKOFF_FIRST_MS, 0.5), 0);
}

void bus_link_crossed(struct bus_link *k)
{
	if (k->o.address->ipc)
		return;
	metric_add(&reconnects, 1, k->o.publisher, "crossed");
	log_warn(&link_log,
		"snapshots and live changes come from different publishers; the address should name each of them",
		KV("publisher", k->o.publisher), KV("endpoint", (const char *)k->at.snap));
	k->state = LINK_WAITING;
	k->apart = true;
	timer_start(k->timer, random_backoff(++k->crossings, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 0.5), 0);
}

/* ---- life */

static bool open_sockets(struct bus_link *k, struct bus_context *c, struct err *e)
{
	const int on = 1;
	const struct bus_link_options *o = &k->o;
	k->live = zsock_new(k->loop, c, ZMQ_SUB, LIMIT_BUS_QUEUE_FRAMES, o->live, o->ctx, e);
	k->snap = k->live ? zsock_new(k->loop, c, ZMQ_DEALER, 1000, o->snap, o->ctx, e) : NULL;
	if (!k->snap)
		return false;
	(void)zmq_setsockopt(zsock_raw(k->snap), ZMQ_IMMEDIATE, &on, sizeof(on));
	(void)zmq_setsockopt(zsock_raw(k->live), ZMQ_SUBSCRIBE, "", 0);
	if (!o->address->ipc && (!bus_keys_connect(o->keys, k->live, o->publisher, e) ||
					!bus_keys_connect(o->keys, k->snap, o->publisher, e)))
		return false;
	if (!o->address->named && !connect_fixed(k, e))
		return false;
	zsock_start(k->live);
	zsock_start(k->snap);
	return true;
}

struct bus_link *bus_link_new(struct loop *l, struct bus_context *c, const struct bus_link_options *o, struct err *e)
{
	struct bus_link *k = xzalloc(sizeof(*k));
	*k = (struct bus_link){.loop = l, .o = *o, .seed = random_u64()};
	k->timer = timer_new(l, on_timer, k);
	if (!open_sockets(k, c, e)) {
		bus_link_free(k);
		return NULL;
	}
	k->o.keys = NULL;
	if (o->address->named)
		resolve(k);
	return k;
}

void bus_link_free(struct bus_link *k)
{
	if (!k)
		return;
	resolve_cancel(k->resolving);
	timer_free(k->timer);
	zsock_free(k->live);
	zsock_free(k->snap);
	free(k);
}

bool bus_link_send(struct bus_link *k, zmq_msg_t *msg)
{
	return zsock_send(k->snap, msg, false);
}

const char *bus_link_at(const struct bus_link *k)
{
	return k->at.snap;
}

void bus_link_endpoint(const struct addr *a, char out[256])
{
	endpoint_of(a, 0, out);
}

void bus_link_drain(struct bus_link *k)
{
	zsock_drain(k->live);
	zsock_drain(k->snap);
}

void bus_link_debug(const struct bus_link *k, struct strbuf *json)
{
	static const char *const states[LINK_STATE_COUNT] = {"trying", "heard", "waiting"};
	strbuf_addf(json, "{\"state\":\"%s\",\"addresses\":%zu,\"connections\":%llu,\"failures\":%u,\"endpoint\":",
		states[k->state], k->addresses, (unsigned long long)k->moves, k->failures);
	strbuf_add_json(json, str_of(k->at.snap));
	strbuf_adds(json, ",\"error\":");
	strbuf_add_json(json, str_of(k->error));
	strbuf_addc(json, '}');
}
