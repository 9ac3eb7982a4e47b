/*
 * The replica's protocol, without sockets, files or clocks: frames and the time go in; requests, batches and states
 * come out through the ops. Rules 1 to 4 and 6 of docs/BUS.md are here. Not re-entrant: ops must not call back into
 * the follower.
 */
#pragma once

#include "common/bus/content.h"

enum follower_reason {
	FOLLOWER_START, /* first snapshot of this run */
	FOLLOWER_EPOCH, /* the publisher was born anew, or is another one */
	FOLLOWER_GAP, /* a delta is missing before this one */
	FOLLOWER_SILENT, /* the heartbeat tells of a delta that never came */
	FOLLOWER_OVERFLOW, /* too much arrived while a snapshot was under way */
	FOLLOWER_TIMEOUT, /* the snapshot did not arrive, or stalled */
	FOLLOWER_BROKEN, /* the snapshot contradicted itself */
	FOLLOWER_REFUSED, /* the publisher said no */
	FOLLOWER_WITHHELD, /* something of ours changed that is not on the live socket: no trouble at all */
	FOLLOWER_REASON_COUNT
};
const char *follower_reason_name(enum follower_reason r);

struct follower_ops {
	/* To the publisher's snapshot socket; false: not now, it is asked again. */
	bool (*send)(void *ctx, const Bus__Frame *f);
	/* A batch that is visible from now on; content is applied already. Only changes. */
	void (*apply)(void *ctx, const struct bus_change *changes, size_t n, bool resync, const char *cause);
	void (*state)(void *ctx, enum bus_state state);
	void (*resync)(void *ctx, enum follower_reason why);
	void (*refused)(void *ctx, const char *reason);
	void (*ignored)(void *ctx, const char *reason, size_t n); /* frames or changes that were not for us */
	/* Snapshots come from one publisher and live frames from another, again and again. */
	void (*crossed)(void *ctx);
};

struct follower;
struct follower_options {
	const char *publisher;
	const char *role;
	const char *instance;
	const uint32_t *topics; /* 0-terminated; borrowed for life */
	size_t pending_limit; /* 0: LIMIT_BUS_PENDING_BYTES */
	const struct follower_ops *ops;
	void *ctx;
};
struct follower *follower_new(const struct follower_options *o, uint64_t now);
void follower_free(struct follower *f);
/* To be filled from disk before the first frame; then follower_loaded(). */
struct bus_content *follower_content(struct follower *f);
void follower_loaded(struct follower *f, uint64_t epoch, uint64_t sequence);

void follower_live(struct follower *f, uint64_t now, struct str bytes); /* from the live socket */
void follower_reply(struct follower *f, uint64_t now, struct str bytes); /* from the snapshot socket */
void follower_tick(
	struct follower *f, uint64_t now); /* at follower_deadline(), and when the snapshot socket takes messages */
uint64_t follower_deadline(const struct follower *f, uint64_t now);

enum bus_state follower_state(const struct follower *f);
bool follower_has_content(const struct follower *f);
bool follower_heard(const struct follower *f, uint64_t *out_at); /* when the last frame of the publisher came */
uint64_t follower_epoch(const struct follower *f);
uint64_t follower_sequence(const struct follower *f);
/* The last live frame came from a publisher that has published something. */
bool follower_publisher_ready(const struct follower *f);
/* The upward connection takes messages and the publisher is there: reports may be sent. */
bool follower_synced(const struct follower *f);
void follower_debug(const struct follower *f, struct strbuf *json); /* members, without braces */
