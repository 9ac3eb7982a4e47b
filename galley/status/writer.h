/*
 * Writes statuses to the API server, by server-side apply on the status subresource: what differs from what the server has, at a bounded
 * rate, a few at a time, with backoff when the server does not take it or when what was written does not stay. Knows of each object what
 * the source last said. Writing is for who holds the lease; everybody keeps the books.
 */
#pragma once

#include "common/kube/kube.h"
#include "galley/status/condition.h"

#define STATUS_WRITES_PER_S 20u
#define STATUS_IN_FLIGHT 4u

struct status_writer;
/*
 * may: whether writing is allowed right now. counts_ms: when nothing but a count differs, at least so long lies between two writes of one
 * object.
 */
struct status_writer *status_writer_new(
	struct kube *api, struct loop *l, uint64_t counts_ms, bool (*may)(void *ctx), void *ctx);
/* After the kube_free() of the client. */
void status_writer_free(struct status_writer *w);

/*
 * An object came from the source, as JSON; key is "VirtualService/default/reviews". False: it differs from before in nothing but its status and
 * bookkeeping, so that nobody else needs to look at it.
 */
bool status_writer_seen(struct status_writer *w, const char *key, struct str json) MUST_CHECK;
void status_writer_gone(struct status_writer *w, const char *key);
int64_t status_writer_generation(const struct status_writer *w, const char *key); /* 0: unknown */
/* What the object's status shall be; the reference is taken. */
void status_writer_want(struct status_writer *w, const struct status_object *o, json_t *status);
/* {"objects", "queued", "in_flight", "written", "failed", "error"} */
void status_writer_debug(const struct status_writer *w, struct strbuf *json);
