/* What the runner itself must know of the configuration, by galley's own reading of it. */
#pragma once

#include "cli/up/pods.h"

struct config {
	const char *trust_domain, *root_namespace; /* of the mesh config */
	const char *default_config; /* its ProxyConfig, JSON; "": it says nothing */
	const char *proxy_configs; /* ProxyConfig resources, a JSON list */
	const char *outbound_port, *inbound_port; /* where proxies take what is captured */
};

/* What is wrong with the configuration is printed on standard error when `tell`: it starts nothing less. Everything is in the arena. */
bool config_read(struct arena *a, const char *dir, bool tell, struct config *out, struct err *e) MUST_CHECK;
/* The ProxyConfig that holds for a pod that starts now, as for one that is injected now. False: the pod's annotation is wrong. */
bool config_for_pod(
	struct arena *a, const struct config *c, struct pod *p, struct diags *warnings, struct err *e) MUST_CHECK;
