/*
 * DOC: A snapshot of the bus between two processes, as large as wanted: a publisher that holds it, and a follower that begins with nothing.
 *
 *     bus_load ADDRESS BYTES VALUE-BYTES     prints {"seconds", "cpu_s", "bytes", "values"}: from the follower's start until it has all;
 *                                            processor time of both
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/bus/bus.h"
#include "common/mesh/kinds.h"

#define PATIENCE_US 300000000ull

struct result {
	double seconds, cpu_s;
	size_t bytes, values;
};

struct follower {
	struct result got;
	bool done;
};

static double cpu_s(void)
{
	struct timespec t = {0};
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
	(void)fprintf(stderr, "bus_load: %s: %s\n", what, why);
	exit(1);
}

static void on_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct follower *f = ctx;
	(void)resync;
	(void)cause;
	for (size_t i = 0; i < n; i++)
		f->got.bytes += changes[i].value.len;
	f->got.values += n;
	f->done = true;
}

static void follow(const char *address, int go, int out)
{
	static const struct bus_replica_ops ops = {.on_batch = on_batch};
	static const uint32_t topics[] = {TOPIC_ENDPOINTS, 0};
	struct follower f = {0};
	struct err e = {0};
	char byte;
	if (read(go, &byte, 1) != 1)
		exit(1);
	uint64_t begin = clock_mono_us();
	struct loop *l = loop_new();
	const struct bus_replica_options o = {.address = address,
		.publisher = "galley",
		.role = "pilot",
		.instance = "bench",
		.topics = topics,
		.ops = &ops,
		.ctx = &f};
	struct bus_replica *r = bus_replica_new(l, &o, &e);
	if (!r)
		die("follower", e.text);
	while (!f.done && clock_mono_us() - begin < PATIENCE_US)
		loop_run_once(l, 20);
	f.got.seconds = (double)(clock_mono_us() - begin) / 1e6;
	f.got.cpu_s = cpu_s();
	if (write(out, &f.got, sizeof(f.got)) != (ssize_t)sizeof(f.got))
		exit(1);
	bus_replica_free(r);
	loop_free(l);
	exit(!f.done);
}

static void publish(struct bus_publisher *p, size_t n, size_t value_bytes)
{
	struct arena *a = arena_new();
	struct bus_change *changes = arena_array(a, n, sizeof(*changes));
	char *value = arena_alloc(a, value_bytes + 32);
	for (size_t i = 0; i < n; i++) {
		int head = snprintf(value, 32, "%zu", i); /* values differ */
		memset(value + head, 'x', value_bytes - (size_t)head);
		changes[i] = (struct bus_change){.topic = TOPIC_ENDPOINTS,
			.key = str_of(arena_printf(a, "bench/service-%zu", i)),
			.value = arena_str(a, str_n(value, value_bytes))};
	}
	if (bus_publish(p, changes, n, "bench") != n)
		die("publisher", "not all values were taken");
	arena_free(a);
}

int main(int argc, char **argv)
{
	uint64_t bytes, value_bytes;
	int go[2], out[2], status = 0;
	struct err e = {0};
	if (argc != 4 || !str_u64(str_of(argv[2]), UINT32_MAX, &bytes) ||
		!str_u64(str_of(argv[3]), 1 << 20, &value_bytes) || value_bytes < 32) {
		(void)fprintf(stderr, "usage: bus_load ADDRESS BYTES VALUE-BYTES\n");
		return 2;
	}
	if (pipe(go) || pipe(out))
		die("pipe", "cannot be made");
	pid_t child = fork();
	if (child < 0)
		die("fork", "failed");
	if (!child)
		follow(argv[1], go[0], out[1]);
	struct loop *l = loop_new();
	const struct bus_publisher_options o = {.address = argv[1], .role = "galley"};
	struct bus_publisher *p = bus_publisher_new(l, &o, &e);
	if (!p)
		die("publisher", e.text);
	publish(p, bytes / value_bytes, value_bytes);
	double before = cpu_s();
	if (write(go[1], "", 1) != 1)
		return 1;
	while (waitpid(child, &status, WNOHANG) == 0)
		loop_run_once(l, 20);
	struct result got;
	if (status || read(out[0], &got, sizeof(got)) != (ssize_t)sizeof(got))
		die("follower", "did not get the snapshot");
	(void)printf("{\"seconds\":%.6f,\"cpu_s\":%.6f,\"bytes\":%zu,\"values\":%zu}\n", got.seconds,
		got.cpu_s + cpu_s() - before, got.bytes, got.values);
	bus_publisher_free(p);
	loop_free(l);
	return 0;
}
