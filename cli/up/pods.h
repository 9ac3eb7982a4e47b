/*
 * The Pods of a directory, as `fairlead up` needs them: what to run, where, with which address and identity. Read from the same
 * files that galley reads. As there, a bad file never harms what runs: Pods that a file defined before it broke stay as they are. Pods
 * without status.podIP, with another's address or name, and broken files are named in the warnings (galley says the same in more
 * detail). Everything lives in the arena.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/diag.h"
#include "common/base/err.h"
#include "kube/kube.pb-c.h"

struct pod {
	const char *file; /* that defines it */
	const char *name;
	const char *ns;
	const char *ip;
	const char *ips; /* that and the others of status.podIPs, separated by commas */
	const char *service_account;
	const char *workload; /* owner-like name: the pod's own when nothing else is known */
	const char *labels_json; /* {"app":"reviews",...} */
	const char *annotations_json;
	const char *proxy_config_json; /* Istio's ProxyConfig, set when the pod starts; NULL: not yet */
	const char *outbound_port, *inbound_port; /* of its proxy, where traffic is led; likewise */
	const char *const *command; /* NULL: nothing to run beside the proxy */
	const char *const *env; /* "K=V", NULL-terminated */
	uint32_t port; /* first container port, 0: none */
	bool proxy; /* gets an agent and an Envoy */
	bool gateway; /* router: no application, no capture */
	uint64_t hash; /* of all of this: a changed pod is restarted */
};

struct pods {
	struct pod *items;
	size_t len;
};

/* `before`: what was read last time (empty at first). False only when the directory cannot be read at all. */
bool pods_read(struct arena *a, const char *dir, const struct pods *before, struct pods *out, struct diags *warnings,
	struct err *e) MUST_CHECK;
const struct pod *pods_find(const struct pods *p, const char *ns, const char *name);
