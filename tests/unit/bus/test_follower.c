/*
 * DOC: The replica's protocol without sockets: every frame that a test thinks of, at any time it thinks of. What the
 * publisher would have sent is packed here by hand.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/bus/follower.h"
#include "common/pb/pb.h"

#define INTERVAL 1000u
#define EPOCH 77u

struct rig {
	struct follower *f;
	struct arena *arena;
	uint64_t now;
	bool deaf; /* the upward socket takes nothing */
	unsigned requests;
	unsigned credits;
	size_t held; /* in the last request */
	uint64_t request;
	unsigned batches;
	size_t changes;
	bool last_resync;
	char last_value[32];
	unsigned resyncs[FOLLOWER_REASON_COUNT];
	unsigned refused;
	size_t ignored;
	char ignored_reason[32];
	unsigned crossed;
};

static bool on_send(void *ctx, const Bus__Frame *f)
{
	struct rig *r = ctx;
	if (r->deaf)
		return false;
	if (f->body_case == BUS__FRAME__BODY_CREDIT)
		r->credits++;
	if (f->body_case != BUS__FRAME__BODY_SNAPSHOT_REQUEST)
		return true;
	const Bus__SnapshotRequest *q = f->snapshot_request;
	r->held = q->request == r->request ? r->held + q->n_held : q->n_held;
	r->request = q->request;
	r->requests += !q->more;
	return true;
}

static void on_apply(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct rig *r = ctx;
	r->batches++;
	r->changes += n;
	r->last_resync = resync;
	(void)snprintf(r->last_value, sizeof(r->last_value), STR_FMT, STR_ARG(changes[n - 1].value));
}

static void on_state(void *ctx, enum bus_state state)
{
}

static void on_resync(void *ctx, enum follower_reason why)
{
	((struct rig *)ctx)->resyncs[why]++;
}

static void on_refused(void *ctx, const char *reason)
{
	((struct rig *)ctx)->refused++;
}

static void on_ignored(void *ctx, const char *reason, size_t n)
{
	struct rig *r = ctx;
	r->ignored += n;
	(void)snprintf(r->ignored_reason, sizeof(r->ignored_reason), "%s", reason);
}

static void on_crossed(void *ctx)
{
	((struct rig *)ctx)->crossed++;
}

static const struct follower_ops ops = {on_send, on_apply, on_state, on_resync, on_refused, on_ignored, on_crossed};
static const uint32_t topics[] = {TOPIC_SERVICE, TOPIC_ENDPOINTS, 0};

static int rig_setup(void **state)
{
	struct rig *r = xzalloc(sizeof(*r));
	r->arena = arena_new();
	r->now = 1000000;
	const struct follower_options o = {.publisher = "galley",
		.role = "pilot",
		.instance = "p",
		.topics = topics,
		.ops = &ops,
		.ctx = r,
		.pending_limit = 4096};
	r->f = follower_new(&o, r->now);
	*state = r;
	return 0;
}

static int rig_teardown(void **state)
{
	struct rig *r = *state;
	follower_free(r->f);
	arena_free(r->arena);
	free(r);
	return 0;
}

/* ---- what a publisher sends */

static struct str packed(struct rig *r, Bus__Frame *f, uint64_t epoch, uint64_t sequence)
{
	f->epoch = epoch;
	f->sequence = sequence;
	if (str_empty(f->publisher))
		f->publisher = arena_strdup(r->arena, "galley");
	return pb_pack(r->arena, f);
}

static void heartbeat(struct rig *r, uint64_t epoch, uint64_t sequence)
{
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Heartbeat h = BUS__HEARTBEAT__INIT;
	h.interval_ms = INTERVAL;
	f.body_case = BUS__FRAME__BODY_HEARTBEAT;
	f.heartbeat = &h;
	follower_live(r->f, r->now, packed(r, &f, epoch, sequence));
	follower_tick(r->f, r->now);
}

static struct bus_change service(const char *key, const char *value)
{
	const struct str v = str_of(value);
	return (struct bus_change){
		.topic = TOPIC_SERVICE, .key = str_of(key), .value = v, .hash = value ? bus_hash(v) : 0};
}

static void batch_part(struct rig *r, uint64_t epoch, uint64_t sequence, uint32_t part, bool more, struct bus_change c)
{
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Batch b = BUS__BATCH__INIT;
	b.changes = wire_changes(r->arena, &c, 1);
	b.n_changes = 1;
	b.part = part;
	b.more = more;
	f.body_case = BUS__FRAME__BODY_BATCH;
	f.batch = &b;
	follower_live(r->f, r->now, packed(r, &f, epoch, sequence));
}

static void batch(struct rig *r, uint64_t epoch, uint64_t sequence, struct bus_change c)
{
	batch_part(r, epoch, sequence, 0, false, c);
}

static void chunk(struct rig *r, uint64_t epoch, uint64_t sequence, bool last, uint64_t count, struct bus_change c)
{
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__SnapshotChunk m = BUS__SNAPSHOT_CHUNK__INIT;
	m.changes = wire_changes(r->arena, &c, 1);
	m.n_changes = c.key.len ? 1 : 0;
	m.last = last;
	m.resource_count = count;
	m.request = r->request;
	f.body_case = BUS__FRAME__BODY_SNAPSHOT_CHUNK;
	f.snapshot_chunk = &m;
	follower_reply(r->f, r->now, packed(r, &f, epoch, sequence));
}

static const struct bus_change nothing;

/* Runs its timers until the follower has asked again. */
static void until_asked(struct rig *r)
{
	const unsigned before = r->requests;
	const uint64_t end = r->now + 120000;
	while (r->requests == before && r->now < end) {
		r->now = follower_deadline(r->f, r->now);
		follower_tick(r->f, r->now);
	}
	assert_int_equal(r->requests, before + 1);
}

/* Live at sequence 5 with ns/a = 1. */
static void synced(struct rig *r)
{
	heartbeat(r, EPOCH, 5);
	assert_int_equal(r->requests, 1);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	assert_int_equal(r->batches, 1);
}

/* ---- tests */

static void asks_only_after_a_live_frame(void **state)
{
	struct rig *r = *state;
	follower_tick(r->f, r->now += 5000);
	assert_int_equal(r->requests, 0);
	assert_int_equal(follower_state(r->f), BUS_CONNECTING);
	heartbeat(r, EPOCH, 5);
	assert_int_equal(r->requests, 1);
	assert_int_equal(follower_state(r->f), BUS_SYNCING);
}

static void rule1_waiting_deltas_follow_the_snapshot(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 3);
	batch(r, EPOCH, 4, service("ns/a", "4")); /* in the snapshot already */
	batch(r, EPOCH, 5, service("ns/a", "5"));
	batch(r, EPOCH, 6, service("ns/a", "6"));
	assert_int_equal(r->batches, 0);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "5"));
	assert_int_equal(r->batches, 2);
	assert_string_equal(r->last_value, "6");
	assert_int_equal(follower_sequence(r->f), 6);
	batch(r, EPOCH, 5, service("ns/a", "5")); /* late */
	assert_int_equal(r->batches, 2);
}

static void rule1_hole_among_waiting_deltas_is_a_gap(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 3);
	batch(r, EPOCH, 5, service("ns/a", "5"));
	batch(r, EPOCH, 6, service("ns/a", "6"));
	chunk(r, EPOCH, 3, true, 1, service("ns/a", "3"));
	assert_int_equal(r->resyncs[FOLLOWER_GAP], 1);
	assert_int_equal(follower_state(r->f), BUS_SYNCING);
	until_asked(r);
	assert_int_equal(r->held, 1);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "5"));
	assert_string_equal(r->last_value, "6"); /* what waited still follows */
	assert_int_equal(follower_state(r->f), BUS_LIVE);
}

static void rule2_heartbeat_with_a_higher_sequence_resyncs(void **state)
{
	struct rig *r = *state;
	synced(r);
	heartbeat(r, EPOCH, 5);
	assert_int_equal(r->resyncs[FOLLOWER_SILENT], 0);
	heartbeat(r, EPOCH, 4); /* sent before the snapshot was made, on another socket */
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	heartbeat(r, EPOCH, 6);
	assert_int_equal(r->resyncs[FOLLOWER_SILENT], 1);
	until_asked(r);
	chunk(r, EPOCH, 6, true, 0, nothing); /* the difference is empty: nothing for the daemon */
	assert_int_equal(r->batches, 1);
	assert_int_equal(follower_state(r->f), BUS_LIVE);
}

static void rule3_new_epoch_resyncs(void **state)
{
	struct rig *r = *state;
	synced(r);
	batch(r, EPOCH + 1, 6, service("ns/b", "1"));
	assert_int_equal(r->resyncs[FOLLOWER_EPOCH], 1);
	assert_int_equal(r->batches, 1);
	until_asked(r);
	assert_int_equal(r->held, 1);
}

static void rule3_publisher_replaced_while_it_answers(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 5);
	chunk(r, EPOCH, 5, false, 2, service("ns/a", "1"));
	assert_int_equal(r->credits, 1);
	heartbeat(r, EPOCH + 1, 1);
	assert_int_equal(r->resyncs[FOLLOWER_EPOCH], 1);
	const uint64_t old = r->request;
	until_asked(r);
	assert_int_not_equal(r->request, old);
	const uint64_t fresh = r->request;
	r->request = old;
	chunk(r, EPOCH, 5, true, 2, service("ns/b", "1")); /* the rest of the old answer */
	assert_int_equal(r->batches, 0);
	assert_string_equal(r->ignored_reason, "late_chunk");
	r->request = fresh;
	chunk(r, EPOCH + 1, 1, true, 1, service("ns/c", "1"));
	assert_int_equal(r->batches, 1);
	assert_int_equal(r->changes, 1);
}

/* The two sockets lead to two publishers with equal content: said when it happens again, and the daemon hears of no change. */
static void rule3_snapshots_of_another_publisher_are_noticed(void **state)
{
	struct rig *r = *state;
	synced(r);
	heartbeat(r, EPOCH + 1, 5);
	until_asked(r);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(r->crossed, 0);
	heartbeat(r, EPOCH + 1, 5);
	until_asked(r);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(r->crossed, 1);
	assert_int_equal(r->batches, 1);
	/* Together again: the count starts anew. */
	heartbeat(r, EPOCH + 1, 5);
	until_asked(r);
	chunk(r, EPOCH + 1, 5, true, 1, service("ns/a", "1"));
	heartbeat(r, EPOCH, 5);
	until_asked(r);
	chunk(r, EPOCH + 1, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(r->crossed, 1);
	assert_int_equal(r->batches, 1);
}

static void publisher_counts_as_ready_when_it_has_published(void **state)
{
	struct rig *r = *state;
	assert_false(follower_publisher_ready(r->f));
	heartbeat(r, EPOCH, 0);
	assert_false(follower_publisher_ready(r->f));
	heartbeat(r, EPOCH, 1);
	assert_true(follower_publisher_ready(r->f));
	follower_tick(r->f, r->now += 10 * INTERVAL);
	assert_false(follower_publisher_ready(r->f));
}

static void rule4_parts_become_visible_together(void **state)
{
	struct rig *r = *state;
	synced(r);
	batch_part(r, EPOCH, 6, 0, true, service("ns/b", "1"));
	batch_part(r, EPOCH, 6, 1, true, service("ns/c", "1"));
	assert_int_equal(r->batches, 1);
	assert_int_equal(follower_sequence(r->f), 5);
	batch_part(r, EPOCH, 6, 2, false, service("ns/d", "1"));
	assert_int_equal(r->batches, 2);
	assert_int_equal(r->changes, 4);
	batch_part(r, EPOCH, 7, 0, true, service("ns/b", "2"));
	batch_part(r, EPOCH, 7, 2, false, service("ns/d", "2")); /* the middle is lost */
	assert_int_equal(r->batches, 2);
	assert_int_equal(r->resyncs[FOLLOWER_GAP], 1);
}

static void rule4_snapshot_becomes_visible_with_its_last_chunk(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 5);
	chunk(r, EPOCH, 5, false, 3, service("ns/a", "1"));
	chunk(r, EPOCH, 5, false, 3, service("ns/b", "1"));
	assert_int_equal(r->batches, 0);
	assert_false(follower_has_content(r->f));
	chunk(r, EPOCH, 5, true, 3, service("ns/c", "1"));
	assert_int_equal(r->batches, 1);
	assert_int_equal(r->changes, 3);
	assert_int_equal(r->credits, 2);
}

static void rule6_stale_after_three_heartbeats_and_live_again(void **state)
{
	struct rig *r = *state;
	synced(r);
	follower_tick(r->f, r->now += 3 * INTERVAL - 1);
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	follower_tick(r->f, r->now += 1);
	assert_int_equal(follower_state(r->f), BUS_STALE);
	assert_true(follower_has_content(r->f));
	heartbeat(r, EPOCH, 5); /* it was only away */
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	assert_int_equal(r->requests, 1);
}

static void rule7_too_much_waiting_is_dropped_and_resynced(void **state)
{
	struct rig *r = *state;
	char value[1024] = {0};
	memset(value, 'x', sizeof(value) - 1);
	heartbeat(r, EPOCH, 5);
	for (uint64_t s = 6; s < 16; s++) {
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)s);
		value[strlen(value)] = 'x';
		batch(r, EPOCH, s, service("ns/a", value));
	}
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(r->batches, 1);
	assert_int_equal(r->resyncs[FOLLOWER_OVERFLOW], 1);
	until_asked(r);
	chunk(r, EPOCH, 15, true, 1, service("ns/a", "15"));
	assert_string_equal(r->last_value, "15");
}

static void rule7_parts_beyond_the_limit_resync(void **state)
{
	struct rig *r = *state;
	char value[1024] = {0};
	memset(value, 'x', sizeof(value) - 1);
	synced(r);
	for (uint32_t part = 0; part < 6; part++)
		batch_part(r, EPOCH, 6, part, true, service("ns/a", value));
	assert_int_equal(r->resyncs[FOLLOWER_OVERFLOW], 1);
}

static void snapshot_that_contradicts_itself_is_asked_for_again(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 5);
	chunk(r, EPOCH, 5, true, 2, service("ns/a", "1")); /* one of two is missing */
	assert_int_equal(r->resyncs[FOLLOWER_BROKEN], 1);
	assert_int_equal(r->batches, 0);
	until_asked(r);
	chunk(r, EPOCH, 5, false, 2, service("ns/a", "1"));
	chunk(r, EPOCH, 6, true, 2, service("ns/b", "1")); /* of another state */
	assert_int_equal(r->resyncs[FOLLOWER_BROKEN], 2);
	assert_int_equal(r->batches, 0);
}

static void unanswered_request_is_repeated_ever_more_slowly(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 5);
	uint64_t last = 0;
	for (unsigned i = 0; i < 4; i++) {
		const uint64_t from = r->now;
		const unsigned before = r->requests;
		while (r->requests == before) {
			r->now += 100;
			heartbeat(r, EPOCH, 5); /* the publisher lives */
		}
		assert_true(r->now - from > last);
		last = r->now - from;
	}
	assert_int_equal(r->resyncs[FOLLOWER_TIMEOUT], 4);
}

static void publisher_that_is_not_ready_is_waited_for(void **state)
{
	struct rig *r = *state;
	for (unsigned i = 0; i < 600; i++) {
		heartbeat(r, EPOCH, 0);
		r->now += 100;
	}
	assert_int_equal(r->requests, 1);
	assert_int_equal(r->resyncs[FOLLOWER_TIMEOUT], 0);
	chunk(r, EPOCH, 1, true, 0, nothing);
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	assert_true(follower_has_content(r->f));
}

static void refused_request_is_repeated(void **state)
{
	struct rig *r = *state;
	heartbeat(r, EPOCH, 5);
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Refusal m = BUS__REFUSAL__INIT;
	m.reason = arena_strdup(r->arena, "too many");
	m.request = r->request;
	f.body_case = BUS__FRAME__BODY_REFUSAL;
	f.refusal = &m;
	follower_reply(r->f, r->now, packed(r, &f, EPOCH, 5));
	assert_int_equal(r->refused, 1);
	until_asked(r);
}

static void request_waits_until_the_socket_takes_it(void **state)
{
	struct rig *r = *state;
	r->deaf = true;
	heartbeat(r, EPOCH, 5);
	assert_int_equal(r->requests, 0);
	r->deaf = false;
	until_asked(r);
	chunk(r, EPOCH, 5, true, 1, service("ns/a", "1"));
	assert_int_equal(r->batches, 1);
}

static void long_list_of_held_keys_is_split(void **state)
{
	struct rig *r = *state;
	enum { N = 40000 };
	heartbeat(r, EPOCH, 1);
	for (unsigned i = 0; i < N; i++)
		chunk(r, EPOCH, 1, i + 1 == N, N,
			service(arena_printf(r->arena, "ns-%u/some-service-with-a-long-name", i), "1"));
	assert_int_equal(r->changes, N);
	heartbeat(r, EPOCH + 1, 1);
	until_asked(r);
	assert_int_equal(r->held, N);
}

static void unknown_topics_and_bodies_are_ignored(void **state)
{
	struct rig *r = *state;
	synced(r);
	struct bus_change c = service("ns/x", "1");
	c.topic = 4242; /* of a later version */
	batch(r, EPOCH, 6, c);
	assert_int_equal(follower_sequence(r->f), 6); /* seen, and nothing in it for us */
	assert_int_equal(r->ignored, 0);
	c.topic = TOPIC_TRUST; /* citadel's, never galley's */
	batch(r, EPOCH, 7, c);
	assert_string_equal(r->ignored_reason, "foreign_topic");
	c.topic = TOPIC_GATEWAY; /* not subscribed */
	batch(r, EPOCH, 8, c);
	assert_int_equal(r->batches, 1);
	static const char unknown_body[] = "\x08\x4d\x10\x08\x1a\x06galley\xa2\x06\x01x"; /* field 100 */
	follower_live(r->f, r->now, str_n(unknown_body, sizeof(unknown_body) - 1));
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	assert_int_equal(r->ignored, 1);
}

static void malformed_and_foreign_frames_are_ignored(void **state)
{
	struct rig *r = *state;
	synced(r);
	follower_live(r->f, r->now, STR("\xff\xff\xff"));
	assert_string_equal(r->ignored_reason, "malformed");
	follower_reply(r->f, r->now, STR("\x1a\xff"));
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__Heartbeat h = BUS__HEARTBEAT__INIT;
	f.publisher = arena_strdup(r->arena, "citadel");
	f.body_case = BUS__FRAME__BODY_HEARTBEAT;
	f.heartbeat = &h;
	follower_live(r->f, r->now, packed(r, &f, EPOCH + 9, 99));
	assert_string_equal(r->ignored_reason, "foreign_publisher");
	batch(r, EPOCH, 6, (struct bus_change){.topic = TOPIC_SERVICE, .key = STR(""), .value = STR("x")});
	assert_int_equal(r->ignored, 4); /* a change without a key makes its frame malformed */
	assert_int_equal(follower_state(r->f), BUS_LIVE);
	assert_int_equal(follower_sequence(r->f), 5);
}

static void oversize_frame_is_refused(void **state)
{
	struct err e = {0};
	struct arena *a = arena_new();
	char *big = xzalloc(LIMIT_BUS_FRAME_BYTES + 1);
	assert_null(wire_unpack(a, str_n(big, LIMIT_BUS_FRAME_BYTES + 1), &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	free(big);
	arena_free(a);
}

static void gap_storm_backs_off(void **state)
{
	struct rig *r = *state;
	synced(r);
	uint64_t sequence = 5;
	uint64_t waited = 0;
	for (unsigned i = 0; i < 7; i++) { /* an eighth wait would outlast three heartbeats */
		sequence += 2;
		batch(r, EPOCH, sequence, service("ns/a", arena_printf(r->arena, "%u", i)));
		const uint64_t from = r->now;
		until_asked(r);
		waited = r->now - from;
		chunk(r, EPOCH, sequence, true, 1, service("ns/a", arena_printf(r->arena, "%u", i)));
	}
	assert_true(waited > 500);
}

#define RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG(asks_only_after_a_live_frame),
		RIG(rule1_waiting_deltas_follow_the_snapshot),
		RIG(rule1_hole_among_waiting_deltas_is_a_gap),
		RIG(rule2_heartbeat_with_a_higher_sequence_resyncs),
		RIG(rule3_new_epoch_resyncs),
		RIG(rule3_publisher_replaced_while_it_answers),
		RIG(rule3_snapshots_of_another_publisher_are_noticed),
		RIG(publisher_counts_as_ready_when_it_has_published),
		RIG(rule4_parts_become_visible_together),
		RIG(rule4_snapshot_becomes_visible_with_its_last_chunk),
		RIG(rule6_stale_after_three_heartbeats_and_live_again),
		RIG(rule7_too_much_waiting_is_dropped_and_resynced),
		RIG(rule7_parts_beyond_the_limit_resync),
		RIG(snapshot_that_contradicts_itself_is_asked_for_again),
		RIG(unanswered_request_is_repeated_ever_more_slowly),
		RIG(publisher_that_is_not_ready_is_waited_for),
		RIG(refused_request_is_repeated),
		RIG(request_waits_until_the_socket_takes_it),
		RIG(long_list_of_held_keys_is_split),
		RIG(unknown_topics_and_bodies_are_ignored),
		RIG(malformed_and_foreign_frames_are_ignored),
		RIG(oversize_frame_is_refused),
		RIG(gap_storm_backs_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
