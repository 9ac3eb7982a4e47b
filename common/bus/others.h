/*
 * The other publishers behind a replica's name, to which it does not listen: what is told to all of them goes to each address that the name
 * has by now, over a connection that carries nothing else. Nothing is kept: what does not reach one is told again when there is something
 * newer. With an address that is no name there are no others. Belongs to the loop's thread.
 */
#pragma once

#include "common/bus/address.h"
#include "common/bus/keys.h"
#include "common/bus/socket.h"

struct bus_others;
struct bus_others_options {
	const struct bus_address *address; /* borrowed for life, and so are the next two */
	const char *publisher;
	const struct bus_keys *keys; /* NULL: ipc */
};
struct bus_others *bus_others_new(struct loop *l, struct bus_context *c, const struct bus_others_options *o);
void bus_others_free(struct bus_others *x); /* NULL is fine */
/* To all but the one at `followed`, "tcp://10.0.0.1:15030". */
void bus_others_tell(struct bus_others *x, const char *followed, struct str frame);
size_t bus_others_count(const struct bus_others *x); /* connections there are */
