/*
 * DOC: Anything as frames of the bus. The input is a list of steps: one byte of what to do, two of a length, and the
 * bytes of a frame, which goes to a follower as it is, or made to look as if it came from the right publisher for the
 * request under way - so that the deeper states are reached, too. An input that begins like a recording is read as
 * one.
 *
 * Oracles: what packs again unpacks to the same bytes; the content that the follower says it holds is exactly what it
 * told its daemon.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bus/follower.h"
#include "common/bus/peer.h"
#include "common/bus/reclog.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct follower *f;
	struct peer *peer;
	struct map *shadow; /* bus_id -> uint64_t *: what the daemon was told */
	uint64_t request;
	uint64_t now;
};

static bool on_send(void *ctx, const Bus__Frame *f)
{
	struct fuzz *z = ctx;
	if (f->body_case == BUS__FRAME__BODY_SNAPSHOT_REQUEST)
		z->request = f->snapshot_request->request;
	return true;
}

static void on_apply(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	struct fuzz *z = ctx;
	assert(n > 0 && cause);
	for (size_t i = 0; i < n; i++) {
		struct bus_id id;
		const struct str name = bus_id(&id, changes[i].topic, changes[i].key);
		uint64_t *hash = NULL;
		if (changes[i].value.ptr) {
			hash = xmalloc(sizeof(*hash));
			*hash = changes[i].hash;
			hash = map_put(z->shadow, name, hash);
		} else {
			hash = map_del(z->shadow, name);
			assert(hash); /* only what is there is deleted */
		}
		free(hash);
	}
}

static void on_state(void *ctx, enum bus_state state)
{
	assert(state < BUS_STATE_COUNT);
}

static void on_resync(void *ctx, enum follower_reason why)
{
	assert(follower_reason_name(why));
}

static void on_refused(void *ctx, const char *reason)
{
	assert(reason);
}

static void on_ignored(void *ctx, const char *reason, size_t n)
{
	assert(reason && n);
}

static void on_crossed(void *ctx)
{
	assert(ctx);
}

static const struct follower_ops ops = {on_send, on_apply, on_state, on_resync, on_refused, on_ignored, on_crossed};

static void check(struct fuzz *z)
{
	const struct bus_content *c = follower_content(z->f);
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	assert(content_len(c) == map_len(z->shadow));
	while (map_next(z->shadow, &cursor, &id, &value)) {
		const struct bus_held *h = content_get(c, bus_id_topic(id), bus_id_key(id));
		assert(h && h->hash == *(const uint64_t *)value);
	}
}

/* Makes a frame that the follower can not wave away. */
static struct str familiar(struct fuzz *z, struct arena *a, Bus__Frame *f)
{
	f->publisher = arena_strdup(a, "galley");
	if (f->body_case == BUS__FRAME__BODY_SNAPSHOT_CHUNK)
		f->snapshot_chunk->request = z->request;
	if (f->body_case == BUS__FRAME__BODY_SNAPSHOT_CHUNK && f->snapshot_chunk->last)
		f->snapshot_chunk->resource_count += f->snapshot_chunk->n_changes;
	f->epoch = 1 + f->epoch % 2;
	f->sequence %= 8;
	return pb_pack(a, f);
}

static void to_peer(struct fuzz *z, struct arena *a, const Bus__Frame *f)
{
	struct err e = {0};
	bool complete = false;
	if (f->body_case == BUS__FRAME__BODY_CREDIT)
		peer_credit(z->peer, f->credit);
	if (f->body_case != BUS__FRAME__BODY_SNAPSHOT_REQUEST ||
		!peer_request(z->peer, f->snapshot_request, &complete, &e) || !complete)
		return;
	struct store s;
	store_init(&s);
	const struct bus_change c = {.topic = TOPIC_SERVICE, .key = STR("a"), .value = STR("1"), .hash = 1};
	(void)store_apply(&s, &c);
	peer_begin(z->peer, &s, 1);
	Bus__SnapshotChunk chunk;
	while (peer_next_chunk(z->peer, a, &chunk))
		peer_sent(z->peer, &chunk);
	store_done(&s);
}

static void step(struct fuzz *z, unsigned op, struct str bytes)
{
	struct arena *a = arena_new();
	Bus__Frame *f = wire_unpack(a, bytes, NULL);
	if (f) {
		const struct str once = pb_pack(a, f);
		Bus__Frame *again = wire_unpack(a, once, NULL);
		assert(again && str_eq(pb_pack(a, again), once));
		to_peer(z, a, f);
		if (op & 1)
			bytes = familiar(z, a, f);
	}
	z->now += op & 4 ? 700 : 1;
	if (op & 2)
		follower_reply(z->f, z->now, bytes);
	else
		follower_live(z->f, z->now, bytes);
	if (op & 8)
		z->now = follower_deadline(z->f, z->now);
	follower_tick(z->f, z->now);
	assert(follower_deadline(z->f, z->now) >= z->now);
	check(z);
	arena_free(a);
}

static void steps(const uint8_t *data, size_t size)
{
	static const uint32_t topics[] = {TOPIC_SERVICE, TOPIC_ENDPOINTS, 0};
	struct fuzz z = {.now = 1000, .shadow = map_new(), .peer = peer_new(STR("peer"))};
	const struct follower_options o = {.publisher = "galley",
		.role = "pilot",
		.instance = "p",
		.topics = topics,
		.ops = &ops,
		.ctx = &z,
		.pending_limit = 512};
	z.f = follower_new(&o, z.now);
	while (size >= 3) {
		const unsigned op = data[0];
		const size_t len = min_size(size - 3, data[1] | (size_t)data[2] << 8);
		step(&z, op, str_n(data + 3, len));
		data += 3 + len;
		size -= 3 + len;
	}
	follower_free(z.f);
	peer_free(z.peer);
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (map_next(z.shadow, &cursor, &id, &value))
		free(value);
	map_free(z.shadow);
}

static void recording(const uint8_t *data, size_t size)
{
	int fd = memfd_create("recording", MFD_CLOEXEC);
	char path[64];
	struct err e = {0};
	struct bus_recording *r = NULL;
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (bus_recording_open(path, &r, &e)) {
		const struct bus_change *changes = NULL;
		size_t n = 0;
		uint64_t at = 0;
		while (bus_recording_next(r, &changes, &n, &at, &e))
			for (size_t i = 0; i < n; i++)
				assert(!wire_change_problem(&changes[i]));
	}
	bus_recording_close(r);
	(void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= RECLOG_START && memcmp(data, "FLBUS", 5) == 0)
		recording(data, size);
	else
		steps(data, size);
	return 0;
}
