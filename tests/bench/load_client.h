/*
 * One simulated Envoy: an ADS stream that behaves as Envoy's does. In the beginning it asks for clusters, then for the endpoints of those
 * it got, takes the clusters when it has them all, then asks for listeners and for the routes that they name; it acknowledges everything,
 * and when it reconnects it asks for all four types at once with the versions that it holds.
 *
 * All clients of a process share a struct load: the resources they hold are numbers in its store, what they receive is counted there.
 */
#pragma once

#include "common/io/h2.h"
#include "tests/bench/load_measure.h"
#include "tests/bench/load_store.h"

#define LOAD_SLOTS 256 /* services that change; the marker of a change modulo this is its slot */
#define LOAD_CHANGES 131072 /* what two networks of markers hold (load_store.h) */
#define LOAD_VERSION_MAX 128

struct load_counts {
	uint64_t responses, resources, removed, bytes;
};

struct load {
	struct loop *loop;
	struct h2_env *env;
	struct load_store *store;
	struct addr address;
	const char *address_text;
	struct load_counts counts[LOAD_TYPE_COUNT]; /* since the window began */
	uint64_t last_us; /* last message */
	size_t open, synced;
	size_t ups; /* connections that the server has answered, ever */
	size_t failed; /* streams that the server ended */
	char failure[200];
	/* Changes under way: when each was made; the latencies of all clients that see it. */
	uint64_t changed_us[LOAD_CHANGES];
	uint32_t first_change, last_change, n_slots;
	struct load_latencies latencies;
	size_t reached; /* clients that have the last change */
};

struct load_watch {
	bool open, got;
	uint32_t *held; /* per name: the resource, LOAD_NONE */
	uint16_t *wanted; /* per name: resources that refer to it */
	bool *absent; /* delta: the server says that there is none */
	size_t cap;
	size_t missing; /* wanted, not held and not absent */
	uint64_t wanted_sum; /* of what the last request named */
	char version[LOAD_VERSION_MAX];
	char nonce[LOAD_VERSION_MAX]; /* of the last response */
	bool ack_waits; /* until the endpoints are there */
};

struct load_client {
	struct load *load;
	struct grpc_stream *grpc;
	bool delta, synced;
	bool vhds; /* virtual hosts are resources of their own */
	char *node_json;
	struct load_watch watches[LOAD_TYPE_COUNT];
	uint32_t seen[LOAD_SLOTS]; /* newest change of each slot */
};

struct load_client *load_client_new(struct load *l, char *node_json); /* takes the text */
void load_client_free(struct load_client *c);
bool load_client_connect(struct load_client *c, bool delta, bool vhds, struct err *e) MUST_CHECK;
void load_client_close(struct load_client *c); /* what it holds stays */
void load_client_forget(struct load_client *c); /* what it holds goes */

/* load_request.c */
void load_send_first(struct load_client *c, enum load_type t); /* with the versions held */
void load_send_ack(struct load_client *c, enum load_type t, struct str nonce);
/* Names that became wanted or unwanted: LOAD_NONE-terminated lists for delta; without delta all that is wanted. */
void load_send_names(struct load_client *c, enum load_type t, const uint32_t *added, const uint32_t *removed);
void load_watch_room(struct load_watch *w, uint32_t name);
