/*
 * The bus: one publisher per role (galley, citadel), any number of replicas. A publisher holds the current value of
 * every key of its topics; a replica holds the same content, sooner or later. The rules are in docs/BUS.md (and in
 * the design): subscribe first, then snapshot; epoch + sequence in every frame; a gap means an incremental resync; a
 * batch is visible at once or not at all; only changes of content are published; without a publisher the replica
 * serves its last snapshot, kept on disk; every queue is bounded.
 *
 * Addresses: `--bus ipc:///run/fairlead/{role}` (default) or `tcp://host-{role}:15030`: "{role}" is replaced by the
 * publisher's role. A publisher binds ROUTER at the address ("-snap" / port) and PUB at ("-live" / port + 1). TCP
 * needs CURVE keys; ipc is plain.
 *
 * Owner thread: the loop's. Batches are delivered on it. ZeroMQ never blocks it.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

/* One key of one topic. value.ptr NULL = deleted. */
struct bus_change {
	uint32_t topic;
	struct str key;
	struct str value; /* packed message of the topic's type */
	uint64_t hash; /* of value; filled in by the publisher when 0 */
	struct str origin; /* causal id */
};

struct bus_keys;
/*
 * CURVE: keys/<role>.key (secret, 0600) of the own role and keys/<role>.pub of the others. Who has a .pub file and, by the table in
 * keys.c, business with a publisher may follow it. directory NULL: *out is NULL, no CURVE (ipc only).
 */
bool bus_keys_load(const char *directory, const char *own_role, struct bus_keys **out, struct err *e) MUST_CHECK;
bool bus_keys_generate(const char *directory, const char *const *roles, struct err *e) MUST_CHECK;
void bus_keys_free(struct bus_keys *k);

/* A private topic is not for all who may follow its publisher: it is never on the live socket, on disk or in a recording. */
bool bus_may_read(const char *role, uint32_t topic);
bool bus_topic_private(uint32_t topic);

/* ---- publisher */
struct bus_publisher;
struct bus_publisher_options {
	const char *address; /* with {role} */
	const char *role; /* "galley", "citadel": only topics of this role may be published */
	const struct bus_keys *keys;
	const char *record; /* NULL, or a file to which every batch is also recorded */
	uint64_t heartbeat_ms; /* 0: 1000 */
	/* Reports from below (status): NULL = refused. */
	void (*on_report)(
		void *ctx, const char *role, const char *instance, const struct bus_change *changes, size_t n);
	void *ctx;
};
struct bus_publisher *bus_publisher_new(
	struct loop *l, const struct bus_publisher_options *o, struct err *e) MUST_CHECK;
void bus_publisher_free(struct bus_publisher *p);
/*
 * One atomic batch. The first call makes the publisher ready and must carry its whole content (it may be empty):
 * subscribers that ask earlier wait for it, so that a publisher which has just started never looks like one whose
 * content was deleted. Changes whose hash equals the held value are dropped; an empty rest publishes nothing. A
 * change over a limit is refused by itself, logged and counted. Returns how many changed.
 */
size_t bus_publish(struct bus_publisher *p, const struct bus_change *changes, size_t n, const char *cause);
uint64_t bus_publisher_epoch(const struct bus_publisher *p);
uint64_t bus_publisher_sequence(const struct bus_publisher *p);
void bus_publisher_debug(const struct bus_publisher *p, struct strbuf *json); /* topics, counts, bytes, subscribers */

/* ---- replica */
struct bus_replica;
enum bus_state { BUS_CONNECTING, BUS_SYNCING, BUS_LIVE, BUS_STALE, BUS_STATE_COUNT };
struct bus_replica_ops {
	/* One atomic batch; also, by `resync`, the whole persisted snapshot at start and the difference after a resync. */
	void (*on_batch)(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause);
	void (*on_state)(void *ctx, enum bus_state state); /* may be NULL */
};
struct bus_replica_options {
	const char *address; /* with {role} */
	const char *publisher; /* role it follows: "galley" */
	const char *role; /* own role */
	const char *instance;
	const uint32_t *topics; /* ids, 0-terminated */
	const struct bus_keys *keys;
	bool tells_all; /* bus_report_all() will be called; the keys live as long as the replica */
	const char *persist; /* file for the last snapshot; NULL: none */
	const char *record; /* file that gets every batch seen; NULL: none */
	const struct bus_replica_ops *ops;
	void *ctx;
};
/* With `persist`, the batch from disk and BUS_STALE are delivered before this returns. */
struct bus_replica *bus_replica_new(struct loop *l, const struct bus_replica_options *o, struct err *e) MUST_CHECK;
void bus_replica_free(struct bus_replica *r); /* not from inside its callbacks; completes the snapshot on disk */
enum bus_state bus_replica_state(const struct bus_replica *r);
const char *bus_state_name(enum bus_state s);
bool bus_replica_has_content(const struct bus_replica *r); /* from the publisher or from disk */
uint64_t bus_replica_age_ms(const struct bus_replica *r); /* since the last frame of the publisher */
/* Sends a report upwards; merged per key while the publisher is away (bounded). */
void bus_report(struct bus_replica *r, const struct bus_change *changes, size_t n);
/* The same, and at once to the other publishers behind the address's name, as far as they are there; said again before long. */
void bus_report_all(struct bus_replica *r, const struct bus_change *changes, size_t n);
void bus_replica_debug(const struct bus_replica *r, struct strbuf *json);
/* Tests: loses the next n live frames that carry a batch (or a part of one). */
void bus_replica_drop_for_tests(struct bus_replica *r, unsigned n);

/* ---- recordings */
struct bus_recording; /* reader */
bool bus_recording_open(const char *path, struct bus_recording **out, struct err *e) MUST_CHECK;
/* Next batch; false at the end or on error (then e->kind != ERR_NONE). Borrowed until the next call. */
bool bus_recording_next(
	struct bus_recording *r, const struct bus_change **changes, size_t *n, uint64_t *at_ms, struct err *e);
void bus_recording_close(struct bus_recording *r);
/* Feeds a recording to a daemon as if a publisher had sent it; with_timing keeps the recorded pace. The handle is gone when done() is called at
 * the end; who goes before that (ctx would be gone) ends it with bus_replay_stop(). */
struct bus_replay;
bool bus_replay_start(struct loop *l, const char *path, bool with_timing, const struct bus_replica_ops *ops, void *ctx,
	void (*done)(void *ctx), struct bus_replay **out, struct err *e) MUST_CHECK;
void bus_replay_stop(struct bus_replay *p);
