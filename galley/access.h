/*
 * Which service accounts may list the Secrets of their namespace, by the API server's word (row P98). Asked for every account of a namespace that
 * holds a guarded Secret, so that each galley knows the same, whoever follows it; asked again `keep_ms` after the answer. The answers are the bus
 * topic `access`; pilot gives a Secret's key to no proxy whose account may not. Owner: galley's loop.
 *
 * An API server that does not answer changes nothing: the last answer stays in force, and an account without one is refused, with the reason.
 */
#pragma once

#include "common/bus/bus.h"
#include "common/kube/kube.h"
#include "galley/galley.h"

struct access;

/* changed(): look for changes to publish, and whether access_waits() still holds. */
struct access *access_new(struct loop *l, struct kube *api, uint64_t keep_ms, void (*changed)(void *ctx), void *ctx);
void access_free(struct access *x); /* after the api, which lets go of the answers under way */
/* Takes over who is to be asked about. */
void access_sync(struct access *x, const struct galley *g);
/* Some account has no first answer yet, and it is worth waiting for: what is published first is taken for the whole. */
bool access_waits(const struct access *x);
/* What is to be published since this was last asked; until it is asked again. */
const struct bus_change *access_changes(struct access *x, size_t *n);
void access_debug(const struct access *x, struct strbuf *json);
