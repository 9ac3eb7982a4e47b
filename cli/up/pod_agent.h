/* How a pod's process starts the pod's agent and application: arguments and environments, from the specification alone. In the arena. */
#pragma once

#include "cli/up/spec.h"

struct pod_agent {
	const char *const *argv;
	const char *const *env; /* "K=V", NULL-terminated; of two with a name the first counts */
};

void pod_agent_build(struct arena *a, const struct spec *s, struct pod_agent *out);
const char *const *pod_app_environment(struct arena *a, const struct spec *s);
bool pod_agent_captures(const struct spec *s); /* traffic is led to the proxy */
