/*
 * DOC: Two replicas through 600 random steps: batches, lost frames, publishers that die and are born anew, replicas
 * that are restarted with and without a snapshot on disk. Whatever happens, every batch that a daemon sees is whole,
 * and in the end all hold the same.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"

enum { KEYS = 40, STEPS = 600 };

struct world {
	struct bench *bench;
	struct bus_publisher *publisher;
	struct daemon_double *daemons[2];
	char *persist;
	unsigned values[KEYS]; /* 0: absent */
	unsigned version;
	uint64_t seed;
};

static unsigned dice(struct world *w, unsigned n)
{
	w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(w->seed >> 33) % n;
}

/* Every batch writes the same to both; a daemon that ever sees them differ has seen a part of a batch. */
static void check_whole(const struct daemon_double *d)
{
	const char *one = daemon_value(d, TOPIC_SERVICE, "version");
	const char *other = daemon_value(d, TOPIC_ENDPOINTS, "version");
	assert_string_equal(one ? one : "none", other ? other : "none");
}

struct texts {
	char keys[KEYS][16];
	char values[KEYS][16];
	char version[16];
};

static void describe(struct world *w, struct texts *t, unsigned k, struct bus_change *out)
{
	(void)snprintf(t->keys[k], sizeof(t->keys[k]), "ns/%u", k);
	(void)snprintf(t->values[k], sizeof(t->values[k]), "%u", w->values[k]);
	*out = (struct bus_change){.topic = k % 2 ? TOPIC_SERVICE : TOPIC_ENDPOINTS, .key = str_of(t->keys[k])};
	if (w->values[k])
		out->value = str_of(t->values[k]);
}

static size_t add_version(struct world *w, struct texts *t, struct bus_change *changes, size_t n)
{
	(void)snprintf(t->version, sizeof(t->version), "%u", w->version);
	changes[n++] = (struct bus_change){.topic = TOPIC_SERVICE, .key = STR("version"), .value = str_of(t->version)};
	changes[n++] = (struct bus_change){
		.topic = TOPIC_ENDPOINTS, .key = STR("version"), .value = str_of(t->version)};
	return n;
}

static void publish_some(struct world *w)
{
	struct texts t;
	struct bus_change changes[KEYS + 2];
	size_t n = 0;
	w->version++;
	for (unsigned k = dice(w, 8); k < KEYS; k += 1 + dice(w, 12)) {
		w->values[k] = dice(w, 4) ? 1 + dice(w, 1000) : 0;
		describe(w, &t, k, &changes[n++]);
	}
	(void)bus_publish(w->publisher, changes, add_version(w, &t, changes, n), "random");
}

static void publish_all(struct world *w)
{
	struct texts t;
	struct bus_change changes[KEYS + 2];
	size_t n = 0;
	for (unsigned k = 0; k < KEYS; k++) {
		describe(w, &t, k, &changes[n]);
		n += changes[n].value.ptr != NULL;
	}
	(void)bus_publish(w->publisher, changes, add_version(w, &t, changes, n), "start");
}

static void daemon_start(struct world *w, unsigned i)
{
	struct bus_replica_options o = daemon_options(w->bench);
	o.persist = i == 0 ? w->persist : NULL;
	w->daemons[i] = daemon_new_options(w->bench, o);
	w->daemons[i]->check = check_whole;
}

static void step(struct world *w)
{
	const unsigned what = dice(w, 100);
	const unsigned who = dice(w, 2);
	if (what < 80) {
		publish_some(w);
	} else if (what < 90) {
		bus_replica_drop_for_tests(w->daemons[who]->replica, 1 + dice(w, 3));
	} else if (what < 93) {
		daemon_free(w->daemons[who]);
		daemon_start(w, who);
	} else if (what < 95) {
		bus_publisher_free(w->publisher);
		w->publisher = publish_new(w->bench);
		if (dice(w, 2))
			loop_run_once(w->bench->loop, dice(w, 60)); /* not ready for a while */
		publish_all(w);
	}
	for (unsigned i = dice(w, 4); i; i--)
		loop_run_once(w->bench->loop, dice(w, 10));
}

static bool same(const struct world *w, const struct daemon_double *d)
{
	char text[16];
	size_t present = 2;
	if (!daemon_is(d, BUS_LIVE))
		return false;
	for (unsigned k = 0; k < KEYS; k++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "ns/%u", k);
		(void)snprintf(text, sizeof(text), "%u", w->values[k]);
		const char *value = daemon_value(d, k % 2 ? TOPIC_SERVICE : TOPIC_ENDPOINTS, key);
		present += w->values[k] != 0;
		if (w->values[k] ? !value || !streq(value, text) : value != NULL)
			return false;
	}
	(void)snprintf(text, sizeof(text), "%u", w->version);
	return map_len(d->content) == present && streq(daemon_value(d, TOPIC_SERVICE, "version"), text);
}

static void all_replicas_end_equal(void **state)
{
	struct world w = {.bench = *state, .seed = 20260811};
	w.persist = bench_path(w.bench, "snap");
	w.publisher = publish_new(w.bench);
	daemon_start(&w, 0);
	daemon_start(&w, 1);
	for (unsigned i = 0; i < STEPS; i++)
		step(&w);
	publish_some(&w);
	run_until(w.bench, same(&w, w.daemons[0]) && same(&w, w.daemons[1]));
	daemon_free(w.daemons[0]);
	/* What is on disk is the same again, without a publisher. */
	bus_publisher_free(w.publisher);
	daemon_start(&w, 0);
	assert_true(daemon_is(w.daemons[0], BUS_STALE));
	assert_int_equal(map_len(w.daemons[0]->content), map_len(w.daemons[1]->content));
	daemon_free(w.daemons[0]);
	daemon_free(w.daemons[1]);
	free(w.persist);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_replicas_end_equal, bench_setup, bench_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
