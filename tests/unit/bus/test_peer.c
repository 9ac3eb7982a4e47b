/*
 * DOC: A publisher's side of one snapshot: the difference, the window, and values that change while they wait to be
 * sent.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/bus/peer.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rule3_difference_to_what_is_held),
		cmocka_unit_test(rule7_chunks_wait_for_credit),
		cmocka_unit_test(wrong_requests_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
