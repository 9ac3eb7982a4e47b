/*
 * Injection: a pod in, the pod with agent and Envoy out. Pure: a function of the pod, the request and the options, so that every replica, the
 * webhook and `fairlead kube-inject` give the same. Labels, annotations, names of containers, volumes and paths are Istio's.
 *
 * A pod that has been injected already stays as it is, but for probes of containers that came later (reinvocation).
 */
#pragma once

#include <jansson.h>

#include "common/base/diag.h"
#include "common/base/err.h"
#include "common/base/str.h"
#include "galley/webhook/inject_settings.h"

struct inject_options {
	const char *image; /* of agent and Envoy; NULL: nothing can be injected */
	const char *pull_policy; /* "": Kubernetes' default */
	const char **pull_secrets;
	const char *revision; /* "": default */
	bool native_sidecars; /* unless the pod says otherwise */
	bool cni; /* capture is somebody else's: istio-validation in place of istio-init */
	bool hold_application;
	const char *discovery_address, *ca_address; /* ca_address "": the former */
	const char *roots_config_map; /* "": INJECT_ROOTS */
	const char *cluster_id, *network; /* unless the webhook's path says otherwise */
	const char *resources; /* of the proxy, JSON as in a container */
	const char **never; /* labels "key=value" or "key" of pods that get no proxy unless they ask for it */
	const char *proxy_config; /* the mesh's defaultConfig, JSON; under what pods say; "": nothing */
	const char *proxy_configs; /* ProxyConfig resources, a JSON list, what counts first in front; "": none */
	bool no_metrics_merge, no_probe_rewrite; /* unless the pod says otherwise */
	uint32_t outbound_port, inbound_port; /* of the mesh config, where capture leads to; 0: 15001, 15006 */
	const char *platform; /* INJECT_OPENSHIFT, or "" */
	const char *root_namespace; /* "": istio-system */
	const char *trust_domain, *domain_suffix; /* NULL: cluster.local */
	const struct inject_settings *settings; /* of the file, inject_settings.h; NULL: none */
	const char
		*settings_error; /* there should be settings, and are none: pods are refused with this; NULL, "": no */
};

#define INJECT_OPENSHIFT "openshift"
#define INJECT_UID_RANGE "openshift.io/sa.scc.uid-range"
#define INJECT_GROUPS "openshift.io/sa.scc.supplemental-groups"
#define INJECT_DISCOVERY_ADDRESS "istiod.istio-system.svc:15012"
#define INJECT_ROOTS "istio-ca-root-cert"
#define INJECT_RESOURCES \
	"{\"requests\":{\"cpu\":\"100m\",\"memory\":\"128Mi\"},\"limits\":{\"cpu\":\"2\",\"memory\":\"1Gi\"}}"

/* The options as rows, for programs that inject; `at` is their struct inject_options inside the struct. */
#define INJECT_OPTION_ROWS(prefix, config, at) \
	{prefix "image", OPT_STR(config, at.image, NULL, "image of agent and Envoy; without it nothing is injected")}, \
		{prefix "pull-policy", OPT_STR(config, at.pull_policy, "", "imagePullPolicy of what is injected")}, \
		{prefix "pull-secret", OPT_LIST(config, at.pull_secrets, "imagePullSecrets that pods get")}, \
		{prefix "revision", OPT_STR(config, at.revision, "", "revision that pods are labelled with")}, \
		{prefix "native-sidecars", \
			OPT_BOOL(config, at.native_sidecars, "the proxy is an init container that stays")}, \
		{prefix "cni", \
			OPT_BOOL(config, at.cni, \
				"traffic capture is set up by a CNI plugin, and istio-validation waits for it")}, \
		{prefix "hold-application", \
			OPT_BOOL(config, at.hold_application, "containers start when the proxy is ready")}, \
		{prefix "discovery-address", OPT_STR(config, at.discovery_address, INJECT_DISCOVERY_ADDRESS, \
						     "where proxies find pilot, host:port")}, \
		{prefix "ca-address", \
			OPT_STR(config, at.ca_address, "", "who signs their certificates (default: pilot)")}, \
		{prefix "roots-config-map", OPT_STR(config, at.roots_config_map, INJECT_ROOTS, \
						    "ConfigMap of each namespace with the roots that prove pilot")}, \
		{prefix "cluster-id", OPT_STR(config, at.cluster_id, "Kubernetes", "the cluster that pods are in")}, \
		{prefix "network", OPT_STR(config, at.network, "", "the network that they are in")}, \
		{prefix "proxy-config", \
			OPT_STR(config, at.proxy_config, "", \
				"settings of proxies where pods do not say, Istio's ProxyConfig as JSON; " \
				"galley takes the mesh config's defaultConfig, if there is one")}, \
		{prefix "proxy-configs", \
			OPT_STR(config, at.proxy_configs, "", \
				"ProxyConfig resources as a JSON list; galley takes those of its source")}, \
		{prefix "no-metrics-merge", OPT_BOOL(config, at.no_metrics_merge, \
						    "the application's metrics are not served with the proxy's; " \
						    "galley takes the mesh config's enablePrometheusMerge, too")}, \
		{prefix "no-probe-rewrite", \
			OPT_BOOL(config, at.no_probe_rewrite, "probes of the application stay as they are")}, \
		{prefix "platform", \
			OPT_STR(config, at.platform, "", \
				"openshift: the proxy's user and group come from the namespace's ranges")}, \
		{prefix "resources", OPT_STR(config, at.resources, INJECT_RESOURCES, \
					     "resources of the proxy, JSON, where annotations do not say")}, \
	{ \
		prefix "never", OPT_LIST(config, at.never, \
					"label key=value or key of pods that get no proxy unless they ask for it") \
	}

struct inject_request {
	const json_t *pod; /* a Pod, or a pod template with metadata and spec */
	const char *ns; /* where the pod has none */
	const char *workload; /* NULL: its name is known by the pod's owner */
	const char *cluster_id, *network; /* of the webhook's path; NULL: the options' */
	const char *uid_range,
		*groups; /* annotations of the namespace, INJECT_UID_RANGE and INJECT_GROUPS; NULL: none */
};

/* The options' values are right: said at the start rather than at the first pod. */
bool inject_resources_check(const char *json, struct err *e) MUST_CHECK;
bool inject_platform_check(const char *platform, struct err *e) MUST_CHECK;
/*
 * False: the pod must not start as it is, e names the annotation and the rule. Else *out is the pod with its proxy, the caller's; or NULL,
 * and *skipped says why it gets none. warnings gets what has no effect.
 */
bool inject_pod(const struct inject_options *o, const struct inject_request *q, json_t **out, const char **skipped,
	struct diags *warnings, struct err *e) MUST_CHECK;
/*
 * The ProxyConfig of a pod: its annotation proxy.istio.io/config, the options' ProxyConfig resources and their defaultConfig, as Istio ranks them.
 * *out is the caller's. Statistics that it asks for become annotations, where the agent reads them. False: as for inject_pod().
 */
bool inject_proxy_config(const struct inject_options *o, const char *ns, const json_t *labels, json_t *annotations,
	json_t **out, struct diags *warnings, struct err *e) MUST_CHECK;
