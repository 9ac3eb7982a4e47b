/*
 * Names of networks' gateways, looked up off the loop: as soon as galley asks for them, and again every minute. A name whose look-up fails
 * keeps the addresses that it had. Owner: the daemon; one loop.
 */
#pragma once

#include "common/io/loop.h"
#include "galley/galley.h"

struct gateway_names;

/* changed() is called from the loop when the next commit of galley has something of an answer. */
struct gateway_names *gateway_names_new(struct loop *l, struct galley *g, void (*changed)(void *ctx), void *ctx);
void gateway_names_free(struct gateway_names *n); /* NULL is fine */
/* After a commit: new names are asked for, others forgotten. */
void gateway_names_sync(struct gateway_names *n);
void gateway_names_debug(const struct gateway_names *n, struct strbuf *json);
