/* Whether the application of a machine-local pod accepts connections yet: the part of a kubelet's readiness probe that needs no probe. */
#pragma once

#include "cli/up/spec.h"

/* Reads the pod's run.json and the kernel's table of its sockets. True for a pod without a command or without a port. */
bool pod_listens(const struct mesh_paths *m, const struct pod *p);
/* In the text of /proc/PID/net/tcp or tcp6: a socket that listens on the port. Pure. */
bool proc_net_listens(struct str table, uint32_t port);
