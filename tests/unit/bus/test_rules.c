/*
 * DOC: Publisher and replica over ipc: the eight rules, each by its number, with frames dropped, publishers restarted
 * and starts reordered.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>

static double resyncs(const char *reason)
{
	struct metric *m = metric_find("bus_resyncs_total");
	assert_non_null(m);
	return metric_get(m, "galley", reason);
}

static void snapshot_then_live(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/a", "1"), 1);
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	assert_true(d->last_resync);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/a", "2"), 1);
	run_until(b, d->batches == 2);
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "2");
	assert_false(d->last_resync);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/a", NULL), 1);
	run_until(b, d->batches == 3);
	assert_null(daemon_value(d, TOPIC_SERVICE, "ns/a"));
	assert_true(bus_replica_has_content(d->replica));
	daemon_free(d);
	bus_publisher_free(p);
}

/* Publishing goes on while the snapshot is asked for and sent: nothing is missed, nothing comes twice. */
static void rule1_subscribe_first_then_snapshot(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/counter", "0");
	struct daemon_double *d = daemon_new(b);
	unsigned published = 0;
	const double gaps = resyncs("gap") + resyncs("silent_gap");
	while (!daemon_is(d, BUS_LIVE) && published < 100000) {
		char value[16];
		(void)snprintf(value, sizeof(value), "%u", ++published);
		(void)publish_one(p, TOPIC_SERVICE, "ns/counter", value);
		loop_run_once(b->loop, 1);
	}
	char last[16];
	(void)snprintf(last, sizeof(last), "%u", ++published);
	(void)publish_one(p, TOPIC_SERVICE, "ns/counter", last);
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/counter"), last));
	assert_true(resyncs("gap") + resyncs("silent_gap") == gaps);
	assert_int_equal(d->resync_batches, 1);
	daemon_free(d);
	bus_publisher_free(p);
}

static void rule2_heartbeat_finds_silent_gap(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	const double before = resyncs("silent_gap");
	bus_replica_drop_for_tests(d->replica, 1);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "2"); /* lost, and nothing follows but heartbeats */
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/a"), "2"));
	assert_true(d->last_resync);
	assert_true(resyncs("silent_gap") == before + 1);
	daemon_free(d);
	bus_publisher_free(p);
}

static void rule3_gap_means_incremental_resync(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", "1");
	(void)publish_one(p, TOPIC_SERVICE, "ns/c", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	const double before = resyncs("gap");
	/*
	 * The publisher's two batches go out in one turn, so no heartbeat can tell of the first before the second
	 * does.
	 */
	bus_replica_drop_for_tests(d->replica, 1);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", NULL);
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", "2");
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/b"), "2"));
	assert_null(daemon_value(d, TOPIC_SERVICE, "ns/a")); /* held, and gone: the difference has deletions */
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/c"), "1");
	assert_int_equal(d->last_n, 2); /* and not what is held already */
	assert_true(d->last_resync);
	assert_true(resyncs("gap") == before + 1);
	daemon_free(d);
	bus_publisher_free(p);
}

static void rule3_another_publisher_with_equal_content_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	const unsigned batches = d->batches;
	const double before = resyncs("epoch");
	bus_publisher_free(p);
	run_until(b, daemon_is(d, BUS_STALE));
	p = publish_new(b);
	const struct bus_change all[] = {
		{.topic = TOPIC_SERVICE, .key = STR("ns/b"), .value = STR("1"), .origin = STR("elsewhere")},
		{.topic = TOPIC_SERVICE, .key = STR("ns/a"), .value = STR("1")}};
	(void)bus_publish(p, all, 2, "start");
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_true(resyncs("epoch") > before);
	assert_int_equal(d->batches, batches);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "3");
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/a"), "3"));
	assert_int_equal(d->batches, batches + 1);
	daemon_free(d);
	bus_publisher_free(p);
}

/* A publisher that has just started and has read nothing yet does not look like one whose content was deleted. */
static void rule3_publisher_without_content_deletes_nothing(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	bus_publisher_free(p);
	p = publish_new(b);
	run_until(b, daemon_is(d, BUS_SYNCING));
	const unsigned heard = d->states[BUS_SYNCING];
	const uint64_t beats = bus_replica_age_ms(d->replica);
	run_until(b, bus_replica_age_ms(d->replica) <= beats && heard);
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	assert_int_equal(d->batches, 1);
	(void)bus_publish(p, NULL, 0, "start"); /* now it says that it is empty */
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_null(daemon_value(d, TOPIC_SERVICE, "ns/a"));
	daemon_free(d);
	bus_publisher_free(p);
}

/* 3 MB in parts of one sequence: delivered as one batch; with a part lost it is not delivered in pieces. */
static void rule4_large_batch_is_one_batch(void **state)
{
	struct bench *b = *state;
	enum { N = 30, SIZE = 100000 };
	struct bus_publisher *p = publish_new(b);
	(void)bus_publish(p, NULL, 0, "start");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	char *big = xmalloc(SIZE);
	for (int round = 0; round < 2; round++) {
		struct bus_change changes[N];
		char keys[N][16];
		memset(big, 'a' + round, SIZE);
		for (int i = 0; i < N; i++) {
			(void)snprintf(keys[i], sizeof(keys[i]), "ns/%d", i);
			changes[i] = (struct bus_change){
				.topic = TOPIC_SERVICE, .key = str_of(keys[i]), .value = str_n(big, SIZE)};
		}
		const unsigned before = d->batches;
		if (round == 1)
			bus_replica_drop_for_tests(d->replica, 1); /* the first part */
		assert_int_equal(bus_publish(p, changes, N, "apply"), N);
		run_until(b, d->batches > before);
		assert_int_equal(d->batches, before + 1);
		assert_int_equal(d->last_n, N);
		assert_int_equal(d->last_resync, round == 1);
		assert_int_equal(daemon_value(d, TOPIC_SERVICE, "ns/29")[SIZE - 1], 'a' + round);
	}
	free(big);
	daemon_free(d);
	bus_publisher_free(p);
}

static void rule5_only_changes_of_content_are_published(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/a", "1"), 1);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/a", "1"), 0);
	assert_int_equal(publish_one(p, TOPIC_SERVICE, "ns/never", NULL), 0);
	/* A hash given by the caller stands for the content: other bytes with the same hash are noise. */
	const struct bus_change noise[] = {{.topic = TOPIC_SERVICE, .key = STR("ns/h"), .value = STR("x"), .hash = 7},
		{.topic = TOPIC_SERVICE, .key = STR("ns/h"), .value = STR("y"), .hash = 7}};
	assert_int_equal(bus_publish(p, &noise[0], 1, ""), 1);
	const uint64_t sequence = bus_publisher_sequence(p);
	assert_int_equal(bus_publish(p, &noise[1], 1, ""), 0);
	assert_int_equal(bus_publisher_sequence(p), sequence);
	bus_publisher_free(p);
}

static void rule6_last_snapshot_without_publisher(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "state/pilot.bus");
	struct bus_replica_options o = daemon_options(b);
	o.persist = path;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", "1");
	struct daemon_double *d = daemon_new_options(b, o);
	run_until(b, daemon_is(d, BUS_LIVE));
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", NULL);
	run_until(b, d->batches == 2);
	bus_publisher_free(p);
	run_until(b, daemon_is(d, BUS_STALE));
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	assert_true(bus_replica_age_ms(d->replica) >= 3 * HEARTBEAT_MS);
	daemon_free(d);

	/* A new process without a publisher: the batch is there before the loop ran at all. */
	d = daemon_new_options(b, o);
	assert_true(daemon_is(d, BUS_STALE));
	assert_int_equal(d->batches, 1);
	assert_int_equal(d->last_n, 1);
	assert_true(d->last_resync);
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	assert_true(bus_replica_has_content(d->replica));

	/* The publisher returns with one more key: only that is news. */
	p = publish_new(b);
	const struct bus_change all[] = {{.topic = TOPIC_SERVICE, .key = STR("ns/a"), .value = STR("1")},
		{.topic = TOPIC_SERVICE, .key = STR("ns/c"), .value = STR("1")}};
	(void)bus_publish(p, all, 2, "start");
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_int_equal(d->batches, 2);
	assert_int_equal(d->last_n, 1);
	daemon_free(d);
	bus_publisher_free(p);
	free(path);
}

/* The live queue is bounded: what a replica that does not read loses, it gets by resync. */
static void rule7_full_queue_drops_and_resyncs(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "start");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	const double before = resyncs("gap") + resyncs("silent_gap");
	/*
	 * Three times the high-water marks of both sides, without a turn of the loop in which the replica could read.
	 */
	char *value = xmalloc(600);
	for (unsigned i = 0; i < 60000; i++) {
		memset(value, 'x', 600);
		int n = snprintf(value, 600, "%u", i);
		value[n] = ' ';
		const struct bus_change c = {.topic = TOPIC_SERVICE, .key = STR("ns/a"), .value = str_n(value, 600)};
		(void)bus_publish(p, &c, 1, "");
	}
	run_until(b, daemon_value(d, TOPIC_SERVICE, "ns/a") &&
			     strncmp(daemon_value(d, TOPIC_SERVICE, "ns/a"), "59999 ", 6) == 0);
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_true(resyncs("gap") + resyncs("silent_gap") > before);
	free(value);
	daemon_free(d);
	bus_publisher_free(p);
}

struct replayed {
	struct daemon_double daemon; /* first: the context of both callbacks */
	bool done;
};

static void replay_done(void *ctx)
{
	((struct replayed *)ctx)->done = true;
}

static void replay_into(struct bench *b, const char *path, bool with_timing, struct replayed *r)
{
	struct err e = {0};
	struct bus_replay *replay;
	*r = (struct replayed){.daemon = {.bench = b, .content = map_new()}};
	assert_true(bus_replay_start(b->loop, path, with_timing, &daemon_ops, &r->daemon, replay_done, &replay, &e));
	run_until(b, r->done);
}

static void replayed_done(struct replayed *r)
{
	size_t cursor = 0;
	struct str key;
	void *value = NULL;
	while (map_next(r->daemon.content, &cursor, &key, &value))
		free(value);
	map_free(r->daemon.content);
}

static void rule8_record_and_replay(void **state)
{
	struct bench *b = *state;
	char *above = bench_path(b, "galley.rec");
	char *below = bench_path(b, "pilot.rec");
	struct bus_publisher_options po = {
		.address = b->address, .role = "galley", .heartbeat_ms = HEARTBEAT_MS, .record = above};
	struct bus_publisher *p = publish_new_options(b, &po);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct bus_replica_options o = daemon_options(b);
	o.record = below;
	struct daemon_double *d = daemon_new_options(b, o);
	run_until(b, daemon_is(d, BUS_LIVE));
	(void)publish_one(p, TOPIC_SERVICE, "ns/b", "2");
	bus_replica_drop_for_tests(d->replica, 1);
	run_until(b, d->batches == 2);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", NULL);
	run_until(b, d->batches == 3);
	daemon_free(d);
	bus_publisher_free(p);
	const char *files[] = {above, below};
	for (unsigned i = 0; i < 4; i++) {
		struct replayed r;
		replay_into(b, files[i % 2], i >= 2, &r);
		assert_int_equal(r.daemon.batches, 3);
		assert_true(r.daemon.resync_batches >= 1);
		assert_null(daemon_value(&r.daemon, TOPIC_SERVICE, "ns/a"));
		assert_string_equal(daemon_value(&r.daemon, TOPIC_SERVICE, "ns/b"), "2");
		assert_int_equal(r.daemon.states[BUS_LIVE], 1);
		replayed_done(&r);
	}
	free(above);
	free(below);
}

static void replica_before_publisher(void **state)
{
	struct bench *b = *state;
	struct daemon_double *d = daemon_new(b);
	loop_run_once(b->loop, 1);
	assert_true(daemon_is(d, BUS_CONNECTING));
	assert_false(bus_replica_has_content(d->replica));
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	daemon_free(d);
	bus_publisher_free(p);
}

static void other_topics_do_not_reach_a_replica(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_GATEWAY, "ns/g", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	(void)publish_one(p, TOPIC_GATEWAY, "ns/g", "2");
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	run_until(b, daemon_value(d, TOPIC_SERVICE, "ns/a"));
	assert_int_equal(d->changes, 1);
	daemon_free(d);
	bus_publisher_free(p);
}

struct reported {
	unsigned calls;
	char key[64];
	char value[64];
	bool deleted;
};

static void on_report(void *ctx, const char *role, const char *instance, const struct bus_change *changes, size_t n)
{
	struct reported *r = ctx;
	assert_string_equal(role, "pilot");
	assert_string_equal(instance, "pilot-1");
	r->calls++;
	const struct bus_change *c = &changes[n - 1];
	(void)snprintf(r->key, sizeof(r->key), STR_FMT, STR_ARG(c->key));
	(void)snprintf(r->value, sizeof(r->value), STR_FMT, STR_ARG(c->value));
	r->deleted = c->value.ptr == NULL;
}

/* Reports merge while the publisher is away, and a new publisher gets the last value of each. */
static void reports_go_up(void **state)
{
	struct bench *b = *state;
	struct reported got = {0};
	const struct bus_publisher_options po = {.address = b->address,
		.role = "galley",
		.heartbeat_ms = HEARTBEAT_MS,
		.on_report = on_report,
		.ctx = &got};
	struct daemon_double *d = daemon_new(b);
	const struct bus_change first = {.topic = TOPIC_STATUS, .key = STR("ns/vs"), .value = STR("old")};
	const struct bus_change second = {.topic = TOPIC_STATUS, .key = STR("ns/vs"), .value = STR("new")};
	bus_report(d->replica, &first, 1);
	bus_report(d->replica, &second, 1);
	struct bus_publisher *p = publish_new_options(b, &po);
	(void)bus_publish(p, NULL, 0, "start");
	run_until(b, got.calls);
	assert_string_equal(got.value, "new");
	bus_publisher_free(p);
	run_until(b, daemon_is(d, BUS_CONNECTING) || daemon_is(d, BUS_STALE));
	got = (struct reported){0};
	p = publish_new_options(b, &po);
	(void)bus_publish(p, NULL, 0, "start");
	run_until(b, got.calls);
	assert_string_equal(got.value, "new");
	const struct bus_change gone = {.topic = TOPIC_STATUS, .key = STR("ns/vs")};
	bus_report(d->replica, &gone, 1);
	run_until(b, got.deleted);
	daemon_free(d);
	bus_publisher_free(p);
}

static void oversize_change_is_refused_alone(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	struct daemon_double *d = daemon_new(b);
	const size_t size = (33u << 20);
	char *huge = xzalloc(size);
	const struct bus_change changes[] = {{.topic = TOPIC_SERVICE, .key = STR("ns/huge"), .value = {huge, size}},
		{.topic = TOPIC_SERVICE, .key = STR("ns/good"), .value = STR("1")}};
	assert_int_equal(bus_publish(p, changes, 2, "apply"), 1);
	free(huge);
	run_until(b, daemon_value(d, TOPIC_SERVICE, "ns/good"));
	assert_int_equal(map_len(d->content), 1);
	daemon_free(d);
	bus_publisher_free(p);
}

static void second_publisher_on_an_address_is_an_error(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	const struct bus_publisher_options o = {.address = b->address, .role = "galley"};
	struct err e = {0};
	assert_null(bus_publisher_new(b->loop, &o, &e));
	assert_non_null(strstr(e.text, "another publisher"));
	struct daemon_double *d = daemon_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	run_until(b, daemon_is(d, BUS_LIVE)); /* and the first goes on */
	daemon_free(d);
	bus_publisher_free(p);
}

static void debug_pages_are_json(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = daemon_new(b);
	run_until(b, daemon_is(d, BUS_LIVE));
	struct strbuf json = {0};
	run_until(b, (strbuf_clear(&json), bus_publisher_debug(p, &json), strstr(json.ptr, "\"current\":true")));
	assert_non_null(strstr(json.ptr, "\"instance\":\"pilot-1\""));
	strbuf_clear(&json);
	bus_replica_debug(d->replica, &json);
	assert_non_null(strstr(json.ptr, "\"state\":\"live\""));
	assert_non_null(strstr(json.ptr, "\"keys\":1"));
	strbuf_done(&json);
	daemon_free(d);
	bus_publisher_free(p);
}

#define BENCH(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH(snapshot_then_live),
		BENCH(rule1_subscribe_first_then_snapshot),
		BENCH(rule2_heartbeat_finds_silent_gap),
		BENCH(rule3_gap_means_incremental_resync),
		BENCH(rule3_another_publisher_with_equal_content_changes_nothing),
		BENCH(rule3_publisher_without_content_deletes_nothing),
		BENCH(rule4_large_batch_is_one_batch),
		BENCH(rule5_only_changes_of_content_are_published),
		BENCH(rule6_last_snapshot_without_publisher),
		BENCH(rule7_full_queue_drops_and_resyncs),
		BENCH(rule8_record_and_replay),
		BENCH(replica_before_publisher),
		BENCH(other_topics_do_not_reach_a_replica),
		BENCH(reports_go_up),
		BENCH(oversize_change_is_refused_alone),
		BENCH(second_publisher_on_an_address_is_an_error),
		BENCH(debug_pages_are_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
