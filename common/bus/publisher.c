/*
 * DOC: The publisher: a store, two sockets and a heartbeat. What bus_publish() changes becomes one frame on the live
 * socket (or several with one sequence); requests, credits and reports come in on the snapshot socket and chunks go
 * out. A subscription that arrives is answered with a heartbeat to everyone, so that a new subscriber knows at once
 * that it misses nothing from here on.
 *
 * The live socket drops frames for a subscriber that does not keep up (LIMIT_BUS_QUEUE_FRAMES); the sequence tells
 * it, and it resyncs. A subscriber that goes away takes its snapshot with it after EXPIRE_INTERVALS.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/bus/publisher_internal.h"
#include "common/mesh/kinds.h"

#define DEFAULT_HEARTBEAT_MS 1000

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

METRIC(published_batches, COUNTER, "bus_published_batches_total", "batches published, by topic that changed",
	"publisher", "topic");
METRIC(published_changes, COUNTER, "bus_published_changes_total", "changes of content published", "publisher", "topic");
METRIC(unchanged, COUNTER, "bus_unchanged_total", "changes not published because the content was the same",
	"publisher");
METRIC(sent_bytes, COUNTER, "bus_sent_bytes_total", "bytes handed to ZeroMQ", "publisher", "socket");
METRIC(refused_total, COUNTER, "bus_refused_total", "connections, requests and changes refused", "publisher", "reason");
METRIC(keys_gauge, GAUGE, "bus_keys", "keys that the publisher offers", "publisher");

void publisher_count_refused(struct bus_publisher *p, const char *reason)
{
	p->refused++;
	metric_add(&refused_total, 1, p->role, reason);
}

void publisher_count_bytes(struct bus_publisher *p, const char *socket, size_t bytes)
{
	metric_add(&sent_bytes, (double)bytes, p->role, socket);
}

/* ---- live */

static void send_live(struct bus_publisher *p, Bus__Frame *f)
{
	zmq_msg_t msg;
	f->epoch = p->epoch;
	f->sequence = p->sequence;
	f->publisher = p->role;
	wire_pack(f, &msg);
	publisher_count_bytes(p, "live", zmq_msg_size(&msg));
	(void)zsock_send(p->live, &msg, false); /* XPUB never says "not now": it drops, and the sequence tells */
}

static void heartbeat(void *ctx)
{
	struct bus_publisher *p = ctx;
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Heartbeat h = BUS__HEARTBEAT__INIT;
	h.interval_ms = (uint32_t)p->heartbeat_ms;
	f.body_case = BUS__FRAME__BODY_HEARTBEAT;
	f.heartbeat = &h;
	send_live(p, &f);
	publisher_tend_peers(p);
}

static void on_subscription(void *ctx, zmq_msg_t *parts, size_t n)
{
	struct bus_publisher *p = ctx;
	if (n == 1 && zmq_msg_size(&parts[0]) > 0 && *(const char *)zmq_msg_data(&parts[0]) == 1)
		timer_start(p->heartbeat, 0, p->heartbeat_ms); /* one for all that arrive in this turn */
}

static void withhold(struct arena *a, Bus__Batch *b, uint32_t topic)
{
	for (size_t i = 0; i < b->n_withheld; i++)
		if (b->withheld[i] == topic)
			return;
	uint32_t *list = ARENA_ARRAY(a, uint32_t, b->n_withheld + 1);
	if (b->n_withheld)
		memcpy(list, b->withheld, b->n_withheld * sizeof(*list));
	list[b->n_withheld++] = topic;
	b->withheld = list;
}

/* Everybody who may follow us hears the live socket. What only some may read they fetch when they hear that there is something. */
static void publish_frames(struct bus_publisher *p, const struct bus_change *all, size_t n_all, const char *cause)
{
	struct arena *a = arena_new();
	size_t n;
	const struct bus_change *changes = wire_public(a, all, n_all, &n);
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Batch b = BUS__BATCH__INIT;
	b.cause = arena_strdup(a, cause ? cause : "");
	b.time_ms = clock_wall_ms();
	f.body_case = BUS__FRAME__BODY_BATCH;
	f.batch = &b;
	for (size_t i = 0; n < n_all && i < n_all; i++)
		if (bus_topic_private(all[i].topic))
			withhold(a, &b, all[i].topic);
	do {
		const size_t fit = wire_fit(changes, n);
		b.changes = wire_changes(a, changes, fit);
		b.n_changes = fit;
		b.more = fit < n;
		send_live(p, &f);
		b.part++;
		changes += fit;
		n -= fit;
	} while (n > 0);
	arena_free(a);
}

/* ---- publishing */

static bool acceptable(struct bus_publisher *p, const struct bus_change *c)
{
	const struct topic *t = topic_get(c->topic);
	assert(t && streq(t->publisher, p->role)); /* a role publishes its own topics: anything else is our bug */
	const char *problem = wire_change_problem(c);
	struct bus_id id;
	if (!problem && c->value.ptr && map_len(p->store.values) >= LIMIT_BUS_KEYS &&
		!map_get(p->store.values, bus_id(&id, c->topic, c->key)))
		problem = "too many keys";
	if (!problem)
		return true;
	publisher_count_refused(p, problem);
	log_error(&log_bus, "change not published", KV("topic", t->name), KV("key", str_sub(c->key, 0, 200)),
		KV("reason", problem), KV("bytes", c->value.len));
	return false;
}

static void count_changes(struct bus_publisher *p, const struct bus_change *changes, size_t n)
{
	size_t n_topics = 0;
	const struct topic *topics = topics_all(&n_topics);
	for (size_t t = 0; t < n_topics; t++) {
		size_t count = 0;
		for (size_t i = 0; i < n; i++)
			count += changes[i].topic == topics[t].id;
		if (!count)
			continue;
		metric_add(&published_changes, (double)count, p->role, topics[t].name);
		metric_add(&published_batches, 1, p->role, topics[t].name);
	}
	metric_set(&keys_gauge, (double)map_len(p->store.values), p->role);
}

size_t bus_publish(struct bus_publisher *p, const struct bus_change *changes, size_t n, const char *cause)
{
	struct bus_change *kept = xmalloc((n + 1) * sizeof(*kept));
	size_t n_kept = 0;
	for (size_t i = 0; i < n; i++) {
		struct bus_change c = changes[i];
		if (!acceptable(p, &c))
			continue;
		if (c.value.ptr && c.hash == 0)
			c.hash = bus_hash(c.value);
		if (store_apply(&p->store, &c))
			kept[n_kept++] = c;
		else
			metric_add(&unchanged, 1, p->role);
	}
	if (n_kept || p->sequence == 0) {
		p->sequence++;
		publish_frames(p, kept, n_kept, cause);
		recorder_batch(
			p->recorder, clock_mono_ms(), p->epoch, p->sequence, kept, n_kept, p->sequence == 1, cause);
		count_changes(p, kept, n_kept);
		log_debug(&log_bus, "published", KV("sequence", p->sequence), KV("changes", n_kept),
			KV("cause", cause ? cause : ""));
		publisher_tend_peers(p); /* those that waited for the first batch */
	}
	free(kept);
	return n_kept;
}

/* ---- life */

static void on_key_refused(void *ctx, const char *reason, struct str address)
{
	struct bus_publisher *p = ctx;
	publisher_count_refused(p, reason);
	log_warn(&log_bus, "connection refused", KV("publisher", (const char *)p->role), KV("reason", reason),
		KV("peer", address));
}

static const struct zsock_ops live_ops = {.on_message = on_subscription};
static const struct zsock_ops snap_ops = {.on_message = publisher_on_message};

static bool use_listening_fd(struct zsock *s, const char *path, uint64_t *inode, struct err *e)
{
	int fd = -1;
	if (!bus_ipc_listen(path, &fd, inode, e))
		return false;
	if (zmq_setsockopt(zsock_raw(s), ZMQ_USE_FD, &fd, sizeof(fd)) == 0)
		return true;
	(void)close(fd);
	return err_set(e, ERR_LIBRARY, "ZMQ_USE_FD: %s", zmq_strerror(errno));
}

static bool bind_one(struct bus_publisher *p, struct zsock *s, const char *endpoint, const char *path, uint64_t *inode,
	struct err *e)
{
	if (path && !use_listening_fd(s, path, inode, e))
		return false;
	if (p->zap.domain[0] && !bus_keys_serve(p->zap.keys, s, p->zap.domain, e))
		return false;
	if (zmq_bind(zsock_raw(s), endpoint) != 0)
		return err_set(e, ERR_SYSTEM, "binding %s: %s", endpoint, zmq_strerror(errno));
	zsock_start(s);
	return true;
}

static bool open_sockets(struct bus_publisher *p, struct loop *l, struct err *e)
{
	const int on = 1;
	p->snap = zsock_new(l, p->context, ZMQ_ROUTER, LIMIT_BUS_WINDOW_CHUNKS * 16, &snap_ops, p, e);
	p->live = p->snap ? zsock_new(l, p->context, ZMQ_XPUB, LIMIT_BUS_QUEUE_FRAMES, &live_ops, p, e) : NULL;
	if (!p->live)
		return false;
	/*
	 * A send to a peer that is gone is an error that we want to know; every subscription is to be seen, also an
	 * equal one.
	 */
	(void)zmq_setsockopt(zsock_raw(p->snap), ZMQ_ROUTER_MANDATORY, &on, sizeof(on));
	(void)zmq_setsockopt(zsock_raw(p->live), ZMQ_XPUB_VERBOSE, &on, sizeof(on));
	return bind_one(p, p->snap, p->address.snap, p->address.snap_path, &p->snap_inode, e) &&
	       bind_one(p, p->live, p->address.live, p->address.live_path, &p->live_inode, e);
}

static bool authenticate(struct bus_publisher *p, struct loop *l, const struct bus_publisher_options *o, struct err *e)
{
	if (p->address.ipc)
		return true; /* guarded by the directory's mode */
	if (!o->keys)
		return err_set(e, ERR_DENIED, "tcp needs CURVE keys");
	if (!streq(bus_keys_own_role(o->keys), o->role))
		return err_set(e, ERR_BUG, "the keys are those of %s, not of %s", bus_keys_own_role(o->keys), o->role);
	p->zap = (struct zap_client){.keys = o->keys, .publisher = p->role, .on_refused = on_key_refused, .ctx = p};
	return zap_join(l, p->context, &p->zap, e);
}

static bool start(struct bus_publisher *p, struct loop *l, const struct bus_publisher_options *o, struct err *e)
{
	if (!bus_address_parse(o->address, o->role, &p->address, e) || !authenticate(p, l, o, e))
		return false;
	if (o->record && !(p->recorder = recorder_open(o->record, o->role, e)))
		return false;
	if (!open_sockets(p, l, e))
		return false;
	p->heartbeat = timer_new(l, heartbeat, p);
	timer_start(p->heartbeat, p->heartbeat_ms, p->heartbeat_ms);
	return true;
}

struct bus_publisher *bus_publisher_new(struct loop *l, const struct bus_publisher_options *o, struct err *e)
{
	struct bus_publisher *p = xzalloc(sizeof(*p));
	p->context = bus_context_get();
	p->role = xstrdup(o->role);
	p->epoch = random_u64() | 1;
	p->heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : DEFAULT_HEARTBEAT_MS;
	p->on_report = o->on_report;
	p->ctx = o->ctx;
	p->peers = map_new();
	store_init(&p->store);
	if (!start(p, l, o, e)) {
		bus_publisher_free(p);
		(void)err_in(e, "bus publisher");
		return NULL;
	}
	log_info(&log_bus, "publishing", KV("role", o->role), KV("address", (const char *)p->address.snap),
		KV("epoch", p->epoch));
	return p;
}

void bus_publisher_free(struct bus_publisher *p)
{
	if (!p)
		return;
	timer_free(p->heartbeat);
	bus_ipc_unlink(p->address.snap_path, p->snap_inode);
	bus_ipc_unlink(p->address.live_path, p->live_inode);
	zsock_free(p->snap);
	zsock_free(p->live);
	zap_leave(p->context, &p->zap);
	publisher_drop_peers(p);
	map_free(p->peers);
	store_done(&p->store);
	recorder_close(p->recorder);
	bus_context_put(p->context);
	free(p->role);
	free(p);
}

uint64_t bus_publisher_epoch(const struct bus_publisher *p)
{
	return p->epoch;
}

uint64_t bus_publisher_sequence(const struct bus_publisher *p)
{
	return p->sequence;
}
