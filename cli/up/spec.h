/*
 * What the runner hands to a pod's own process, as a JSON file: `fairlead pod-init FILE`. The file is 0600 in the mesh's state
 * directory and is rewritten at each start of the pod.
 */
#pragma once

#include "cli/up/pods.h"

struct mesh_paths {
	const char *state; /* state directory of the mesh */
	const char *dir; /* the configuration directory; applications run in it */
	const char *bin; /* directory with galley/galley, pilot/pilot, citadel/citadel, agent/agent */
	const char *envoy; /* Envoy's binary */
	const char *discovery; /* "10.88.0.1:15012" */
	const char *ca; /* "10.88.0.1:15012": pilot relays to citadel */
	const char *trust_domain;
	const char *hosts; /* file bound over /etc/hosts: <state>/hosts/<namespace> */
	const char *cert_ttl; /* asked for by agents, "24h" */
};

/* "<state>/pods/<ns>.<name>"; the caller frees it. */
char *pod_state_dir(const struct mesh_paths *m, const struct pod *p);
bool spec_write(const struct mesh_paths *m, const struct pod *p, const char *path, struct err *e) MUST_CHECK;

struct spec {
	struct pod pod;
	struct mesh_paths mesh;
	const char *pod_dir;
};
bool spec_read(struct arena *a, const char *path, struct spec *out, struct err *e) MUST_CHECK;
