/*
 * The publisher's state, shared by publisher.c (live side, life) and publisher_peers.c (snapshots and reports).
 * Nobody else includes this.
 */
#pragma once

#include "common/bus/address.h"
#include "common/bus/keys.h"
#include "common/bus/peer.h"
#include "common/bus/recorder.h"

struct bus_publisher {
	struct bus_context *context;
	char *role;
	struct bus_address address;
	uint64_t snap_inode; /* of the socket files that are ours; 0: none */
	uint64_t live_inode;
	struct zap_client zap; /* domain "" without keys */
	struct zsock *snap;
	struct zsock *live;
	struct timer *heartbeat;
	uint64_t heartbeat_ms;
	uint64_t epoch;
	uint64_t sequence; /* 0: not ready */
	struct store store;
	struct map *peers; /* routing id -> struct peer * */
	struct recorder *recorder;
	uint64_t refused;
	void (*on_report)(
		void *ctx, const char *role, const char *instance, const struct bus_change *changes, size_t n);
	void *ctx;
};

void publisher_on_message(void *ctx, zmq_msg_t *parts, size_t n);
/* Answers those that wait, sends what the windows allow, forgets those that are gone. */
void publisher_tend_peers(struct bus_publisher *p);
void publisher_drop_peers(struct bus_publisher *p);
void publisher_count_refused(struct bus_publisher *p, const char *reason);
void publisher_count_bytes(struct bus_publisher *p, const char *socket, size_t bytes);
