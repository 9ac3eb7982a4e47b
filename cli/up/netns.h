/*
 * Namespaces of the machine-local mesh. The runner enters a network and mount namespace of its own (as an ordinary user: in a user
 * namespace where it is root): the "node", with a bridge to which every pod's namespace is wired. Nothing outside is touched, and
 * everything vanishes with the processes. Call these before any thread exists.
 */
#pragma once

#include "common/base/err.h"

#define NODE_ADDRESS "10.88.0.1"
#define NODE_PREFIX "16"
#define NODE_ADDRESS6 "fd88::1"
#define NODE_PREFIX6 "64"
#define NODE_BRIDGE "fl0"
/* Of the control plane on the node. */
#define PILOT_LISTENS "*:15012"
#define PILOT_ADDRESS NODE_ADDRESS ":15012"
#define PILOT_ADDRESS6 "[" NODE_ADDRESS6 "]:15012" /* for pods without an address of IPv4 */
#define CITADEL_ADDRESS NODE_ADDRESS ":8060"

/* After this the process is in the node's namespaces; sockets opened before still belong to the machine's. */
bool netns_enter_node(struct err *e) MUST_CHECK;
/* In a pod's own process, which is in the node's namespaces: leaves them for new ones, wires eth0 with `ips` (separated by commas) to the
 * node's bridge, and binds the files over /etc/hosts and /etc/resolv.conf. */
bool netns_enter_pod(const char *ips, const char *hosts_file, const char *resolv_file, struct err *e) MUST_CHECK;
