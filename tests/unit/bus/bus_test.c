/*
 * DOC: Fixtures of the bus tests. Nothing sleeps: loops run until a condition holds, with a deadline that only a
 * failure reaches.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"

int bench_setup(void **state)
{
	struct bench *b = xzalloc(sizeof(*b));
	(void)snprintf(b->dir, sizeof(b->dir), "/tmp/bus-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	(void)snprintf(b->address, sizeof(b->address), "ipc://%s/run/{role}", b->dir);
	b->loop = loop_new();
	*state = b;
	return 0;
}

int bench_teardown(void **state)
{
	struct bench *b = *state;
	loop_free(b->loop);
	char *command = xasprintf("rm -rf '%s'", b->dir);
	int rc = system(command);
	free(command);
	free(b);
	return rc;
}

char *bench_path(struct bench *b, const char *name)
{
	return xasprintf("%s/%s", b->dir, name);
}

uint64_t bench_deadline(void)
{
	return clock_mono_ms() + 10000;
}

void bench_turn(struct bench *b, uint64_t end, const char *condition, const char *file, int line)
{
	if (clock_mono_ms() > end) {
		print_error("waited in vain for: %s\n", condition);
		_fail(file, line);
	}
	loop_run_once(b->loop, 20);
}

struct bus_publisher *publish_new_options(struct bench *b, const struct bus_publisher_options *o)
{
	struct err e = {0};
	struct bus_publisher *p = bus_publisher_new(b->loop, o, &e);
	if (!p)
		print_error("%s\n", e.text);
	assert_non_null(p);
	return p;
}

struct bus_publisher *publish_new(struct bench *b)
{
	const struct bus_publisher_options o = {.address = b->address, .role = "galley", .heartbeat_ms = HEARTBEAT_MS};
	return publish_new_options(b, &o);
}

size_t publish_one(struct bus_publisher *p, uint32_t topic, const char *key, const char *value)
{
	const struct bus_change c = {.topic = topic, .key = str_of(key), .value = str_of(value)};
	return bus_publish(p, &c, 1, "test");
}

/* ---- the daemon */

static void keep(struct daemon_double *d, const struct bus_change *c)
{
	char *name = xasprintf("%u/" STR_FMT, c->topic, STR_ARG(c->key));
	if (c->value.ptr)
		free(map_put(d->content, str_of(name), xstrndup(c->value.ptr, c->value.len)));
	else
		free(map_del(d->content, str_of(name)));
	free(name);
}

static void on_batch(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct daemon_double *d = ctx;
	for (size_t i = 0; i < n; i++)
		keep(d, &changes[i]);
	d->batches++;
	d->resync_batches += resync;
	d->changes += n;
	d->last_n = n;
	d->last_resync = resync;
	assert_non_null(cause);
	if (d->check)
		d->check(d);
}

static void on_state(void *ctx, enum bus_state state)
{
	((struct daemon_double *)ctx)->states[state]++;
}

const struct bus_replica_ops daemon_ops = {.on_batch = on_batch, .on_state = on_state};

struct bus_replica_options daemon_options(struct bench *b)
{
	static const uint32_t topics[] = {TOPIC_MESH, TOPIC_SERVICE, TOPIC_ENDPOINTS, TOPIC_VIRTUAL_SERVICE, 0};
	return (struct bus_replica_options){.address = b->address,
		.publisher = "galley",
		.role = "pilot",
		.instance = "pilot-1",
		.topics = topics,
		.ops = &daemon_ops};
}

struct daemon_double *daemon_new_options(struct bench *b, struct bus_replica_options o)
{
	struct daemon_double *d = xzalloc(sizeof(*d));
	struct err e = {0};
	d->bench = b;
	d->content = map_new();
	o.ctx = d;
	d->replica = bus_replica_new(b->loop, &o, &e);
	if (!d->replica)
		print_error("%s\n", e.text);
	assert_non_null(d->replica);
	return d;
}

struct daemon_double *daemon_new(struct bench *b)
{
	return daemon_new_options(b, daemon_options(b));
}

void daemon_free(struct daemon_double *d)
{
	bus_replica_free(d->replica);
	size_t cursor = 0;
	struct str key;
	void *value = NULL;
	while (map_next(d->content, &cursor, &key, &value))
		free(value);
	map_free(d->content);
	free(d);
}

const char *daemon_value(const struct daemon_double *d, uint32_t topic, const char *key)
{
	char *name = xasprintf("%u/%s", topic, key);
	const char *value = map_get(d->content, str_of(name));
	free(name);
	return value;
}

bool daemon_is(const struct daemon_double *d, enum bus_state state)
{
	return bus_replica_state(d->replica) == state;
}
