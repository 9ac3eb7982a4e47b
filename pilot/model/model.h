/*
 * The model: everything pilot knows, as an immutable, reference-counted snapshot of indexes. model_apply() makes the next one from the
 * last and one bus batch: only indexes that the batch concerns are rebuilt, the rest is shared. It also says which *read keys* may now be
 * answered differently: a read key is a 64-bit name of one question ("service by host h", "virtual services for host h at gateway g",
 * "hosts on port p for namespace n"). Translators ask only through a view (view.h), which records the keys they asked, so that the
 * set of resources to rebuild is exactly: those that recorded a touched key.
 *
 * Thread: model_apply() on pilot's main thread; a snapshot may be read by any thread that holds a reference.
 */
#pragma once

#include "common/base/arena.h"
#include "common/bus/bus.h"

struct model;

/* A set of read keys, sorted, without repetition. */
struct read_keys {
	uint64_t *items;
	size_t len, cap;
};
void read_keys_add(struct read_keys *k, uint64_t key);
void read_keys_seal(struct read_keys *k); /* sorts and removes repetitions */
bool read_keys_has(const struct read_keys *k, uint64_t key); /* sealed */
void read_keys_done(struct read_keys *k);

struct model *model_empty(void);
struct model *model_ref(struct model *m);
void model_unref(struct model *m);
/* Never fails: a value that does not unpack is logged, counted and left out. `touched` is filled and sealed. */
struct model *model_apply(struct model *prev, const struct bus_change *changes, size_t n, struct read_keys *touched);
struct hidden;
bool model_has(const struct model *m, const struct hidden *h); /* this very version is the present one */
uint64_t model_version(const struct model *m); /* grows by one with each apply */
uint64_t model_hash(const struct model *m); /* of the content: equal content, equal hash, whatever the history */
size_t model_bytes(const struct model *m);
/* Counts per topic, for /debug and metrics. */
void model_debug(const struct model *m, struct strbuf *json);
