/*
 * Lets the machine into the mesh: TCP connections accepted on sockets that were opened before the runner entered its namespaces are
 * relayed to addresses inside. One loop, bounded buffers, half-close kept.
 */
#pragma once

#include "common/base/err.h"
#include "common/io/loop.h"

struct relay;

/* Binds in the machine's namespace; call before netns_enter_node(). Port 0 picks one. Returns the descriptor or -1. */
int relay_bind(const char *address, char bound[128], struct err *e);
/* Owns the descriptor. Connections are closed at once until there is a target. */
struct relay *relay_new(struct loop *l, int listen_fd);
/* "ip:port" for connections from now on; NULL: none. */
bool relay_target(struct relay *r, const char *to, struct err *e) MUST_CHECK;
void relay_free(struct relay *r);
