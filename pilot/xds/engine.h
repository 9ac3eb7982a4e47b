/*
 * The engine of one worker: the model as last published, the scopes that its proxies share, and its sessions. Taking over a new model
 * marks what depends on the touched keys; sessions then find in session_next() what they have to send. No I/O, no clock, no locks:
 * owner thread is the worker's (in tests, the test's).
 */
#pragma once

#include "pilot/xds/cache.h"

struct engine_source {
	const struct translator *translators[XDS_TYPE_COUNT];
	const struct scope *(*scope_of)(struct arena *a, const struct model *m, const struct proxy *p,
		enum scope_kind kind, struct read_keys *reads);
};

struct engine *engine_new(const struct engine_source *source); /* the source outlives it */
void engine_free(struct engine *e); /* after its sessions */
/* Takes its own reference. touched NULL: everything may differ. at_us: when the oldest change of it came to pilot. */
void engine_update(struct engine *e, struct model *m, const struct read_keys *touched, uint64_t at_us);
/* Lets go of what proxies that left before `now_us - ENGINE_PARK_US` had. */
#define ENGINE_PARK_US 30000000ull
void engine_tend(struct engine *e, uint64_t now_us);
bool engine_has_content(const struct engine *e); /* before the first model nothing is served */
const struct model *engine_model(const struct engine *e);
/* The newest model whose changes all came before at_us (its engine_update() said so); 0: too long ago to be known. */
uint64_t engine_version_before(const struct engine *e, uint64_t at_us);
const struct engine_source *engine_source(const struct engine *e);
struct xds_store *engine_store(const struct engine *e);

/* For sessions and scopes. */
/* The questions by which a scope was decided. Sessions that asked the same share them; counted. */
struct scope_reads {
	struct read_dep dep;
	unsigned users;
	bool stale; /* one was touched: who has it asks again */
	uint64_t id; /* in the engine's table */
};
struct xds_session;
void engine_join(struct engine *e, struct xds_session *s);
void engine_leave(struct engine *e, struct xds_session *s);
/* Joined; the scope of a proxy in the present model. The use of *reads is the caller's. */
struct xds_scope *engine_scope(
	struct engine *e, const struct proxy *p, enum scope_kind kind, struct scope_reads **reads);
void engine_forget_scope(struct engine *e, struct xds_scope *s);
struct read_index *engine_index(const struct engine *e);
void engine_touched(struct engine *e, struct xds_scope *s); /* something in it recorded a touched key */

void engine_reads_unref(struct engine *e, struct scope_reads *r); /* NULL is fine */

size_t engine_sessions(const struct engine *e);
struct xds_session *engine_session(const struct engine *e, size_t i);
/* {"scopes": [{"key", "kind", "users", "bytes", "resources": {"cds": n ...}}], "model": n} */
void engine_debug(const struct engine *e, struct strbuf *json);
