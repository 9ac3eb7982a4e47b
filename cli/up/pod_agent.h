/* How a pod's process starts the pod's agent and application: arguments and environments, from the specification alone. In the arena. */
#pragma once

#include "cli/up/spec.h"

/* On the sockets of proxies: capture tells them by it. Not 1337, which is TPROXY's. */
#define PROXY_MARK "1338"

struct pod_agent {
	const char *const *argv;
	const char *const *env; /* "K=V", NULL-terminated; of two with a name the first counts */
};

void pod_agent_build(struct arena *a, const struct spec *s, struct pod_agent *out);
const char *const *pod_app_environment(struct arena *a, const struct spec *s);
/* How traffic is led to the proxy: REDIRECT, TPROXY, or NONE; what the pod says, or what it is told by the mesh. */
const char *pod_agent_mode(struct arena *a, const struct spec *s);
