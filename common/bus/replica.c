/*
 * DOC: The replica: the follower's protocol with sockets, a timer and files around it. Live frames and answers go in,
 * and whatever it has to send goes out through one DEALER. That socket queues only for a connection which stands
 * (ZMQ_IMMEDIATE): a request to a publisher that is away is not worth keeping.
 *
 * A batch goes to disk before the daemon sees it, so that a daemon which dies of a batch meets it again, and is not
 * one behind after a restart. Disk trouble ends persisting, with an error in the log, and nothing else.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/bus/address.h"
#include "common/bus/follower.h"
#include "common/bus/keys.h"
#include "common/bus/link.h"
#include "common/bus/persist.h"
#include "common/bus/recorder.h"
#include "common/bus/others.h"
#include "common/bus/reports.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

METRIC(batches, COUNTER, "bus_batches_total", "batches that became visible, by topic that changed", "publisher",
	"topic");
METRIC(changes_total, COUNTER, "bus_changes_total", "changes that became visible", "publisher", "topic");
METRIC(resyncs, COUNTER, "bus_resyncs_total", "snapshots asked for, by reason", "publisher", "reason");
METRIC(bytes_total, COUNTER, "bus_bytes_total", "bytes received", "publisher", "socket");
METRIC(ignored_total, COUNTER, "bus_ignored_total", "frames and changes that were not for us", "publisher", "reason");
METRIC(state_gauge, GAUGE, "bus_state", "1 for the state that the replica is in", "publisher", "state");
METRIC(age_gauge, GAUGE, "bus_age_seconds", "time since the publisher's last frame", "publisher");
METRIC(persist_broken, GAUGE, "bus_persist_broken", "1 when the snapshot on disk could not be written any more",
	"publisher");

struct bus_replica {
	struct loop *loop;
	struct bus_context *context;
	char *publisher;
	char *role;
	char *instance;
	uint32_t *topics;
	char *persist_path;
	struct bus_address address;
	const struct bus_replica_ops *ops;
	void *ctx;
	struct follower *follower;
	struct bus_link *link;
	struct bus_others *others; /* NULL: it tells none */
	struct timer *timer;
	struct persist *persist;
	struct recorder *recorder;
	struct reports reports;
	struct persist_mark loaded; /* what was on disk at the start */
	unsigned drop; /* tests */
	uint64_t n_resyncs;
	uint64_t n_batches;
	uint64_t started_ms;
	bool in_callback;
};

const char *bus_state_name(enum bus_state s)
{
	static const char *const names[BUS_STATE_COUNT] = {"connecting", "syncing", "live", "stale"};
	return names[s];
}

/* ---- what the follower does */

static bool send_up(void *ctx, const Bus__Frame *f)
{
	struct bus_replica *r = ctx;
	zmq_msg_t msg;
	wire_pack(f, &msg);
	return bus_link_send(r->link, &msg);
}

static void count_batch(struct bus_replica *r, const struct bus_change *changes, size_t n)
{
	size_t n_topics = 0;
	const struct topic *topics = topics_all(&n_topics);
	for (size_t t = 0; t < n_topics; t++) {
		size_t count = 0;
		for (size_t i = 0; i < n; i++)
			count += changes[i].topic == topics[t].id;
		if (!count)
			continue;
		metric_add(&changes_total, (double)count, r->publisher, topics[t].name);
		metric_add(&batches, 1, r->publisher, topics[t].name);
	}
}

static struct persist_mark mark_now(const struct bus_replica *r)
{
	return (struct persist_mark){
		follower_epoch(r->follower), follower_sequence(r->follower), (uint64_t)clock_wall_ms()};
}

static void persist_ended(struct bus_replica *r, const struct err *e)
{
	log_error(&log_bus, "the snapshot is not kept on disk any more", KV("file", (const char *)r->persist_path),
		KV("error", e->text));
	metric_set(&persist_broken, 1, r->publisher);
	(void)persist_close(take(r->persist), NULL, NULL);
}

static void deliver(struct bus_replica *r, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	r->n_batches++;
	count_batch(r, changes, n);
	recorder_batch(r->recorder, clock_mono_ms(), follower_epoch(r->follower), follower_sequence(r->follower),
		changes, n, resync, cause);
	r->in_callback = true;
	r->ops->on_batch(r->ctx, changes, n, resync, cause);
	r->in_callback = false;
}

static void on_apply(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct bus_replica *r = ctx;
	const struct persist_mark mark = mark_now(r);
	struct err e = {0};
	if (r->persist && !persist_batch(r->persist, follower_content(r->follower), changes, n, &mark, &e))
		persist_ended(r, &e);
	deliver(r, changes, n, resync, cause);
}

static void show_state(struct bus_replica *r, enum bus_state now)
{
	for (int s = 0; s < BUS_STATE_COUNT; s++)
		metric_set(&state_gauge, (enum bus_state)s == now, r->publisher, bus_state_name((enum bus_state)s));
}

static void on_state(void *ctx, enum bus_state state)
{
	struct bus_replica *r = ctx;
	show_state(r, state);
	if (state == BUS_STALE || state == BUS_CONNECTING)
		bus_link_lost(r->link);
	log_info(&log_bus, "replica", KV("publisher", (const char *)r->publisher), KV("state", bus_state_name(state)));
	if (r->ops->on_state)
		r->ops->on_state(r->ctx, state);
}

static void on_resync(void *ctx, enum follower_reason why)
{
	struct bus_replica *r = ctx;
	r->n_resyncs++;
	metric_add(&resyncs, 1, r->publisher, follower_reason_name(why));
	log_info(&log_bus, "resync", KV("publisher", (const char *)r->publisher),
		KV("reason", follower_reason_name(why)));
}

static void on_refused(void *ctx, const char *reason)
{
	struct bus_replica *r = ctx;
	log_warn(&log_bus, "the publisher refused us", KV("publisher", (const char *)r->publisher),
		KV("reason", reason));
}

static void on_ignored(void *ctx, const char *reason, size_t n)
{
	struct bus_replica *r = ctx;
	metric_add(&ignored_total, (double)n, r->publisher, reason);
	log_debug(&log_bus, "ignored", KV("publisher", (const char *)r->publisher), KV("reason", reason), KV("n", n));
}

static void on_crossed(void *ctx)
{
	struct bus_replica *r = ctx;
	bus_link_crossed(r->link);
}

static const struct follower_ops follower_ops = {
	.send = send_up,
	.apply = on_apply,
	.state = on_state,
	.resync = on_resync,
	.refused = on_refused,
	.ignored = on_ignored,
	.crossed = on_crossed,
};

/* ---- sockets and time */

static void flush_reports(struct bus_replica *r)
{
	if (follower_synced(r->follower) && (r->reports.unsent || r->reports.epoch != follower_epoch(r->follower)))
		reports_flush(&r->reports, follower_epoch(r->follower), r->role, r->instance, send_up, r);
}

static void rearm(struct bus_replica *r)
{
	const uint64_t now = clock_mono_ms();
	const uint64_t at = follower_deadline(r->follower, now);
	timer_start(r->timer, at > now ? at - now : 1, 0);
}

static void on_timer(void *ctx)
{
	struct bus_replica *r = ctx;
	/* After a long callback the timer is due before the frames that came meanwhile are read: that is not silence. */
	bus_link_drain(r->link);
	follower_tick(r->follower, clock_mono_ms());
	metric_set(&age_gauge, (double)bus_replica_age_ms(r) / 1000, r->publisher);
	flush_reports(r);
	rearm(r);
}

/* Heartbeats do not count: tests say which batch is lost, not when. */
static bool lose_for_tests(struct bus_replica *r, struct str bytes)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const Bus__Frame *f = wire_unpack(a, bytes, NULL);
	if (!f || f->body_case != BUS__FRAME__BODY_BATCH)
		return false;
	r->drop--;
	return true;
}

static void on_live(void *ctx, zmq_msg_t *parts, size_t n)
{
	struct bus_replica *r = ctx;
	metric_add(&bytes_total, (double)zmq_msg_size(&parts[0]), r->publisher, "live");
	if (r->drop && lose_for_tests(r, str_n(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]))))
		return;
	const uint64_t now = clock_mono_ms();
	follower_live(r->follower, now, str_n(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0])));
	if (follower_publisher_ready(r->follower))
		bus_link_heard(r->link);
	follower_tick(r->follower, now);
	flush_reports(r);
	rearm(r);
}

static void on_answer(void *ctx, zmq_msg_t *parts, size_t n)
{
	struct bus_replica *r = ctx;
	const uint64_t now = clock_mono_ms();
	metric_add(&bytes_total, (double)zmq_msg_size(&parts[0]), r->publisher, "snapshot");
	follower_reply(r->follower, now, str_n(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0])));
	follower_tick(r->follower, now);
	flush_reports(r);
	rearm(r);
}

static void on_writable(void *ctx)
{
	struct bus_replica *r = ctx;
	follower_tick(r->follower, clock_mono_ms());
	flush_reports(r);
}

static const struct zsock_ops live_ops = {.on_message = on_live};
static const struct zsock_ops snap_ops = {.on_message = on_answer, .on_writable = on_writable};

static bool open_link(struct bus_replica *r, const struct bus_keys *keys, bool tells_all, struct err *e)
{
	const struct bus_link_options o = {.address = &r->address,
		.publisher = r->publisher,
		.keys = keys,
		.live = &live_ops,
		.snap = &snap_ops,
		.ctx = r};
	if (!r->address.ipc && !keys)
		return err_set(e, ERR_DENIED, "tcp needs CURVE keys");
	if (keys && !streq(bus_keys_own_role(keys), r->role))
		return err_set(e, ERR_BUG, "the keys are those of %s, not of %s", bus_keys_own_role(keys), r->role);
	const struct bus_others_options others = {&r->address, r->publisher, keys};
	if (tells_all && r->address.named)
		r->others = bus_others_new(r->loop, r->context, &others);
	r->link = bus_link_new(r->loop, r->context, &o, e);
	return r->link != NULL;
}

/* ---- life */

/* The last snapshot, before any network. A disk that does not work costs the snapshot, not the start. */
static void load_snapshot(struct bus_replica *r)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct bus_change *changes = NULL;
	size_t n = 0;
	struct err e = {0};
	metric_set(&persist_broken, 0, r->publisher);
	r->persist = persist_open(r->persist_path, r->publisher, r->topics, a, follower_content(r->follower), &changes,
		&n, &r->loaded, &e);
	if (!r->persist) {
		log_error(&log_bus, "no snapshot on disk", KV("file", (const char *)r->persist_path),
			KV("error", e.text));
		metric_set(&persist_broken, 1, r->publisher);
	}
	if (r->loaded.epoch == 0)
		return;
	log_info(&log_bus, "snapshot loaded from disk", KV("publisher", (const char *)r->publisher), KV("keys", n),
		KV("sequence", r->loaded.sequence));
	follower_loaded(r->follower, r->loaded.epoch, r->loaded.sequence);
	if (n)
		deliver(r, changes, n, true, "disk");
}

static bool start(struct bus_replica *r, const struct bus_replica_options *o, struct err *e)
{
	if (!bus_address_parse(o->address, o->publisher, &r->address, e))
		return false;
	if (o->record && !(r->recorder = recorder_open(o->record, o->publisher, e)))
		return false;
	if (!open_link(r, o->keys, o->tells_all, e))
		return false;
	show_state(r, BUS_CONNECTING);
	if (r->persist_path)
		load_snapshot(r);
	r->timer = timer_new(r->loop, on_timer, r);
	rearm(r);
	return true;
}

static uint32_t *copy_topics(const uint32_t *topics)
{
	size_t n = 0;
	while (topics[n])
		n++;
	uint32_t *copy = xmalloc((n + 1) * sizeof(*copy));
	memcpy(copy, topics, (n + 1) * sizeof(*copy));
	return copy;
}

struct bus_replica *bus_replica_new(struct loop *l, const struct bus_replica_options *o, struct err *e)
{
	struct bus_replica *r = xzalloc(sizeof(*r));
	*r = (struct bus_replica){.loop = l, .ops = o->ops, .ctx = o->ctx, .started_ms = clock_mono_ms()};
	r->context = bus_context_get();
	r->publisher = xstrdup(o->publisher);
	r->role = xstrdup(o->role);
	r->instance = xstrdup(str_empty(o->instance) ? o->role : o->instance);
	r->persist_path = o->persist ? xstrdup(o->persist) : NULL;
	r->topics = copy_topics(o->topics);
	reports_init(&r->reports);
	const struct follower_options fo = {.publisher = r->publisher,
		.role = r->role,
		.instance = r->instance,
		.topics = r->topics,
		.ops = &follower_ops,
		.ctx = r};
	r->follower = follower_new(&fo, r->started_ms);
	if (!start(r, o, e)) {
		bus_replica_free(r);
		(void)err_in(e, "bus replica of %s", o->publisher);
		return NULL;
	}
	return r;
}

void bus_replica_free(struct bus_replica *r)
{
	if (!r)
		return;
	assert(!r->in_callback);
	struct err e = {0};
	const struct persist_mark mark = mark_now(r);
	if (r->persist && !persist_close(r->persist, follower_has_content(r->follower) ? &mark : NULL, &e))
		log_error(&log_bus, "closing the snapshot", KV("file", (const char *)r->persist_path),
			KV("error", e.text));
	timer_free(r->timer);
	bus_others_free(r->others);
	bus_link_free(r->link);
	bus_context_put(r->context);
	recorder_close(r->recorder);
	reports_done(&r->reports);
	follower_free(r->follower);
	free(r->topics);
	free(r->persist_path);
	free(r->instance);
	free(r->role);
	free(r->publisher);
	free(r);
}

/* ---- questions */

enum bus_state bus_replica_state(const struct bus_replica *r)
{
	return follower_state(r->follower);
}

bool bus_replica_has_content(const struct bus_replica *r)
{
	return follower_has_content(r->follower);
}

uint64_t bus_replica_age_ms(const struct bus_replica *r)
{
	const uint64_t now = clock_mono_ms();
	uint64_t at = r->started_ms;
	if (follower_heard(r->follower, &at) || r->loaded.wall_ms == 0)
		return now - at;
	const int64_t wall = clock_wall_ms();
	return wall > (int64_t)r->loaded.wall_ms ? (uint64_t)wall - r->loaded.wall_ms : 0;
}

void bus_report(struct bus_replica *r, const struct bus_change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct topic *t = topic_get(changes[i].topic);
		assert(t && streq(t->publisher, r->role)); /* a role reports on its own topics */
		const char *problem = wire_change_problem(&changes[i]);
		if (problem)
			log_error(&log_bus, "report not sent", KV("key", str_sub(changes[i].key, 0, 200)),
				KV("reason", problem));
		else
			reports_add(&r->reports, &changes[i]);
	}
	timer_start(r->timer, 0, 0); /* with what else is reported in this turn */
}

void bus_report_all(struct bus_replica *r, const struct bus_change *changes, size_t n)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	bus_report(r, changes, n);
	if (!r->others || !bus_others_count(r->others))
		return;
	const Bus__Frame *f = reports_frame(a, r->role, r->instance, changes, n);
	bus_others_tell(r->others, bus_link_at(r->link), pb_pack(a, f));
}

void bus_replica_debug(const struct bus_replica *r, struct strbuf *json)
{
	strbuf_addf(json, "{\"publisher\":\"%s\",\"role\":\"%s\",\"address\":", r->publisher, r->role);
	strbuf_add_json(json, str_of(r->address.snap));
	strbuf_addf(json, ",\"state\":\"%s\",\"age_ms\":%llu,\"resyncs\":%llu,\"batches\":%llu,",
		bus_state_name(bus_replica_state(r)), (unsigned long long)bus_replica_age_ms(r),
		(unsigned long long)r->n_resyncs, (unsigned long long)r->n_batches);
	follower_debug(r->follower, json);
	strbuf_adds(json, ",\"link\":");
	bus_link_debug(r->link, json);
	strbuf_addf(json, ",\"reports\":{\"keys\":%zu,\"unsent\":%zu,\"dropped\":%llu,\"limit\":%u}",
		map_len(r->reports.map), r->reports.unsent, (unsigned long long)r->reports.dropped,
		LIMIT_BUS_REPORT_KEYS);
	if (r->others)
		strbuf_addf(json, ",\"others\":%zu", bus_others_count(r->others));
	strbuf_adds(json, ",\"persist\":");
	if (r->persist)
		strbuf_addf(json,
			"{\"bytes\":%llu,\"compactions\":%llu,\"file\":", (unsigned long long)persist_bytes(r->persist),
			(unsigned long long)persist_compactions(r->persist));
	else
		strbuf_adds(json, "{\"file\":");
	strbuf_add_json(json, r->persist ? str_of(r->persist_path) : STR(""));
	strbuf_adds(json, "}}");
}

void bus_replica_drop_for_tests(struct bus_replica *r, unsigned n)
{
	r->drop = n;
}
