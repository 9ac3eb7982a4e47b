/*
 * DOC: What is on disk: snapshots and recordings, torn at every byte, broken in the middle, on a full disk, and
 * growing.
 */
#include "tests/unit/bus/bus_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bus/persist.h"
#include "common/bus/reclog.h"
#include "common/bus/recorder.h"
#include "common/io/file.h"

static const uint32_t topics[] = {TOPIC_SERVICE, TOPIC_ENDPOINTS, 0};

struct opened {
	struct arena *arena;
	struct bus_content content;
	struct bus_change *changes;
	size_t n;
	struct persist_mark mark;
	struct persist *persist;
	struct err e;
};

static void open_snapshot(struct opened *o, const char *path)
{
	*o = (struct opened){.arena = arena_new()};
	content_init(&o->content);
	o->persist = persist_open(path, "galley", topics, o->arena, &o->content, &o->changes, &o->n, &o->mark, &o->e);
	assert_non_null(o->persist);
}

static void close_snapshot(struct opened *o)
{
	struct err e = {0};
	assert_true(persist_close(o->persist, NULL, &e));
	content_done(&o->content);
	arena_free(o->arena);
}

static bool write_batch(struct opened *o, uint64_t sequence, struct bus_change *changes, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (changes[i].value.ptr)
			changes[i].hash = bus_hash(changes[i].value);
		(void)content_apply(&o->content, &changes[i]);
	}
	const struct persist_mark mark = {1, sequence, 1000};
	return persist_batch(o->persist, &o->content, changes, n, &mark, e);
}

static uint64_t size_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/*
 * Batch s sets a and b to s, and deletes or sets c: at every length of the file the content is that of one whole
 * batch.
 */
static void torn_tail_is_dropped(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	struct opened o;
	open_snapshot(&o, path);
	for (uint64_t s = 1; s <= 4; s++) {
		char value[8];
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)s);
		struct bus_change batch[] = {{.topic = TOPIC_SERVICE, .key = STR("a"), .value = str_of(value)},
			{.topic = TOPIC_SERVICE, .key = STR("b"), .value = str_of(value)},
			{.topic = TOPIC_ENDPOINTS, .key = STR("c"), .value = s % 2 ? STR("") : (struct str){0}}};
		assert_true(write_batch(&o, s, batch, 3, &o.e));
	}
	close_snapshot(&o);
	uint64_t last = 4;
	for (uint64_t size = size_of(path);; size--) {
		assert_int_equal(truncate(path, (off_t)size), 0);
		open_snapshot(&o, path);
		assert_true(o.mark.sequence <= last);
		last = o.mark.sequence;
		assert_int_equal(o.n, last == 0 ? 0 : last % 2 ? 3 : 2);
		for (size_t i = 0; i < 2 && last; i++) {
			assert_int_equal(o.changes[i].value.len, 1);
			assert_int_equal(o.changes[i].value.ptr[0], '0' + (int)last);
		}
		close_snapshot(&o);
		if (size == RECLOG_START)
			break;
		assert_true(size_of(path) <= size); /* opening cuts what is torn off */
	}
	assert_int_equal(last, 0);
	free(path);
}

static void after_a_torn_tail_writing_goes_on(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	struct opened o;
	for (uint64_t s = 1; s <= 3; s++) {
		open_snapshot(&o, path);
		assert_int_equal(o.mark.sequence, s - 1);
		struct bus_change change = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("x")};
		char key[8];
		(void)snprintf(key, sizeof(key), "k%llu", (unsigned long long)s);
		change.key = str_of(key);
		assert_true(write_batch(&o, s, &change, 1, &o.e));
		close_snapshot(&o);
		int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
		assert_int_equal(write(fd, "\x40\0\0\0torn", 8), 8);
		(void)close(fd);
	}
	open_snapshot(&o, path);
	assert_int_equal(o.n, 3);
	close_snapshot(&o);
	free(path);
}

/* A cache never keeps a daemon from starting. */
static void broken_snapshot_is_set_aside(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	struct opened o;
	open_snapshot(&o, path);
	struct bus_change batch[] = {{.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("value")},
		{.topic = TOPIC_SERVICE, .key = STR("b"), .value = STR("value")}};
	assert_true(write_batch(&o, 1, batch, 2, &o.e));
	close_snapshot(&o);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "!", 1, RECLOG_START + RECLOG_HEAD + 2), 1);
	(void)close(fd);
	open_snapshot(&o, path);
	assert_int_equal(o.n, 0);
	assert_int_equal(o.mark.epoch, 0);
	close_snapshot(&o);
	char *bad = bench_path(b, "snap.bad");
	assert_true(file_exists(bad));
	free(bad);
	struct err e = {0};
	assert_true(file_write_atomic(path, STR("something else altogether"), 0600, &e));
	open_snapshot(&o, path);
	assert_int_equal(o.n, 0);
	close_snapshot(&o);
	free(path);
}

static void snapshot_of_another_publisher_is_not_ours(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	struct opened o;
	open_snapshot(&o, path);
	struct bus_change change = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("x")};
	assert_true(write_batch(&o, 1, &change, 1, &o.e));
	close_snapshot(&o);
	o = (struct opened){.arena = arena_new()};
	content_init(&o.content);
	static const uint32_t trust[] = {TOPIC_TRUST, 0};
	o.persist = persist_open(path, "citadel", trust, o.arena, &o.content, &o.changes, &o.n, &o.mark, &o.e);
	assert_non_null(o.persist);
	assert_int_equal(o.n, 0);
	close_snapshot(&o);
	free(path);
}

static void compaction_bounds_the_file(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	enum { SIZE = 10000, ROUNDS = 2000 };
	struct opened o;
	char *value = xmalloc(SIZE);
	open_snapshot(&o, path);
	struct bus_change fixed = {.topic = TOPIC_SERVICE, .key = STR("fixed"), .value = STR("stays")};
	assert_true(write_batch(&o, 1, &fixed, 1, &o.e));
	for (unsigned i = 0; i < ROUNDS; i++) { /* 20 MB of changes */
		memset(value, 'a' + (int)(i % 26), SIZE);
		char key[8];
		(void)snprintf(key, sizeof(key), "k%u", i % 7);
		struct bus_change change = {.topic = TOPIC_SERVICE, .key = str_of(key), .value = str_n(value, SIZE)};
		assert_true(write_batch(&o, i + 2, &change, 1, &o.e));
	}
	assert_true(persist_compactions(o.persist) > 5);
	assert_true(persist_bytes(o.persist) < 2u << 20);
	assert_int_equal(persist_bytes(o.persist), size_of(path));
	close_snapshot(&o);
	open_snapshot(&o, path);
	assert_int_equal(o.n, 8);
	assert_int_equal(o.mark.sequence, ROUNDS + 1);
	for (size_t i = 0; i < o.n; i++) {
		if (str_eqc(o.changes[i].key, "fixed"))
			assert_true(str_eqc(o.changes[i].value, "stays"));
		else
			assert_int_equal(bus_hash(o.changes[i].value), o.changes[i].hash);
	}
	close_snapshot(&o);
	free(value);
	free(path);
}

/* The disk is full in the middle of a batch: an error, and the file stays at the batch before. */
static void full_disk_keeps_the_last_whole_batch(void **state)
{
	struct bench *b = *state;
	char *path = bench_path(b, "snap");
	struct opened o;
	open_snapshot(&o, path);
	struct bus_change change = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("good")};
	assert_true(write_batch(&o, 1, &change, 1, &o.e));
	struct rlimit old;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	const struct rlimit small = {.rlim_cur = size_of(path) + 100, .rlim_max = old.rlim_max};
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	char big[4096];
	memset(big, 'x', sizeof(big));
	struct bus_change too_big = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = str_n(big, sizeof(big))};
	struct err e = {0};
	const bool written = write_batch(&o, 2, &too_big, 1, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(written);
	assert_int_equal(e.kind, ERR_SYSTEM);
	close_snapshot(&o);
	open_snapshot(&o, path);
	assert_int_equal(o.mark.sequence, 1);
	assert_int_equal(o.n, 1);
	assert_true(str_eqc(o.changes[0].value, "good"));
	close_snapshot(&o);
	free(path);
}

/* The same below a replica: the daemon goes on, without its snapshot. */
static void replica_survives_a_disk_that_does_not_work(void **state)
{
	struct bench *b = *state;
	struct bus_replica_options ro = daemon_options(b);
	ro.persist = "/proc/nonexistent/snap";
	struct bus_publisher *p = publish_new(b);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = daemon_new_options(b, ro);
	run_until(b, daemon_is(d, BUS_LIVE));
	assert_true(metric_get(metric_find("bus_persist_broken"), "galley") == 1);
	daemon_free(d);
	bus_publisher_free(p);
}

static char *record_three(struct bench *b)
{
	char *path = bench_path(b, "rec");
	struct err e = {0};
	struct recorder *r = recorder_open(path, "galley", &e);
	assert_non_null(r);
	for (uint64_t s = 1; s <= 3; s++) {
		const struct bus_change c = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("v")};
		recorder_batch(r, 5000 + 10 * s, 9, s, &c, 1, s == 1, "cause");
	}
	recorder_close(r);
	return path;
}

static unsigned count_batches(const char *path, uint64_t *last_at, struct err *e)
{
	struct bus_recording *r = NULL;
	if (!bus_recording_open(path, &r, e))
		return 0;
	const struct bus_change *changes = NULL;
	size_t n = 0;
	unsigned batches = 0;
	while (bus_recording_next(r, &changes, &n, last_at, e)) {
		assert_int_equal(n, 1);
		batches++;
	}
	bus_recording_close(r);
	return batches;
}

static void recording_torn_and_broken(void **state)
{
	struct bench *b = *state;
	char *path = record_three(b);
	struct err e = {0};
	uint64_t at = 0;
	assert_int_equal(count_batches(path, &at, &e), 3);
	assert_int_equal(at, 20);
	assert_int_equal(e.kind, ERR_NONE);
	assert_int_equal(truncate(path, (off_t)size_of(path) - 1), 0);
	assert_int_equal(count_batches(path, &at, &e), 2);
	assert_int_equal(e.kind, ERR_NONE);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "!", 1, RECLOG_START + RECLOG_HEAD + 2), 1);
	(void)close(fd);
	assert_int_equal(count_batches(path, &at, &e), 0);
	assert_int_equal(e.kind, ERR_PEER);
	e = (struct err){0};
	assert_int_equal(count_batches("/nonexistent", &at, &e), 0);
	assert_int_equal(e.kind, ERR_SYSTEM);
	free(path);
}

/* A batch of more than a frame is one batch again when read. */
static void large_batch_in_a_recording(void **state)
{
	struct bench *b = *state;
	enum { N = 5, SIZE = 700000 };
	char *path = bench_path(b, "rec");
	char *value = xzalloc(SIZE);
	struct bus_change changes[N];
	char keys[N][8];
	struct err e = {0};
	for (int i = 0; i < N; i++) {
		(void)snprintf(keys[i], sizeof(keys[i]), "k%d", i);
		changes[i] = (struct bus_change){
			.topic = TOPIC_SERVICE, .key = str_of(keys[i]), .value = str_n(value, SIZE)};
	}
	struct recorder *w = recorder_open(path, "galley", &e);
	recorder_batch(w, 0, 9, 1, changes, N, true, "");
	recorder_close(w);
	struct bus_recording *r = NULL;
	assert_true(bus_recording_open(path, &r, &e));
	const struct bus_change *got = NULL;
	size_t n = 0;
	uint64_t at = 0;
	assert_true(bus_recording_next(r, &got, &n, &at, &e));
	assert_int_equal(n, N);
	assert_int_equal(got[4].value.len, SIZE);
	assert_false(bus_recording_next(r, &got, &n, &at, &e));
	assert_int_equal(e.kind, ERR_NONE);
	bus_recording_close(r);
	free(value);
	free(path);
}

static void replay_can_be_stopped(void **state)
{
	struct bench *b = *state;
	char *path = record_three(b);
	struct daemon_double d = {.bench = b, .content = map_new()};
	struct bus_replay *replay = NULL;
	struct err e = {0};
	assert_true(bus_replay_start(b->loop, path, false, &daemon_ops, &d, NULL, &replay, &e));
	run_until(b, d.batches == 1);
	bus_replay_stop(replay);
	loop_run_once(b->loop, 1);
	assert_int_equal(d.batches, 1);
	size_t cursor = 0;
	struct str key;
	void *value = NULL;
	while (map_next(d.content, &cursor, &key, &value))
		free(value);
	map_free(d.content);
	free(path);
}

#define BENCH(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH(torn_tail_is_dropped),
		BENCH(after_a_torn_tail_writing_goes_on),
		BENCH(broken_snapshot_is_set_aside),
		BENCH(snapshot_of_another_publisher_is_not_ours),
		BENCH(compaction_bounds_the_file),
		BENCH(full_disk_keeps_the_last_whole_batch),
		BENCH(replica_survives_a_disk_that_does_not_work),
		BENCH(recording_torn_and_broken),
		BENCH(large_batch_in_a_recording),
		BENCH(replay_can_be_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
