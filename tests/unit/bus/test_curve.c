/*
 * DOC: Keys: who gets in over TCP, and who can not speak for whom. Publishers, replicas and impostors share the
 * process, each with a directory of keys of its own.
 */
#include "tests/unit/bus/bus_test.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "common/bus/wire.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

static const char *const all_roles[] = {"galley", "citadel", "pilot", "agent", "cli", NULL};

static bool port_free(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	bool ok = bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;
	(void)close(fd);
	return ok;
}

/* Two neighbouring ports, now free. */
static void use_tcp(struct bench *b)
{
	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
		socklen_t len = sizeof(a);
		assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
		(void)close(fd);
		const uint16_t port = ntohs(a.sin_port);
		if (port == 65535 || !port_free((uint16_t)(port + 1)))
			continue;
		(void)snprintf(b->address, sizeof(b->address), "tcp://127.0.0.1:%u", port);
		return;
	}
}

static char *keys_made(struct bench *b, const char *name)
{
	char *dir = bench_path(b, name);
	struct err e = {0};
	assert_true(bus_keys_generate(dir, all_roles, &e));
	return dir;
}

static struct bus_keys *keys_of(const char *dir, const char *role)
{
	struct bus_keys *k = NULL;
	struct err e = {0};
	if (!bus_keys_load(dir, role, &k, &e))
		print_error("%s\n", e.text);
	assert_non_null(k);
	return k;
}

/* Puts a file of one key directory into another. */
static void transplant(const char *from, const char *to, const char *file)
{
	char *source = xasprintf("%s/%s", from, file);
	char *target = xasprintf("%s/%s", to, file);
	char *content = NULL;
	size_t len = 0;
	struct err e = {0};
	assert_true(file_read(source, 4096, &content, &len, &e));
	assert_true(file_write_atomic(target, str_n(content, len), 0600, &e));
	free(content);
	free(target);
	free(source);
}

static double refused(const char *publisher, const char *reason)
{
	struct metric *m = metric_find("bus_refused_total");
	assert_non_null(m);
	return metric_get(m, publisher, reason);
}

static struct bus_publisher *publisher_with(struct bench *b, const char *role, const struct bus_keys *k)
{
	const struct bus_publisher_options o = {
		.address = b->address, .role = role, .keys = k, .heartbeat_ms = HEARTBEAT_MS};
	return publish_new_options(b, &o);
}

static struct daemon_double *follower_with(
	struct bench *b, const char *role, const char *publisher, const struct bus_keys *k)
{
	static const uint32_t topics[] = {TOPIC_SERVICE, TOPIC_TRUST, 0};
	struct bus_replica_options o = daemon_options(b);
	o.role = role;
	o.publisher = publisher;
	o.keys = k;
	o.topics = topics;
	return daemon_new_options(b, o);
}

static void tcp_needs_keys(void **state)
{
	struct bench *b = *state;
	struct err e = {0};
	use_tcp(b);
	const struct bus_publisher_options o = {.address = b->address, .role = "galley"};
	assert_null(bus_publisher_new(b->loop, &o, &e));
	assert_int_equal(e.kind, ERR_DENIED);
	e = (struct err){0};
	struct bus_replica_options ro = daemon_options(b);
	assert_null(bus_replica_new(b->loop, &ro, &e));
	assert_int_equal(e.kind, ERR_DENIED);
}

static void allowed_role_is_served(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_keys *pilot = keys_of(dir, "pilot");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = follower_with(b, "pilot", "galley", pilot);
	run_until(b, daemon_is(d, BUS_LIVE));
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "2");
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/a"), "2"));
	daemon_free(d);
	bus_publisher_free(p);
	bus_keys_free(galley);
	bus_keys_free(pilot);
	free(dir);
}

static void unknown_key_is_refused_and_counted(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	char *foreign = keys_made(b, "foreign");
	transplant(dir, foreign, "galley.pub"); /* it knows whom it calls */
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_keys *stranger = keys_of(foreign, "pilot");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	const double before = refused("galley", "key");
	struct daemon_double *d = follower_with(b, "pilot", "galley", stranger);
	run_until(b, refused("galley", "key") >= before + 2); /* both sockets */
	assert_true(daemon_is(d, BUS_CONNECTING));
	assert_int_equal(d->batches, 0);
	daemon_free(d);
	bus_publisher_free(p);
	bus_keys_free(galley);
	bus_keys_free(stranger);
	free(foreign);
	free(dir);
}

/* An agent has a key, and nothing to look for at galley. */
static void role_without_business_is_refused(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_keys *agent = keys_of(dir, "agent");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	const double before = refused("galley", "role");
	struct daemon_double *d = follower_with(b, "agent", "galley", agent);
	run_until(b, refused("galley", "role") >= before + 2);
	assert_int_equal(d->batches, 0);
	assert_true(daemon_is(d, BUS_CONNECTING));
	daemon_free(d);
	bus_publisher_free(p);
	bus_keys_free(galley);
	bus_keys_free(agent);
	free(dir);
}

/*
 * Someone else publishes trust at citadel's address, even as role "citadel", with a key of its own. A replica that
 * has citadel's public key hears nothing of it; one that was given the impostor's key hears it all, so the impostor
 * does work.
 */
static void only_citadel_can_publish_trust(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	char *evil = keys_made(b, "evil");
	transplant(dir, evil, "pilot.pub");
	transplant(dir, evil, "pilot.key");
	struct bus_keys *impostor = keys_of(evil, "citadel");
	struct bus_keys *pilot = keys_of(dir, "pilot");
	struct bus_keys *fooled_pilot = keys_of(evil, "pilot");
	struct bus_publisher *p = publisher_with(b, "citadel", impostor);
	(void)publish_one(p, TOPIC_TRUST, "cluster.local", "evil root");
	struct daemon_double *d = follower_with(b, "pilot", "citadel", pilot);
	struct daemon_double *fooled = follower_with(b, "pilot", "citadel", fooled_pilot);
	run_until(b, daemon_is(fooled, BUS_LIVE));
	for (unsigned i = 0; i < 20; i++) {
		char value[16];
		(void)snprintf(value, sizeof(value), "evil %u", i);
		(void)publish_one(p, TOPIC_TRUST, "cluster.local", value);
		run_until(b, streq(daemon_value(fooled, TOPIC_TRUST, "cluster.local"), value));
	}
	assert_int_equal(d->batches, 0);
	assert_true(daemon_is(d, BUS_CONNECTING));
	daemon_free(fooled);
	daemon_free(d);
	bus_publisher_free(p);
	bus_keys_free(impostor);
	bus_keys_free(pilot);
	bus_keys_free(fooled_pilot);
	free(evil);
	free(dir);
}

/*
 * Galley, with galley's own key, puts trust on its own bus: a replica of galley drops it. (bus_publish() asserts; so
 * by hand.)
 */
static void galley_can_not_publish_trust(void **state)
{
	Bus__Change change = BUS__CHANGE__INIT;
	Bus__Change *changes[] = {&change};
	struct arena *a = arena_new();
	change.topic = TOPIC_TRUST;
	change.key = arena_strdup(a, "cluster.local");
	struct bus_change *out = NULL;
	size_t foreign = 0;
	assert_int_equal(wire_changes_of(a, changes, 1, "galley", NULL, &out, &foreign), 0);
	assert_int_equal(foreign, 1);
	assert_int_equal(wire_changes_of(a, changes, 1, "citadel", NULL, &out, &foreign), 1);
	arena_free(a);
}

struct raw_client {
	void *context;
	void *socket;
	bool answered;
	bool was_refused;
};

static void raw_connect(struct raw_client *c, struct bench *b, const char *dir)
{
	char z85[3][41] = {{0}};
	const char *files[] = {"galley.pub", "pilot.pub", "pilot.key"};
	const int options[] = {ZMQ_CURVE_SERVERKEY, ZMQ_CURVE_PUBLICKEY, ZMQ_CURVE_SECRETKEY};
	const int none = 0;
	c->context = zmq_ctx_new();
	c->socket = zmq_socket(c->context, ZMQ_DEALER);
	(void)zmq_setsockopt(c->socket, ZMQ_LINGER, &none, sizeof(none));
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char *path = xasprintf("%s/%s", dir, files[i]);
		char *content = NULL;
		size_t len = 0;
		struct err e = {0};
		assert_true(file_read(path, 40, &content, &len, &e));
		memcpy(z85[i], content, 40);
		assert_int_equal(zmq_setsockopt(c->socket, options[i], z85[i], 41), 0);
		free(content);
		free(path);
	}
	assert_int_equal(zmq_connect(c->socket, b->address), 0);
}

static bool raw_answered(struct raw_client *c)
{
	zmq_msg_t msg;
	(void)zmq_msg_init(&msg);
	if (zmq_msg_recv(&msg, c->socket, ZMQ_DONTWAIT) >= 0) {
		struct arena *a = arena_new();
		const Bus__Frame *f = wire_unpack(a, str_n(zmq_msg_data(&msg), zmq_msg_size(&msg)), NULL);
		c->answered = true;
		c->was_refused = f && f->body_case == BUS__FRAME__BODY_REFUSAL;
		arena_free(a);
	}
	(void)zmq_msg_close(&msg);
	return c->answered;
}

/* The role that counts is the key's, not the one in the frame. */
static void claimed_role_must_be_the_keys_role(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct raw_client c = {0};
	raw_connect(&c, b, dir);
	struct arena *a = arena_new();
	Bus__Frame f = BUS__FRAME__INIT;
	Bus__SnapshotRequest r = BUS__SNAPSHOT_REQUEST__INIT;
	r.protocol = BUS_PROTOCOL;
	r.role = arena_strdup(a, "cli");
	r.instance = arena_strdup(a, "x");
	f.publisher = r.role;
	f.body_case = BUS__FRAME__BODY_SNAPSHOT_REQUEST;
	f.snapshot_request = &r;
	const struct str bytes = pb_pack(a, &f);
	assert_int_equal(zmq_send(c.socket, bytes.ptr, bytes.len, 0), (int)bytes.len);
	run_until(b, raw_answered(&c));
	assert_true(c.was_refused);
	(void)zmq_close(c.socket);
	(void)zmq_ctx_term(c.context);
	arena_free(a);
	bus_publisher_free(p);
	bus_keys_free(galley);
	free(dir);
}

static void garbage_on_the_snapshot_socket_is_counted(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	struct raw_client c = {0};
	raw_connect(&c, b, dir);
	const double before = refused("galley", "malformed");
	assert_int_equal(zmq_send(c.socket, "\xff\xff", 2, 0), 2);
	assert_int_equal(zmq_send(c.socket, "two", 3, ZMQ_SNDMORE), 3);
	assert_int_equal(zmq_send(c.socket, "parts", 5, 0), 5);
	run_until(b, refused("galley", "malformed") == before + 2);
	(void)zmq_close(c.socket);
	(void)zmq_ctx_term(c.context);
	bus_publisher_free(p);
	bus_keys_free(galley);
	free(dir);
}

static bool disconnected(void *monitor)
{
	zmq_msg_t msg;
	(void)zmq_msg_init(&msg);
	bool yes = false;
	if (zmq_msg_recv(&msg, monitor, ZMQ_DONTWAIT) >= 0)
		yes = zmq_msg_size(&msg) == 6; /* event and value; the address follows */
	(void)zmq_msg_close(&msg);
	return yes;
}

/* A frame over the limit ends its connection, before it is in memory, and nobody else's. */
static void oversize_frame_ends_the_connection(void **state)
{
	struct bench *b = *state;
	use_tcp(b);
	char *dir = keys_made(b, "keys");
	struct bus_keys *galley = keys_of(dir, "galley");
	struct bus_keys *pilot = keys_of(dir, "pilot");
	struct bus_publisher *p = publisher_with(b, "galley", galley);
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "1");
	struct daemon_double *d = follower_with(b, "pilot", "galley", pilot);
	run_until(b, daemon_is(d, BUS_LIVE));
	const double before = refused("galley", "malformed");
	struct raw_client c = {0};
	raw_connect(&c, b, dir);
	assert_int_equal(zmq_socket_monitor(c.socket, "inproc://monitor", ZMQ_EVENT_DISCONNECTED), 0);
	void *monitor = zmq_socket(c.context, ZMQ_PAIR);
	assert_int_equal(zmq_connect(monitor, "inproc://monitor"), 0);
	char *big = xzalloc(LIMIT_BUS_FRAME_BYTES + 1);
	assert_int_equal(zmq_send(c.socket, big, LIMIT_BUS_FRAME_BYTES + 1, 0), (int)LIMIT_BUS_FRAME_BYTES + 1);
	free(big);
	run_until(b, disconnected(monitor));
	(void)publish_one(p, TOPIC_SERVICE, "ns/a", "2");
	run_until(b, streq(daemon_value(d, TOPIC_SERVICE, "ns/a"), "2"));
	assert_true(refused("galley", "malformed") == before); /* it never came up to us */
	(void)zmq_socket_monitor(c.socket, NULL, 0);
	(void)zmq_close(monitor);
	(void)zmq_close(c.socket);
	(void)zmq_ctx_term(c.context);
	daemon_free(d);
	bus_publisher_free(p);
	bus_keys_free(galley);
	bus_keys_free(pilot);
	free(dir);
}

static void keys_must_be_secret_and_belong_together(void **state)
{
	struct bench *b = *state;
	char *dir = keys_made(b, "keys");
	char *other = keys_made(b, "other");
	struct bus_keys *k = NULL;
	struct err e = {0};
	assert_true(bus_keys_load(NULL, "pilot", &k, &e));
	assert_null(k);
	char *path = xasprintf("%s/pilot.key", dir);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(chmod(path, 0604), 0);
	assert_false(bus_keys_load(dir, "pilot", &k, &e));
	assert_int_equal(e.kind, ERR_DENIED);
	assert_int_equal(chmod(path, 0600), 0);
	transplant(other, dir, "pilot.pub");
	assert_false(bus_keys_load(dir, "pilot", &k, &e));
	assert_non_null(strstr(e.text, "does not belong"));
	assert_true(file_write_atomic(path, STR("not a key"), 0600, &e));
	assert_false(bus_keys_load(dir, "pilot", &k, &e));
	assert_non_null(strstr(e.text, "Z85"));
	assert_false(bus_keys_load("/nonexistent", "pilot", &k, &e));
	/* Generating again keeps what is there. */
	char *before = NULL;
	char *after = NULL;
	size_t len = 0;
	char *galley = xasprintf("%s/galley.pub", dir);
	assert_true(file_read(galley, 100, &before, &len, &e));
	free(keys_made(b, "other"));
	const char *const one[] = {"galley", NULL};
	assert_true(bus_keys_generate(dir, one, &e));
	assert_true(file_read(galley, 100, &after, &len, &e));
	assert_string_equal(before, after);
	free(before);
	free(after);
	free(galley);
	free(path);
	free(other);
	free(dir);
}

static void addresses(void **state)
{
	struct bench *b = *state;
	const char *bad[] = {"http://x:1", "tcp://x", "tcp://x:0", "tcp://x:65535", "ipc://relative", "tcp://:15030"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct bus_publisher_options o = {.address = bad[i], .role = "galley"};
		struct err e = {0};
		assert_null(bus_publisher_new(b->loop, &o, &e));
		assert_non_null(strstr(e.text, bad[i]));
	}
}

#define BENCH(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH(tcp_needs_keys),
		BENCH(allowed_role_is_served),
		BENCH(unknown_key_is_refused_and_counted),
		BENCH(role_without_business_is_refused),
		BENCH(only_citadel_can_publish_trust),
		BENCH(galley_can_not_publish_trust),
		BENCH(claimed_role_must_be_the_keys_role),
		BENCH(garbage_on_the_snapshot_socket_is_counted),
		BENCH(oversize_frame_ends_the_connection),
		BENCH(keys_must_be_secret_and_belong_together),
		BENCH(addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
