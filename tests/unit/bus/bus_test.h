/*
 * What the tests of the bus share: a directory, a loop, publishers, and a daemon that keeps what its replica tells
 * it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* After those four. */
#include <cmocka.h>

#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/bus/bus.h"
#include "common/mesh/kinds.h"

#define HEARTBEAT_MS 40

struct bench {
	char dir[64];
	char address[96];
	struct loop *loop;
};
int bench_setup(void **state);
int bench_teardown(void **state);
char *bench_path(struct bench *b, const char *name); /* the caller frees */

/* Runs the loop until the condition holds; fails the test after ten seconds. */
#define run_until(b, condition) \
	do { \
		const uint64_t end_ = bench_deadline(); \
		while (!(condition)) \
			bench_turn((b), end_, #condition, __FILE__, __LINE__); \
	} while (0)
uint64_t bench_deadline(void);
void bench_turn(struct bench *b, uint64_t end, const char *condition, const char *file, int line);

struct bus_publisher *publish_new(struct bench *b);
struct bus_publisher *publish_new_options(struct bench *b, const struct bus_publisher_options *o);
/* One change as a batch of its own; value NULL deletes. */
size_t publish_one(struct bus_publisher *p, uint32_t topic, const char *key, const char *value);

/* A daemon: the content that its replica delivered, and how. */
struct daemon_double {
	struct bench *bench;
	struct bus_replica *replica;
	struct map *content; /* "topic/key" -> char * */
	unsigned batches;
	unsigned resync_batches;
	size_t changes;
	size_t last_n;
	bool last_resync;
	unsigned states[BUS_STATE_COUNT];
	void (*check)(const struct daemon_double *d); /* after each batch; may be NULL */
};
struct daemon_double *daemon_new(struct bench *b);
struct daemon_double *daemon_new_options(struct bench *b, struct bus_replica_options o);
void daemon_free(struct daemon_double *d);
struct bus_replica_options daemon_options(struct bench *b);
const char *daemon_value(const struct daemon_double *d, uint32_t topic, const char *key);
bool daemon_is(const struct daemon_double *d, enum bus_state state);
extern const struct bus_replica_ops daemon_ops;
