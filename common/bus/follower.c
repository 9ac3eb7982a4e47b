/*
 * DOC: States and time of a replica. It asks for a snapshot only after it heard a live frame: that proves that its
 * subscription has arrived at the publisher (which sends a heartbeat to each new subscription), so no delta can fall
 * between the two (rule 1).
 *
 * A resync begins at once in that live batches are kept from then on, but its request waits a jittered, growing time,
 * so that a thousand replicas do not ask in one millisecond and a link that keeps losing is not made worse. Three
 * missed heartbeats make it stale: the content stays, and says so (rule 6). When frames return from the same
 * publisher at the same sequence it is simply live again, without a resync.
 */
#include "common/bus/follower.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/bus/follower_internal.h"

#define DEFAULT_INTERVAL_MS 1000
#define STALE_INTERVALS 3
#define STATUS_INTERVALS 5
#define REQUEST_TIMEOUT_INTERVALS 5
#define BACKOFF_FIRST_MS 10
#define WITHHELD_MS 10 /* all who may read it ask */
#define BACKOFF_MAX_MS 10000
#define SETTLED_INTERVALS 3 /* synced for so long: the next resync is quick again */

const char *follower_reason_name(enum follower_reason r)
{
	static const char *const names[FOLLOWER_REASON_COUNT] = {
		"start", "epoch", "gap", "silent_gap", "overflow", "timeout", "broken", "refused", "withheld"};
	return names[r];
}

struct follower *follower_new(const struct follower_options *o, uint64_t now)
{
	struct follower *f = xzalloc(sizeof(*f));
	*f = (struct follower){.o = *o, .interval_ms = DEFAULT_INTERVAL_MS, .last_frame_ms = now};
	f->request = random_u64() >> 1;
	if (!f->o.pending_limit)
		f->o.pending_limit = LIMIT_BUS_PENDING_BYTES;
	content_init(&f->content);
	return f;
}

void follower_free(struct follower *f)
{
	if (!f)
		return;
	follower_drop_snapshot(f);
	follower_drop_pending(f);
	follower_drop_parts(f);
	vec_done(&f->staged_arenas);
	vec_done(&f->staged);
	vec_done(&f->pending);
	vec_done(&f->part_arenas);
	vec_done(&f->parts);
	content_done(&f->content);
	free(f);
}

struct bus_content *follower_content(struct follower *f)
{
	return &f->content;
}

void follower_loaded(struct follower *f, uint64_t epoch, uint64_t sequence)
{
	f->has_content = true;
	f->epoch = epoch;
	f->sequence = sequence;
	f->stale = true;
	follower_set_state(f, BUS_STALE);
}

void follower_set_state(struct follower *f, enum bus_state state)
{
	if (f->state == state)
		return;
	f->state = state;
	f->o.ops->state(f->o.ctx, state);
}

void follower_drop_snapshot(struct follower *f)
{
	for (size_t i = 0; i < f->staged_arenas.len; i++)
		arena_free(f->staged_arenas.items[i]);
	f->staged_arenas.len = 0;
	f->staged.len = 0;
	f->staged_total = 0;
	f->staged_bytes = 0;
	f->have_chunk = false;
}

void follower_drop_pending(struct follower *f)
{
	for (size_t i = 0; i < f->pending.len; i++)
		arena_free(f->pending.items[i].arena);
	f->pending.len = 0;
	f->pending_bytes = 0;
}

void follower_drop_parts(struct follower *f)
{
	for (size_t i = 0; i < f->part_arenas.len; i++)
		arena_free(f->part_arenas.items[i]);
	f->part_arenas.len = 0;
	f->parts.len = 0;
	f->next_part = 0;
	f->part_bytes = 0;
}

void follower_resync(struct follower *f, uint64_t now, enum follower_reason why)
{
	follower_drop_snapshot(f);
	follower_drop_parts(f);
	follower_drop_pending(f);
	f->overflowed = false;
	f->phase = FOLLOWER_SYNCING;
	f->requested = false;
	f->request++; /* answers to an earlier request are strangers from now on */
	f->progress_ms = now;
	f->request_at = now;
	if (why == FOLLOWER_WITHHELD) {
		f->request_at += random_jitter(WITHHELD_MS, 1);
		f->o.ops->resync(f->o.ctx, why);
		return;
	}
	if (why != FOLLOWER_START || f->attempts != 0)
		f->request_at += random_backoff(f->attempts + 1, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, 0.5);
	f->attempts++;
	f->o.ops->resync(f->o.ctx, why);
	follower_set_state(f, BUS_SYNCING);
}

void follower_apply(struct follower *f, struct bus_change *changes, size_t n, bool resync, const char *cause)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++) {
		const bool grows = changes[i].value.ptr && !content_get(&f->content, changes[i].topic, changes[i].key);
		if (!content_differs(&f->content, &changes[i]))
			continue;
		if (grows && content_len(&f->content) >= LIMIT_BUS_KEYS) {
			f->o.ops->ignored(f->o.ctx, "keys", 1);
			continue;
		}
		(void)content_apply(&f->content, &changes[i]);
		changes[kept++] = changes[i];
	}
	if (kept)
		f->o.ops->apply(f->o.ctx, changes, kept, resync, cause);
}

/* ---- asking */

static bool send_held(struct follower *f, Bus__Held **held, size_t n, bool more)
{
	Bus__Frame frame = BUS__FRAME__INIT;
	Bus__SnapshotRequest r = BUS__SNAPSHOT_REQUEST__INIT;
	size_t n_topics = 0;
	while (f->o.topics[n_topics])
		n_topics++;
	r.protocol = BUS_PROTOCOL;
	r.role = (char *)(uintptr_t)f->o.role;
	r.instance = (char *)(uintptr_t)f->o.instance;
	r.topics = (uint32_t *)(uintptr_t)f->o.topics;
	r.n_topics = n_topics;
	r.held = held;
	r.n_held = n;
	r.more = more;
	r.request = f->request;
	frame.epoch = f->epoch;
	frame.sequence = f->sequence;
	frame.publisher = (char *)(uintptr_t)f->o.role;
	frame.body_case = BUS__FRAME__BODY_SNAPSHOT_REQUEST;
	frame.snapshot_request = &r;
	return f->o.ops->send(f->o.ctx, &frame);
}

static Bus__Held *held_of(struct arena *a, struct str id, const struct bus_held *h)
{
	Bus__Held *m = ARENA_NEW(a, Bus__Held);
	bus__held__init(m);
	m->topic = bus_id_topic(id);
	m->key = arena_cstr(a, bus_id_key(id));
	m->hash = h->hash;
	return m;
}

/* What we hold goes along, in as many frames as it takes. */
static bool send_request(struct follower *f)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	Bus__Held **held = ARENA_ARRAY(a, Bus__Held *, content_len(&f->content) + 1);
	size_t n = 0;
	size_t bytes = 0;
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (map_next(f->content.map, &cursor, &id, &value)) {
		if (bytes > LIMIT_BUS_CHUNK_BYTES) {
			if (!send_held(f, held, n, true))
				return false;
			n = bytes = 0;
		}
		held[n++] = held_of(a, id, value);
		bytes += id.len + 24;
	}
	return send_held(f, held, n, false);
}

static void ask(struct follower *f, uint64_t now)
{
	f->progress_ms = now;
	f->requested = send_request(f);
	if (!f->requested)
		f->request++; /* a half-sent list of what we hold must not be continued */
}

/* ---- time */

static uint64_t request_timeout(const struct follower *f)
{
	const uint64_t grown = f->attempts < 5 ? f->attempts : 5;
	return f->interval_ms * REQUEST_TIMEOUT_INTERVALS * (1 + grown);
}

static void go_stale(struct follower *f)
{
	f->stale = true;
	if (f->phase == FOLLOWER_SYNCING) {
		follower_drop_snapshot(f);
		follower_drop_pending(f);
		follower_drop_parts(f);
		f->phase = FOLLOWER_IDLE;
		f->request++;
	}
	follower_set_state(f, f->has_content ? BUS_STALE : BUS_CONNECTING);
}

/* Upward heartbeats let the publisher show who follows it up to where; losing one means nothing. */
static void tell_status(struct follower *f, uint64_t now)
{
	Bus__Frame frame = BUS__FRAME__INIT;
	Bus__Heartbeat h = BUS__HEARTBEAT__INIT;
	frame.epoch = f->epoch;
	frame.sequence = f->sequence;
	frame.publisher = (char *)(uintptr_t)f->o.role;
	frame.body_case = BUS__FRAME__BODY_HEARTBEAT;
	frame.heartbeat = &h;
	(void)f->o.ops->send(f->o.ctx, &frame);
	f->last_status_ms = now;
}

void follower_tick(struct follower *f, uint64_t now)
{
	if (!f->stale && f->heard && now >= f->last_frame_ms + f->interval_ms * STALE_INTERVALS)
		go_stale(f);
	if (f->stale)
		return;
	if (f->phase == FOLLOWER_SYNCING && !f->requested && now >= f->request_at)
		ask(f, now);
	if (f->phase == FOLLOWER_SYNCING && f->requested && now >= f->progress_ms + request_timeout(f))
		follower_resync(f, now, FOLLOWER_TIMEOUT);
	if (f->phase != FOLLOWER_SYNCED)
		return;
	if (now >= f->synced_at + f->interval_ms * SETTLED_INTERVALS)
		f->attempts = 0;
	if (now >= f->last_status_ms + f->interval_ms * STATUS_INTERVALS)
		tell_status(f, now);
}

uint64_t follower_deadline(const struct follower *f, uint64_t now)
{
	if (f->stale || !f->heard)
		return now + f->interval_ms;
	uint64_t at = f->last_frame_ms + f->interval_ms * STALE_INTERVALS;
	uint64_t other = f->last_status_ms + f->interval_ms * STATUS_INTERVALS;
	if (f->phase == FOLLOWER_SYNCING && f->requested)
		other = f->progress_ms + request_timeout(f);
	else if (f->phase == FOLLOWER_SYNCING) /* not sendable yet: the socket says when; this is the safety net */
		other = f->request_at > now ? f->request_at : now + BACKOFF_FIRST_MS;
	at = other < at ? other : at;
	return at > now ? at : now;
}

/* ---- questions */

enum bus_state follower_state(const struct follower *f)
{
	return f->state;
}

bool follower_has_content(const struct follower *f)
{
	return f->has_content;
}

bool follower_heard(const struct follower *f, uint64_t *out_at)
{
	if (f->heard)
		*out_at = f->last_frame_ms;
	return f->heard;
}

uint64_t follower_epoch(const struct follower *f)
{
	return f->epoch;
}

uint64_t follower_sequence(const struct follower *f)
{
	return f->sequence;
}

bool follower_publisher_ready(const struct follower *f)
{
	return f->heard && !f->stale && f->seen_content;
}

bool follower_synced(const struct follower *f)
{
	return f->phase == FOLLOWER_SYNCED && !f->stale;
}

void follower_debug(const struct follower *f, struct strbuf *json)
{
	strbuf_addf(json, "\"epoch\":\"%016llx\",\"sequence\":%llu,\"keys\":%zu,\"has_content\":%s,",
		(unsigned long long)f->epoch, (unsigned long long)f->sequence, content_len(&f->content),
		f->has_content ? "true" : "false");
	content_debug(&f->content, json);
	strbuf_addf(json, ",\"heartbeat_ms\":%llu,\"resync_attempts\":%u,", (unsigned long long)f->interval_ms,
		f->attempts);
	strbuf_addf(json, "\"snapshot\":{\"requested\":%s,\"changes\":%zu,\"bytes\":%zu},",
		f->phase == FOLLOWER_SYNCING && f->requested ? "true" : "false", f->staged.len, f->staged_bytes);
	strbuf_addf(json, "\"pending\":{\"frames\":%zu,\"bytes\":%zu,\"limit_bytes\":%zu}", f->pending.len,
		f->pending_bytes, f->o.pending_limit);
}
