/* Whether the application of a machine-local pod accepts connections yet: the part of a kubelet's readiness probe that needs no probe. */
#pragma once

#include "cli/up/spec.h"

/* Reads the pod's run.json and the kernel's table of its sockets. True for a pod without a command or without a port. */
bool pod_listens(const struct mesh_paths *m, const struct pod *p);
/* Whether anybody in the network namespace of a process ("4711", "self") listens on the port. */
bool process_listens(const char *process, uint32_t port);
/* In the text of /proc/PID/net/tcp or tcp6: a socket that listens on the port. Pure. */
bool proc_net_listens(struct str table, uint32_t port);
