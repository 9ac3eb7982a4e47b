/*
 * A worker: a thread with its own loop, gRPC server and engine; it owns the connections that it was given. Other threads only post to it.
 * worker_call() is the one exception: a debug page waits for its answer (docs/decisions/pilot-debug-pages-wait.md).
 */
#pragma once

#include "common/io/grpc.h"
#include "pilot/workload.h"
#include "pilot/xds/session.h"

struct worker;

/* A refusal, copied: it travels to the main thread, which frees it. */
struct worker_nack {
	void *pilot;
	struct arena *arena;
	struct str proxy, type, text, resources, objects;
	bool isolated; /* see xds_nack */
};

/* How far a worker's proxies are, copied: it travels to the main thread, which frees the arena. */
struct worker_level {
	uint64_t version; /* of the model; see session_level() */
	uint32_t proxies;
};
struct worker_rejection {
	uint32_t topic;
	struct str key, text;
	uint32_t proxies;
};
#define WORKER_REJECTIONS_MAX 256u
struct worker_levels {
	void *pilot;
	struct arena *arena;
	unsigned index;
	uint32_t connecting;
	struct worker_level *levels; /* by version, each once, newest first */
	size_t n_levels;
	struct worker_rejection *rejections; /* objects that proxies refuse by themselves, each once */
	size_t n_rejections;
	struct str refusal; /* words of one that refuses a response */
};

struct worker_options {
	unsigned index;
	uint64_t max_connection_age_ms, keepalive_ms;
	const char *ca_address; /* NULL: certificate requests are answered UNAVAILABLE */
	const char *ca_roots;
	const char *const *ca_names;
	const char *trust_domain;
	bool scope_gateways;
	struct loop *main_loop;
	void (*on_nack)(void *nack); /* posted to the main loop with a struct worker_nack */
	void (*on_moved)(
		void *pilot); /* posted to the main loop when levels may differ from those that were asked for last */
	void (*on_levels)(void *levels); /* posted to the main loop with a struct worker_levels */
	void (*on_workload)(void *note); /* posted to the main loop with a struct workload_note */
	void *pilot;
};

struct worker *worker_start(const struct worker_options *o, struct err *e);
void worker_stop(struct worker *w); /* ends its connections, joins the thread, frees */
/* Takes a reference to the model and copies the keys. */
void worker_publish(struct worker *w, struct model *m, const struct read_keys *touched, uint64_t at_us);
/* Processor time that the worker used since the last snapshot came to it, at most a second; any thread. */
uint64_t worker_push_cost_us(const struct worker *w);
void worker_ask_levels(struct worker *w); /* answered by on_levels */
void worker_adopt(struct worker *w, int fd, bool secure);
/* Copies: what TLS connections, in and towards the CA, show and believe from now on. */
void worker_identity(struct worker *w, const char *key_pem, const char *chain_pem, const char *roots_pem);
void worker_drain(
	struct worker *w, uint64_t grace_ms, void (*done)(void *ctx), void *ctx); /* done is posted to the main loop */

struct worker_view {
	struct engine *engine;
	struct grpc_server *server;
	unsigned index;
};
/* Runs fn on the worker's thread and waits, two seconds at most; false: the worker was too busy, nothing was written. fn writes to json. */
bool worker_call(struct worker *w, void (*fn)(const struct worker_view *v, struct str argument, struct strbuf *json),
	struct str argument, struct strbuf *json) MUST_CHECK;

/* levels.c: of the engine's sessions, on the worker's thread. */
struct worker_levels *levels_collect(struct engine *e, unsigned index);

/* ca_relay.c: IstioCertificateService on a worker's server, passed on to citadel. */
struct grpc_channel;
void ca_relay_route(struct grpc_server *s, struct grpc_channel **channel);
