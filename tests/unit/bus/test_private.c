/*
 * DOC: Topics that not everybody may read (keys of gateways): the role that may has them, and they are nowhere else: not on the live socket, which
 * everybody hears, not in an answer to another role, not on disk, not in a recording.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include "common/bus/wire.h"
#include "common/io/file.h"

#define KEY "-----BEGIN PRIVATE KEY----- of a gateway"
#define OTHER_KEY "-----BEGIN PRIVATE KEY----- the next one"

static const uint32_t topics[] = {TOPIC_SERVICE, TOPIC_SECRET, 0};

static double count_of(const char *metric, const char *reason)
{
	struct metric *m = metric_find(metric);
	assert_non_null(m);
	return metric_get(m, "galley", reason);
}

static bool holds(const char *path, const char *text)
{
	char *content = NULL;
	size_t len = 0;
	struct err e = {0};
	if (!file_exists(path))
		return false;
	assert_true(file_read(path, 64u << 20, &content, &len, &e));
	bool found = memmem(content, len, text, strlen(text)) != NULL;
	free(content);
	return found;
}

/* Hears whatever the publisher says to all. */
struct listener {
	void *context, *socket;
	bool heard_key, heard_end;
};

static void listener_open(struct listener *k, const struct bench *b)
{
	char *address = xasprintf("ipc://%s/run/galley-live", b->dir);
	k->context = zmq_ctx_new();
	k->socket = zmq_socket(k->context, ZMQ_SUB);
	assert_int_equal(zmq_setsockopt(k->socket, ZMQ_SUBSCRIBE, "", 0), 0);
	assert_int_equal(zmq_connect(k->socket, address), 0);
	free(address);
}

static void listen_some(struct listener *k)
{
	zmq_msg_t msg;
	for (;;) {
		(void)zmq_msg_init(&msg);
		if (zmq_msg_recv(&msg, k->socket, ZMQ_DONTWAIT) < 0)
			break;
		const void *data = zmq_msg_data(&msg);
		const size_t len = zmq_msg_size(&msg);
		k->heard_key = k->heard_key || memmem(data, len, "PRIVATE KEY", 11);
		k->heard_end = k->heard_end || memmem(data, len, "the end", 7);
		(void)zmq_msg_close(&msg);
	}
	(void)zmq_msg_close(&msg);
}

static void listener_close(struct listener *k)
{
	(void)zmq_close(k->socket);
	(void)zmq_ctx_term(k->context);
}

static void who_may_has_it_and_it_is_nowhere_else(void **state)
{
	struct bench *b = *state;
	struct listener everybody = {0};
	char *disk = bench_path(b, "pilot.snapshot"), *recording = bench_path(b, "galley.record"),
	     *seen = bench_path(b, "pilot.record");
	const struct bus_publisher_options po = {
		.address = b->address, .role = "galley", .heartbeat_ms = HEARTBEAT_MS, .record = recording};
	struct bus_publisher *p = publish_new_options(b, &po);
	(void)publish_one(p, TOPIC_SECRET, "ns/credential", KEY);
	listener_open(&everybody, b);
	struct bus_replica_options o = daemon_options(b);
	o.topics = topics;
	o.persist = disk;
	o.record = seen;
	struct daemon_double *d = daemon_new_options(b, o);
	run_until(b, streq(daemon_value(d, TOPIC_SECRET, "ns/credential"), KEY));
	const unsigned syncing = d->states[BUS_SYNCING];
	/* Live: with others in one batch, which stays one; without trouble. */
	struct bus_change both[] = {{.topic = TOPIC_SERVICE, .key = STR("ns/a"), .value = STR("1")},
		{.topic = TOPIC_SECRET, .key = STR("ns/credential"), .value = STR(OTHER_KEY)}};
	const unsigned batches = d->batches;
	assert_int_equal(bus_publish(p, both, 2, "test"), 2);
	run_until(b, streq(daemon_value(d, TOPIC_SECRET, "ns/credential"), OTHER_KEY));
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/a"), "1");
	assert_int_equal(d->batches, batches + 1);
	assert_true(count_of("bus_resyncs_total", "withheld") >= 1);
	assert_int_equal(d->states[BUS_SYNCING], syncing);
	assert_int_equal(publish_one(p, TOPIC_SECRET, "ns/credential", NULL), 1);
	run_until(b, !daemon_value(d, TOPIC_SECRET, "ns/credential"));
	(void)publish_one(p, TOPIC_SECRET, "ns/credential", KEY);
	(void)publish_one(p, TOPIC_SERVICE, "ns/z", "the end");
	run_until(b, streq(daemon_value(d, TOPIC_SECRET, "ns/credential"), KEY) &&
			     (listen_some(&everybody), everybody.heard_end));
	assert_false(everybody.heard_key);
	daemon_free(d);
	assert_true(holds(disk, "the end") && holds(recording, "the end") && holds(seen, "the end"));
	assert_false(holds(disk, "PRIVATE KEY") || holds(recording, "PRIVATE KEY") || holds(seen, "PRIVATE KEY"));
	/* After a restart it comes from the publisher again. */
	d = daemon_new_options(b, o);
	assert_string_equal(daemon_value(d, TOPIC_SERVICE, "ns/z"), "the end");
	assert_null(daemon_value(d, TOPIC_SECRET, "ns/credential"));
	run_until(b, streq(daemon_value(d, TOPIC_SECRET, "ns/credential"), KEY));
	daemon_free(d);
	listener_close(&everybody);
	bus_publisher_free(p);
	free(seen);
	free(recording);
	free(disk);
}

static void other_roles_are_refused(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SECRET, "ns/credential", KEY);
	static const char *const roles[] = {"citadel", "cli"};
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		struct bus_replica_options o = daemon_options(b);
		const double before = count_of("bus_refused_total", "topic");
		o.role = roles[i];
		o.topics = topics;
		struct daemon_double *d = daemon_new_options(b, o);
		run_until(b, count_of("bus_refused_total", "topic") > before);
		assert_int_equal(d->batches, 0);
		daemon_free(d);
	}
	assert_true(bus_may_read("pilot", TOPIC_SECRET) && bus_may_read("cli", TOPIC_SERVICE) &&
		    bus_may_read("agent", TOPIC_TRUST));
	assert_false(bus_may_read("agent", TOPIC_SERVICE) || bus_may_read("galley", TOPIC_SECRET));
	bus_publisher_free(p);
}

/* A role that does not read a topic is not held up by it. */
static void others_go_on_when_something_is_withheld(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct bus_replica_options o = daemon_options(b);
	o.role = "cli";
	struct daemon_double *d = daemon_new_options(b, o);
	run_until(b, daemon_is(d, BUS_LIVE));
	const double before = count_of("bus_resyncs_total", "withheld");
	(void)publish_one(p, TOPIC_SECRET, "ns/credential", KEY);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "2");
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/a"), "2"));
	assert_true(count_of("bus_resyncs_total", "withheld") == before);
	assert_int_equal(d->resync_batches, 1);
	daemon_free(d);
	bus_publisher_free(p);
}

/* Compaction copies what is in the file, and nothing else. */
static void a_file_that_is_compacted_stays_without(void **state)
{
	struct bench *b = *state;
	struct bus_publisher *p = publish_new(b);
	char *disk = bench_path(b, "pilot.snapshot"), *big = xmalloc((1u << 20) + 1);
	memset(big, 'x', 1u << 20);
	big[1u << 20] = 0;
	(void)publish_one(p, TOPIC_SECRET, "ns/credential", KEY);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "kept");
	struct bus_replica_options o = daemon_options(b);
	o.topics = topics;
	o.persist = disk;
	struct daemon_double *d = daemon_new_options(b, o);
	run_until(b, daemon_is(d, BUS_LIVE));
	for (char c = 'a'; c < 'h'; c++) {
		big[0] = c;
		(void)publish_one(p, TOPIC_SERVICE, "ns/big", big);
		run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/big"), big));
	}
	struct strbuf page = {0};
	bus_replica_debug(d->replica, &page);
	assert_null(strstr(page.ptr, "\"compactions\":0"));
	strbuf_done(&page);
	daemon_free(d);
	assert_true(holds(disk, "kept"));
	assert_false(holds(disk, "PRIVATE KEY"));
	free(big);
	free(disk);
	bus_publisher_free(p);
}

int main(void)
{
#define BENCH(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)
	const struct CMUnitTest tests[] = {
		BENCH(who_may_has_it_and_it_is_nowhere_else),
		BENCH(other_roles_are_refused),
		BENCH(others_go_on_when_something_is_withheld),
		BENCH(a_file_that_is_compacted_stays_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
