/* The daemon around the pipeline: a source (a directory or the Kubernetes API), a publisher on the bus, debug pages. One loop, one thread. */
#pragma once

#include "common/daemon/daemon.h"
#include "galley/webhook/inject.h"

#define KUBERNETES_SOURCE "kubernetes"

struct galley_config {
	const char *source; /* a directory, or KUBERNETES_SOURCE */
	const char *kubeconfig, *kube_context, *root_namespace;
	const char *webhook_address, *webhook_cert_dir; /* address NULL: no webhooks */
	const char **webhook_configurations, **webhook_dns;
	struct inject_options inject; /* image NULL: the webhook injects nothing */
	const char *inject_config, *revision;
	const char *ca_address, *ca_roots, *ca_token, *trust_domain;
	const char **ca_names;
	const char *record;
	const char *domain_suffix;
	bool once;
	bool cluster_pods; /* pods have a sidecar only when they say so */
	bool no_status; /* of the cluster's objects: is not written */
	uint64_t status_lease_ms;
	uint64_t access_age_ms;
	uint64_t debounce_ms;
};

bool galley_daemon_start(struct daemon *d, const void *config, void **self, struct err *e);
void galley_daemon_stop(void *self);
bool galley_daemon_reload(void *self, struct err *e);

extern const struct debug_page galley_pages[];
extern const size_t galley_n_pages;
