/* What the agent was told: one field for each option (main.c), and the environment, which Istio's settings of a proxy are read from. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent_config {
	const char *type; /* "sidecar", "router" */
	const char *pod_name;
	const char *pod_namespace;
	const char *pod_ip;
	const char *pod_ips; /* "": pod_ip alone */
	const char *service_account;
	const char *workload;
	const char *labels; /* JSON object */
	const char *annotations; /* JSON object */
	const char *cluster_id;
	const char *network;
	const char *mesh_id;
	const char *node_name;
	const char *locality; /* region/zone/subzone */
	const char *trust_domain;
	const char *domain_suffix;
	const char *discovery_address;
	const char *ca_address;
	const char *ca_roots;
	const char *token_file;
	bool plaintext; /* xDS without TLS (port 15010) */
	bool metrics_inside_only;
	uint64_t cert_ttl_ms;
	const char *key_type; /* NULL: by Istio's variables */
	const char *envoy;
	const char *envoy_log_level;
	const char *bootstrap_override; /* file with what is merged over Envoy's bootstrap; NULL: nothing */
	uint32_t concurrency;
	uint32_t proxy_mark; /* 0: traffic capture knows the proxy by its user id */
	uint32_t base_id;
	const char *status_address; /* *:15020 */
	const char *interception_mode; /* REDIRECT, TPROXY, NONE; NULL: the environment or proxy_config says */
	const char *proxy_config; /* Istio's ProxyConfig, JSON; NULL: the environment's PROXY_CONFIG */
	const char *app_probers; /* JSON; NULL: the environment's ISTIO_KUBE_APP_PROBERS */
	uint32_t envoy_admin_port;
	uint64_t drain_duration_ms;
	bool exit_on_zero_connections; /* Istio's EXIT_ON_ZERO_ACTIVE_CONNECTIONS: the drain duration is then a minimum */
	char *const *environment; /* of the process, "K=V", NULL-terminated; NULL: none */
	bool no_envoy; /* only serve SDS and ADS on the sockets: somebody else runs Envoy */
};
