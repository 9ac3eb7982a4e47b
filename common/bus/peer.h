/*
 * One subscriber as the publisher sees it: who it is, and the snapshot that is on its way to it. Without sockets or
 * clocks: the publisher asks for the next chunk and sends it. At most LIMIT_BUS_WINDOW_CHUNKS are under way to a
 * peer, so a slow one costs no more than that.
 */
#pragma once

#include "common/base/vec.h"
#include "common/bus/store.h"

#define PEER_TOPICS_MAX 64u

struct peer {
	struct str routing; /* ZeroMQ's name of the connection; owned */
	char role[16];
	char instance[128];
	uint32_t topics[PEER_TOPICS_MAX + 1]; /* 0-terminated */
	uint64_t last_ms; /* of anything from it */
	uint64_t epoch; /* what it last said it holds */
	uint64_t sequence;
	uint64_t snapshots;

	uint64_t request;
	struct map *held; /* while its request arrives: bus_id -> uint64_t * in held_arena */
	struct arena *held_arena;
	bool waiting; /* its request is complete and the publisher is not ready */
	bool sending;
	VEC(struct bus_value *) todo;
	size_t next;
	unsigned under_way;
	uint64_t snapshot_sequence;
};

struct peer *peer_new(struct str routing);
void peer_free(struct peer *p);
/* One frame of a request; *ret_complete when it was the last. The error is what the peer is told. */
bool peer_request(struct peer *p, const Bus__SnapshotRequest *r, bool *ret_complete, struct err *e) MUST_CHECK;
/* Freezes the difference between what it holds and the store. */
void peer_begin(struct peer *p, const struct store *s, uint64_t sequence);
/*
 * The next chunk, if there is one and the window is open. Messages are in the arena, values borrowed from the peer.
 */
bool peer_next_chunk(struct peer *p, struct arena *a, Bus__SnapshotChunk *out);
/* After the chunk was sent: lets go of its values. */
void peer_sent(struct peer *p, const Bus__SnapshotChunk *c);
void peer_credit(struct peer *p, const Bus__Credit *c);
