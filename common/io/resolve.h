/*
 * Names to addresses without waiting: getaddrinfo(3) on libuv's thread pool, the answer on the loop. A question belongs to who asked; after
 * resolve_cancel() its answer finds nobody.
 */
#pragma once

#include "common/base/err.h"
#include "common/io/addr.h"
#include "common/io/loop.h"

struct resolve;
/* Stream addresses in the resolver's order, each once; n 0: why tells. Borrowed for the call, in which *r is gone already. */
typedef void (*resolve_done)(void *ctx, const struct addr *list, size_t n, const struct err *why);

/* done() comes later from the loop, never from in here. An IP literal is answered like a name. */
struct resolve *resolve_start(struct loop *l, const char *host, uint16_t port, resolve_done done, void *ctx);
void resolve_cancel(struct resolve *r); /* NULL is fine; not from within done() */
