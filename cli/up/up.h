/*
 * `fairlead up DIR`: a whole mesh on one machine, every part real: galley, pilot and citadel as processes, each Pod of the directory in a
 * network namespace of its own with its agent and Envoy. The runner plays the kubelet: it starts what the directory says, starts again what
 * dies, mints join tokens, and lets the machine in through a relay to the ingress gateway.
 */
#pragma once

int up_main(int argc, char **argv);

/* The default state directory for a configuration directory; the caller frees it. `fairlead status` and others find the mesh by it. */
char *up_default_state(const char *dir);
