/*
 * Pilot, the daemon: follows the bus (ingest.c), makes the model, publishes it to its workers (push.c), which serve xDS (worker.c).
 * Everything here belongs to the main thread but what worker.h says. The way of a change: bus batch -> pilot_ingest() -> model_apply()
 * -> debounce -> one snapshot, posted to every worker.
 */
#pragma once

#include "common/base/map.h"
#include "common/bus/bus.h"
#include "common/daemon/daemon.h"
#include "pilot/bundle_urls.h"
#include "pilot/model/model.h"
#include "pilot/registry.h"
#include "pilot/worker.h"

struct pilot_config {
	const char *http_address;
	const char *xds_address;
	const char *replay, *render;
	const char *xds_tls_address, *trust_domain, *ca_token;
	bool scope_gateways;
	const char *ca_address, *ca_roots;
	const char **ca_names;
	const char *identity; /* "ns/NAMESPACE/sa/ACCOUNT" */
	const char **identity_dns;
	uint32_t workers;
	uint64_t debounce_ms, debounce_max_ms;
	uint64_t max_connection_age_ms, keepalive_ms;
	uint64_t workload_grace_ms;
	const char *bundle_roots;
	uint64_t bundle_refresh_ms;
};

struct pilot_push {
	struct model *model; /* the newest */
	struct read_keys touched; /* since the last publication */
	bool pending;
	bool open; /* there is content: publish */
	uint64_t first_us; /* oldest change that is not published */
	uint64_t published; /* snapshots */
	uint64_t published_us; /* when the last one was */
	struct timer *timer; /* runs during the pause after a push */
};

struct pilot {
	struct daemon *daemon;
	struct loop *loop;
	const struct pilot_config *config;
	struct bus_keys *keys;
	struct bus_replica *galley, *citadel;
	struct bus_replay *replay; /* instead of them; NULL when it has ended */
	struct pilot_push push;
	struct bundle_urls *bundles; /* that the mesh config names */
	struct map *objects; /* "topic/key" -> struct pilot_object, for the debug pages */
	struct registry *registry; /* workloads that register themselves */
	struct timer *second;
	struct distribution *distribution;
	uint64_t galley_content_ms; /* since when galley's content is there; 0: not yet */
	struct identity *identity; /* NULL: no TLS */
	struct tls_context *tls; /* marks the TLS listener; workers have their own */
	struct grpc_server *front; /* accepts; workers serve */
	struct worker **workers;
	size_t n_workers, next_worker, drained;
};

struct pilot_object {
	uint32_t topic;
	char *origin;
	uint64_t hash;
	uint64_t since; /* version of the model that brought this content */
};

bool pilot_start(struct daemon *d, const void *config, void **self, struct err *e);
void pilot_drain(void *self);
void pilot_stop(void *self);
extern const struct debug_page pilot_pages[];
extern const size_t pilot_n_pages;

/* ingest.c */
bool ingest_start(struct pilot *p, struct err *e) MUST_CHECK;
void ingest_stop(struct pilot *p);
void ingest_report(struct pilot *p, const struct worker_nack *n);
void ingest_say(void *pilot, const struct bus_change *c); /* a report to galley */
void ingest_bundle(void *pilot, const struct bus_change *c); /* roots that pilot has fetched, as if by the bus */
void ingest_tick(struct pilot *p); /* each second: readiness, age */
/* distribution.c: how far the proxies are, told to galley */
struct distribution *distribution_new(struct pilot *p);
void distribution_free(struct distribution *d); /* NULL is fine */
/* An object came, changed or went; before is NULL when it was not there, after when it is gone. */
void distribution_note(struct distribution *d, uint32_t topic, struct str key, const struct pilot_object *before,
	const struct pilot_object *after);
void distribution_moved(void *pilot); /* worker_options */
void distribution_levels(void *levels);
void distribution_tick(struct distribution *d); /* each second */
void distribution_debug(const struct distribution *d, struct strbuf *json);
/* secure.c: pilot's own certificate, and the TLS listener as soon as there is one */
bool secure_start(struct pilot *p, struct err *e) MUST_CHECK;
void secure_stop(struct pilot *p);
/* push.c */
void push_start(struct pilot *p);
void push_stop(struct pilot *p);
void push_changes(struct pilot *p, const struct bus_change *changes, size_t n);
void push_open(struct pilot *p); /* from now on what comes is published */
/* render.c: `--replay FILE --render NODE.json` instead of the daemon. */
int pilot_render(const char *replay, const char *node_file);
