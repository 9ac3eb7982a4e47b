/*
 * The two connections of a replica: both lead to one publisher. A host name may stand for several (the pods behind a headless Service): it is
 * resolved off the loop, one of its addresses is taken, and both sockets connect to that one. When it falls silent the name is resolved again
 * and the next address has its turn. Each replica has an order of its own, so that many spread over all publishers.
 *
 * Belongs to the loop's thread. None of the bus_link_*() notes closes a socket while it is called: what they cause comes from a timer.
 */
#pragma once

#include "common/bus/address.h"
#include "common/bus/keys.h"
#include "common/bus/socket.h"
#include "common/io/addr.h"

struct bus_link;
struct bus_link_options {
	const struct bus_address *address; /* borrowed for life */
	const char *publisher; /* borrowed for life */
	const struct bus_keys *keys; /* for the start only; NULL: ipc */
	const struct zsock_ops *live, *snap;
	void *ctx; /* of both */
};
struct bus_link *bus_link_new(
	struct loop *l, struct bus_context *c, const struct bus_link_options *o, struct err *e) MUST_CHECK;
void bus_link_free(struct bus_link *k);
bool bus_link_send(struct bus_link *k, zmq_msg_t *msg); /* on the snapshot socket; takes the message */
void bus_link_drain(struct bus_link *k);
/* The publisher speaks and has content: stay. */
void bus_link_heard(struct bus_link *k);
/* It fell silent. */
void bus_link_lost(struct bus_link *k);
/* The two sockets reached different publishers: an address that a balancer serves. Both connect anew. */
void bus_link_crossed(struct bus_link *k);
const char *bus_link_at(const struct bus_link *k); /* "tcp://10.0.0.1:15030", of the snapshot socket; "" */
void bus_link_endpoint(const struct addr *a, char out[256]); /* what bus_link_at() says of this address */
void bus_link_debug(const struct bus_link *k, struct strbuf *json); /* an object */

/* Which of the n > 0 addresses has its turn after `current` (NULL: the first one) in the order that `seed` gives. Pure. */
size_t bus_link_pick(const struct addr *list, size_t n, uint64_t seed, const struct addr *current);
