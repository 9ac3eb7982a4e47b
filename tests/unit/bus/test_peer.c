/*
 * DOC: A publisher's side of one snapshot: the difference, the window, and values that change while they wait to be
 * sent.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/bus/publisher_internal.h"
#include "common/bus/reports.h"
#include "common/pb/pb.h"

static void put(struct store *s, const char *key, struct str value)
{
	const struct bus_change c = {
		.topic = TOPIC_SERVICE, .key = str_of(key), .value = value, .hash = value.ptr ? bus_hash(value) : 0};
	assert_true(store_apply(s, &c));
}

static void request(struct peer *p, uint64_t id, Bus__Held **held, size_t n, bool more, bool expect_complete)
{
	Bus__SnapshotRequest r = BUS__SNAPSHOT_REQUEST__INIT;
	uint32_t topics[] = {TOPIC_SERVICE, 999};
	struct err e = {0};
	bool complete = false;
	r.protocol = BUS_PROTOCOL;
	r.topics = topics;
	r.n_topics = ARRAY_LEN(topics);
	r.request = id;
	r.held = held;
	r.n_held = n;
	r.more = more;
	assert_true(peer_request(p, &r, &complete, &e));
	assert_int_equal(complete, expect_complete);
}

static Bus__Held held_of(const char *key, uint64_t hash)
{
	Bus__Held h = BUS__HELD__INIT;
	h.topic = TOPIC_SERVICE;
	h.key = (char *)(uintptr_t)key;
	h.hash = hash;
	return h;
}

/* Held: a (equal), b (another hash), c (gone). There: a, b, d. So: b, d, and c deleted. */
static void rule3_difference_to_what_is_held(void **state)
{
	struct store s;
	store_init(&s);
	put(&s, "a", STR("1"));
	put(&s, "b", STR("2"));
	put(&s, "d", STR("1"));
	struct peer *p = peer_new(STR("x"));
	Bus__Held a = held_of("a", bus_hash(STR("1")));
	Bus__Held b = held_of("b", bus_hash(STR("1")));
	Bus__Held c = held_of("c", 5);
	Bus__Held *first[] = {&a};
	Bus__Held *rest[] = {&b, &c};
	request(p, 1, first, 1, true, false);
	request(p, 1, rest, 2, false, true);
	peer_begin(p, &s, 9);
	struct arena *arena = arena_new();
	Bus__SnapshotChunk chunk;
	assert_true(peer_next_chunk(p, arena, &chunk));
	assert_true(chunk.last);
	assert_int_equal(chunk.n_changes, 3);
	assert_int_equal(chunk.resource_count, 3);
	assert_string_equal(chunk.changes[0]->key, "b");
	assert_string_equal(chunk.changes[1]->key, "d");
	assert_string_equal(chunk.changes[2]->key, "c");
	assert_true(chunk.changes[2]->deleted);
	peer_sent(p, &chunk);
	assert_false(peer_next_chunk(p, arena, &chunk));
	arena_free(arena);
	peer_free(p);
	store_done(&s);
}

/*
 * 40 MB of values: chunks of a megabyte, four under way, more only for credit, and memory only for what is replaced
 * meanwhile.
 */
static void rule7_chunks_wait_for_credit(void **state)
{
	enum { N = 400, SIZE = 100000 };
	struct store s;
	store_init(&s);
	char *value = xmalloc(SIZE);
	memset(value, 'a', SIZE);
	for (int i = 0; i < N; i++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(&s, key, str_n(value, SIZE));
	}
	struct peer *p = peer_new(STR("x"));
	request(p, 7, NULL, 0, false, true);
	peer_begin(p, &s, 9);
	/* All of it changes before the first chunk: the snapshot is still what it was. */
	memset(value, 'b', SIZE);
	for (int i = 0; i < N; i++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(&s, key, i % 2 ? str_n(value, SIZE) : (struct str){0});
	}
	struct arena *arena = arena_new();
	Bus__SnapshotChunk chunk;
	Bus__Credit credit = BUS__CREDIT__INIT;
	Bus__Credit stale = BUS__CREDIT__INIT;
	credit.request = 7;
	credit.chunks = 1;
	stale.request = 6;
	stale.chunks = 100;
	size_t got = 0;
	unsigned chunks = 0;
	for (bool last = false; !last;) {
		for (unsigned window = 0; peer_next_chunk(p, arena, &chunk); window++) {
			assert_true(window < LIMIT_BUS_WINDOW_CHUNKS);
			assert_true(chunk.n_changes * SIZE <= LIMIT_BUS_CHUNK_BYTES);
			for (size_t i = 0; i < chunk.n_changes; i++)
				assert_int_equal(chunk.changes[i]->value.data[SIZE - 1], 'a');
			got += chunk.n_changes;
			last = chunk.last;
			chunks++;
			peer_sent(p, &chunk);
		}
		peer_credit(p, &stale);
		if (!last)
			assert_false(peer_next_chunk(p, arena, &chunk));
		for (unsigned i = 0; i < LIMIT_BUS_WINDOW_CHUNKS; i++)
			peer_credit(p, &credit);
	}
	assert_int_equal(got, N);
	assert_int_equal(chunks, N / 10);
	assert_int_equal(p->snapshot_sequence, 9);
	arena_free(arena);
	free(value);
	peer_free(p);
	store_done(&s);
}

static void wrong_requests_are_refused(void **state)
{
	struct peer *p = peer_new(STR("x"));
	Bus__SnapshotRequest r = BUS__SNAPSHOT_REQUEST__INIT;
	struct err e = {0};
	bool complete = false;
	r.protocol = 99;
	assert_false(peer_request(p, &r, &complete, &e));
	assert_int_equal(e.kind, ERR_PEER);
	uint32_t topics[PEER_TOPICS_MAX + 1] = {0};
	r.protocol = BUS_PROTOCOL;
	r.topics = topics;
	r.n_topics = ARRAY_LEN(topics);
	assert_false(peer_request(p, &r, &complete, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	r.n_topics = 1;
	r.request = 1;
	r.more = true;
	Bus__Held h = held_of("k", 1);
	enum { BLOCK = 1000 };
	Bus__Held *held[BLOCK];
	char keys[BLOCK][16];
	Bus__Held items[BLOCK];
	for (size_t i = 0; i < BLOCK; i++) {
		items[i] = h;
		items[i].key = keys[i];
		held[i] = &items[i];
	}
	r.held = held;
	r.n_held = BLOCK;
	bool ok = true;
	unsigned blocks = 0;
	for (; ok && blocks <= LIMIT_BUS_KEYS / BLOCK; blocks++) {
		for (size_t i = 0; i < BLOCK; i++)
			(void)snprintf(keys[i], sizeof(keys[i]), "%u-%zu", blocks, i);
		ok = peer_request(p, &r, &complete, &e);
	}
	assert_false(ok);
	assert_int_equal(blocks, LIMIT_BUS_KEYS / BLOCK + 1);
	assert_int_equal(e.kind, ERR_LIMIT);
	peer_free(p);
}

/* One request frame as it comes from a connection that was never there. */
static void request_from(struct bus_publisher *p, unsigned connection)
{
	struct arena *a = arena_new();
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__SnapshotRequest r = BUS__SNAPSHOT_REQUEST__INIT;
	zmq_msg_t parts[2];
	r.protocol = BUS_PROTOCOL;
	r.role = arena_strdup(a, "pilot");
	r.more = true; /* it never completes */
	f.publisher = r.role;
	f.body_case = BUS__FRAME__BODY_SNAPSHOT_REQUEST;
	f.snapshot_request = &r;
	assert_int_equal(zmq_msg_init_size(&parts[0], sizeof(connection)), 0);
	memcpy(zmq_msg_data(&parts[0]), &connection, sizeof(connection));
	wire_pack(&f, &parts[1]);
	publisher_on_message(p, parts, 2);
	(void)zmq_msg_close(&parts[0]);
	(void)zmq_msg_close(&parts[1]);
	arena_free(a);
}

static void rule7_subscribers_are_bounded(void **state)
{
	void *bench = NULL;
	assert_int_equal(bench_setup(&bench), 0);
	struct bus_publisher *p = publish_new(bench);
	for (unsigned i = 0; i < LIMIT_BUS_PEERS; i++)
		request_from(p, i);
	assert_int_equal(p->refused, 0);
	request_from(p, LIMIT_BUS_PEERS);
	assert_int_equal(p->refused, 1);
	request_from(p, 0); /* those that are known go on */
	assert_int_equal(p->refused, 1);
	bus_publisher_free(p);
	assert_int_equal(bench_teardown(&bench), 0);
}

struct sent {
	size_t changes;
	unsigned frames;
	unsigned accept; /* frames until "not now" */
};

static bool take_report(void *ctx, const Bus__Frame *f)
{
	struct sent *s = ctx;
	if (!s->accept)
		return false;
	s->accept--;
	s->frames++;
	s->changes += f->report->n_changes;
	return true;
}

static void rule7_reports_are_bounded_and_the_oldest_gives_way(void **state)
{
	enum { SIZE = 200 };
	struct reports r;
	char value[SIZE];
	memset(value, 'x', SIZE);
	reports_init(&r);
	for (unsigned i = 0; i <= LIMIT_BUS_REPORT_KEYS; i++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "%u", i);
		const struct bus_change c = {.topic = TOPIC_STATUS, .key = str_of(key), .value = str_n(value, SIZE)};
		reports_add(&r, &c);
	}
	assert_int_equal(map_len(r.map), LIMIT_BUS_REPORT_KEYS);
	assert_int_equal(r.dropped, 1);
	assert_int_equal(r.unsent, LIMIT_BUS_REPORT_KEYS);
	struct sent s = {.accept = 2};
	reports_flush(&r, 1, "pilot", "p", take_report, &s);
	assert_int_equal(s.frames, 2); /* the socket is full: the rest waits */
	assert_int_equal(r.unsent, LIMIT_BUS_REPORT_KEYS - s.changes);
	s.accept = 1000;
	reports_flush(&r, 1, "pilot", "p", take_report, &s);
	assert_int_equal(s.changes, LIMIT_BUS_REPORT_KEYS);
	assert_int_equal(r.unsent, 0);
	const struct bus_change same = {.topic = TOPIC_STATUS, .key = STR("5"), .value = str_n(value, SIZE)};
	reports_add(&r, &same); /* nothing new */
	assert_int_equal(r.unsent, 0);
	s = (struct sent){.accept = 1000};
	reports_flush(&r, 2, "pilot", "p", take_report, &s); /* a new publisher gets all of it */
	assert_int_equal(s.changes, LIMIT_BUS_REPORT_KEYS);
	reports_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rule3_difference_to_what_is_held),
		cmocka_unit_test(rule7_chunks_wait_for_credit),
		cmocka_unit_test(wrong_requests_are_refused),
		cmocka_unit_test(rule7_subscribers_are_bounded),
		cmocka_unit_test(rule7_reports_are_bounded_and_the_oldest_gives_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
