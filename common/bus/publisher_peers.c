/*
 * DOC: The publisher's snapshot socket. Every message comes with ZeroMQ's name of its connection, which is how we
 * know peers, and - under CURVE - with the role that the authenticator found for its key, which is the only role that
 * we believe. On ipc the role is what the peer says: there the directory's mode is the guard.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/bus/publisher_internal.h"
#include "common/mesh/kinds.h"

#define EXPIRE_INTERVALS 20 /* subscribers tell where they stand every 5 */
#define EXPIRE_MIN_MS 10000

LOG_SCOPE(log_bus, "bus", "publishers, replicas and recordings");

METRIC(snapshots_total, COUNTER, "bus_snapshots_total", "snapshots begun, by the subscriber's role", "publisher",
	"role");

static void forget(struct bus_publisher *p, struct peer *peer)
{
	(void)map_del(p->peers, peer->routing);
	peer_free(peer);
}

void publisher_drop_peers(struct bus_publisher *p)
{
	size_t cursor = 0;
	struct str routing;
	void *peer = NULL;
	while (map_next(p->peers, &cursor, &routing, &peer))
		peer_free(peer);
	map_clear(p->peers);
}

/* False: the peer is gone, or takes nothing now (errno). */
static bool send_to(struct bus_publisher *p, struct str routing, Bus__Frame *f)
{
	zmq_msg_t msg;
	f->epoch = p->epoch;
	f->publisher = p->role;
	wire_pack(f, &msg);
	const size_t bytes = zmq_msg_size(&msg);
	if (!zsock_send_bytes(p->snap, routing, true)) {
		int why = errno;
		(void)zmq_msg_close(&msg);
		errno = why;
		return false;
	}
	publisher_count_bytes(p, "snapshot", bytes);
	return zsock_send(p->snap, &msg, false);
}

static void refuse(struct bus_publisher *p, struct str routing, uint64_t request, const char *label, const char *reason,
	const char *who)
{
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Refusal r = BUS__REFUSAL__INIT;
	r.reason = (char *)(uintptr_t)reason;
	r.request = request;
	f.sequence = p->sequence;
	f.body_case = BUS__FRAME__BODY_REFUSAL;
	f.refusal = &r;
	(void)send_to(p, routing, &f);
	publisher_count_refused(p, label);
	log_warn(&log_bus, "request refused", KV("publisher", (const char *)p->role), KV("reason", reason),
		KV("peer", who));
}

/* False when the peer was forgotten. */
static bool pump(struct bus_publisher *p, struct peer *peer)
{
	for (;;) {
		cleanup(arena_free_p) struct arena *a = arena_new();
		Bus__SnapshotChunk c;
		if (!peer_next_chunk(peer, a, &c))
			return true;
		Bus__Frame f = BUS__FRAME__INIT;
		f.sequence = peer->snapshot_sequence;
		f.body_case = BUS__FRAME__BODY_SNAPSHOT_CHUNK;
		f.snapshot_chunk = &c;
		if (send_to(p, peer->routing, &f)) {
			peer_sent(peer, &c);
			continue;
		}
		if (errno == EAGAIN)
			return true; /* the next heartbeat tries again */
		forget(p, peer);
		return false;
	}
}

static void begin(struct bus_publisher *p, struct peer *peer)
{
	peer_begin(peer, &p->store, p->sequence);
	metric_add(&snapshots_total, 1, p->role, (const char *)peer->role);
	log_info(&log_bus, "snapshot", KV("publisher", (const char *)p->role), KV("to", (const char *)peer->instance),
		KV("role", (const char *)peer->role), KV("changes", peer->todo.len), KV("sequence", p->sequence));
}

void publisher_tend_peers(struct bus_publisher *p)
{
	const uint64_t now = clock_mono_ms();
	const uint64_t patience = p->heartbeat_ms * EXPIRE_INTERVALS;
	size_t cursor = 0;
	struct str routing;
	void *value = NULL;
	while (map_next(p->peers, &cursor, &routing, &value)) {
		struct peer *peer = value;
		if (now >= peer->last_ms + (patience > EXPIRE_MIN_MS ? patience : EXPIRE_MIN_MS)) {
			forget(p, peer);
			continue;
		}
		if (peer->waiting && p->sequence > 0)
			begin(p, peer);
		(void)pump(p, peer);
	}
}

static struct peer *peer_of(struct bus_publisher *p, struct str routing)
{
	struct peer *peer = map_get(p->peers, routing);
	if (!peer && map_len(p->peers) < LIMIT_BUS_PEERS) {
		peer = peer_new(routing);
		(void)map_put(p->peers, routing, peer);
	}
	return peer;
}

static void on_request(struct bus_publisher *p, struct str routing, const char *role, const Bus__SnapshotRequest *r)
{
	if (!streq(role, r->role) || !bus_role_may_follow(role, p->role)) {
		refuse(p, routing, r->request, "role", "this role may not follow this publisher", role);
		return;
	}
	for (size_t i = 0; i < r->n_topics; i++) {
		if (!bus_may_read(role, r->topics[i])) {
			refuse(p, routing, r->request, "topic", "this role may not read one of these topics", role);
			return;
		}
	}
	struct peer *peer = peer_of(p, routing);
	if (!peer) {
		refuse(p, routing, r->request, "peers", "too many subscribers", r->instance);
		return;
	}
	bool complete = false;
	struct err e = {0};
	peer->last_ms = clock_mono_ms();
	if (!peer_request(peer, r, &complete, &e)) {
		refuse(p, routing, r->request, "request", e.text, r->instance);
		return;
	}
	if (!complete)
		return;
	peer->waiting = true;
	if (p->sequence == 0)
		return;
	begin(p, peer);
	(void)pump(p, peer);
}

static void on_report(
	struct bus_publisher *p, struct str routing, const char *role, struct arena *a, const Bus__Report *r)
{
	if (!p->on_report || !bus_role_may_follow(role, p->role)) {
		refuse(p, routing, 0, "report", "no reports are taken here", role);
		return;
	}
	struct bus_change *changes = NULL;
	size_t foreign = 0;
	size_t n = wire_changes_of(a, r->changes, r->n_changes, role, NULL, &changes, &foreign);
	if (foreign)
		refuse(p, routing, 0, "report", "a report on a topic of another role", role);
	if (n)
		p->on_report(p->ctx, role, r->instance, changes, n);
}

static void on_frame(
	struct bus_publisher *p, struct str routing, const char *role, struct arena *a, const Bus__Frame *f)
{
	struct peer *peer = map_get(p->peers, routing);
	if (peer) {
		peer->last_ms = clock_mono_ms();
		if (f->body_case == BUS__FRAME__BODY_HEARTBEAT) {
			peer->epoch = f->epoch;
			peer->sequence = f->sequence;
		} else if (f->body_case == BUS__FRAME__BODY_CREDIT) {
			peer_credit(peer, f->credit);
			(void)pump(p, peer);
		}
	}
	if (f->body_case == BUS__FRAME__BODY_SNAPSHOT_REQUEST)
		on_request(p, routing, role, f->snapshot_request);
	else if (f->body_case == BUS__FRAME__BODY_REPORT)
		on_report(p, routing, role, a, f->report);
}

void publisher_on_message(void *ctx, zmq_msg_t *parts, size_t n)
{
	struct bus_publisher *p = ctx;
	cleanup(arena_free_p) struct arena *a = arena_new();
	const struct str routing = str_n(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]));
	struct err e = {0};
	const Bus__Frame *f = NULL;
	if (n == 2)
		f = wire_unpack(a, str_n(zmq_msg_data(&parts[1]), zmq_msg_size(&parts[1])), &e);
	if (!f) {
		publisher_count_refused(p, "malformed");
		log_warn(&log_bus, "malformed message", KV("publisher", (const char *)p->role), KV("error", e.text));
		return;
	}
	const char *role = f->publisher;
	if (p->zap.domain[0])
		role = zmq_msg_gets(&parts[1], "User-Id"); /* NULL can not be: there is no connection without it */
	on_frame(p, routing, role, a, f);
}

static void debug_topics(const struct bus_publisher *p, struct strbuf *json)
{
	size_t n_topics = 0;
	const struct topic *topics = topics_all(&n_topics);
	const char *comma = "";
	for (size_t t = 0; t < n_topics; t++) {
		size_t keys = 0;
		size_t bytes = 0;
		size_t cursor = 0;
		struct str id;
		void *value = NULL;
		if (!streq(topics[t].publisher, p->role))
			continue;
		while (map_next(p->store.values, &cursor, &id, &value)) {
			const struct bus_value *v = value;
			keys += v->change.topic == topics[t].id;
			bytes += v->change.topic == topics[t].id ? v->change.value.len : 0;
		}
		strbuf_addf(
			json, "%s{\"topic\":\"%s\",\"keys\":%zu,\"bytes\":%zu}", comma, topics[t].name, keys, bytes);
		comma = ",";
	}
}

static void debug_peers(const struct bus_publisher *p, struct strbuf *json)
{
	const uint64_t now = clock_mono_ms();
	const char *comma = "";
	size_t cursor = 0;
	struct str routing;
	void *value = NULL;
	while (map_next(p->peers, &cursor, &routing, &value)) {
		const struct peer *peer = value;
		strbuf_addf(json, "%s{\"role\":", comma);
		strbuf_add_json(json, str_of(peer->role));
		strbuf_adds(json, ",\"instance\":");
		strbuf_add_json(json, str_of(peer->instance));
		strbuf_addf(json, ",\"sequence\":%llu,\"current\":%s,\"heard_ms_ago\":%llu,\"snapshots\":%llu",
			(unsigned long long)peer->sequence,
			peer->epoch == p->epoch && peer->sequence == p->sequence ? "true" : "false",
			(unsigned long long)(now - peer->last_ms), (unsigned long long)peer->snapshots);
		strbuf_addf(json, ",\"waiting\":%s,\"to_send\":%zu,\"chunks_under_way\":%u}",
			peer->waiting ? "true" : "false", peer->todo.len - peer->next, peer->under_way);
		comma = ",";
	}
}

void bus_publisher_debug(const struct bus_publisher *p, struct strbuf *json)
{
	strbuf_addf(json, "{\"role\":\"%s\",\"address\":", p->role);
	strbuf_add_json(json, str_of(p->address.snap));
	strbuf_addf(json, ",\"epoch\":\"%016llx\",\"sequence\":%llu,\"ready\":%s,\"curve\":%s,\"heartbeat_ms\":%llu",
		(unsigned long long)p->epoch, (unsigned long long)p->sequence, p->sequence ? "true" : "false",
		p->zap.domain[0] ? "true" : "false", (unsigned long long)p->heartbeat_ms);
	strbuf_addf(json, ",\"keys\":%zu,\"bytes\":%llu,\"refused\":%llu,\"topics\":[", map_len(p->store.values),
		(unsigned long long)p->store.bytes, (unsigned long long)p->refused);
	debug_topics(p, json);
	strbuf_adds(json, "],\"subscribers\":[");
	debug_peers(p, json);
	strbuf_adds(json, "]}");
}
