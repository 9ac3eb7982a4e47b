/*
 * Addresses of the bus: "{role}" is filled in, and one address becomes two endpoints, for snapshots and for live
 * frames.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

struct bus_address {
	bool ipc;
	bool named; /* tcp with a host name, which has to be resolved: host and port */
	char host[256];
	uint16_t port;
	char snap[256]; /* "ipc:///run/fairlead/galley-snap", "tcp://host:15030" */
	char live[256];
	const char *snap_path; /* ipc: the sockets' paths, within the above */
	const char *live_path;
};

bool bus_address_parse(const char *address, const char *role, struct bus_address *out, struct err *e) MUST_CHECK;
/*
 * ipc: a listening Unix socket at `path` (its directory is made, 0700), in *out_fd for ZMQ_USE_FD; *out_inode is the
 * file's. A socket file that a dead process left is replaced atomically; one that somebody answers on is an error.
 */
bool bus_ipc_listen(const char *path, int *out_fd, uint64_t *out_inode, struct err *e) MUST_CHECK;
/* Removes the file if it is still ours, and not that of a successor. */
void bus_ipc_unlink(const char *path, uint64_t inode);
