/* DOC: The agent, the daemon beside one Envoy: tables and one call. Start reading at agent.c. */
#include "agent/daemon.h"
#include "common/pki/pki.h"

#include "agent/capture.h"

static const struct option_row options[] = {
	{.name = "type", OPT_STR(struct agent_config, type, "sidecar", "sidecar, or router for a gateway")},
	{.name = "pod-name", OPT_STR(struct agent_config, pod_name, NULL, "name of this workload's instance")},
	{.name = "pod-namespace", OPT_STR(struct agent_config, pod_namespace, "default", "its namespace")},
	{.name = "pod-ip", OPT_STR(struct agent_config, pod_ip, NULL, "its address")},
	{.name = "pod-ips",
		OPT_STR(struct agent_config, pod_ips, "",
			"all its addresses, separated by commas, where it has several: of IPv4 and IPv6 (default "
			"--pod-ip)")},
	{.name = "service-account", OPT_STR(struct agent_config, service_account, "default", "its service account")},
	{.name = "workload", OPT_STR(struct agent_config, workload, "unknown", "name of what it is an instance of")},
	{.name = "labels", OPT_STR(struct agent_config, labels, "{}", "its labels, a JSON object")},
	{.name = "annotations", OPT_STR(struct agent_config, annotations, "{}", "its annotations, a JSON object")},
	{.name = "cluster-id", OPT_STR(struct agent_config, cluster_id, "Kubernetes", "name of the cluster it is in")},
	{.name = "network", OPT_STR(struct agent_config, network, "", "name of the network it is in")},
	{.name = "mesh-id", OPT_STR(struct agent_config, mesh_id, "cluster.local", "name of the mesh")},
	{.name = "node-name", OPT_STR(struct agent_config, node_name, "", "name of the machine it is on")},
	{.name = "locality", OPT_STR(struct agent_config, locality, "", "region/zone/subzone")},
	{.name = "trust-domain", OPT_STR(struct agent_config, trust_domain, "cluster.local", "of its identity")},
	{.name = "domain-suffix",
		OPT_STR(struct agent_config, domain_suffix, "cluster.local", "DNS domain of the mesh's services")},
	{.name = "discovery-address", OPT_STR(struct agent_config, discovery_address, NULL, "pilot, host:port")},
	{.name = "plaintext",
		OPT_BOOL(struct agent_config, plaintext, "pilot is reached without TLS (its port 15010)")},
	{.name = "ca-address",
		OPT_STR(struct agent_config, ca_address, NULL,
			"who signs certificates, host:port or unix:/path (default --discovery-address)")},
	{.name = "ca-roots", OPT_STR(struct agent_config, ca_roots, NULL, "PEM file that verifies the CA")},
	{.name = "token-file",
		OPT_STR(struct agent_config, token_file, NULL, "token that proves to the CA who this workload is")},
	{.name = "cert-ttl",
		OPT_MS(struct agent_config, cert_ttl_ms, "24h", 1000, 0, "lifetime to ask for; renewed at half of it")},
	{.name = "key-type",
		OPT_STR(struct agent_config, key_type, NULL,
			"key of its certificate: " PKI_KEY_TYPES
			" (default: what ECC_SIGNATURE_ALGORITHM, ECC_CURVE and "
			"WORKLOAD_RSA_KEY_SIZE say; p256)")},
	{.name = "envoy", OPT_STR(struct agent_config, envoy, "envoy", "Envoy's program")},
	{.name = "envoy-log-level",
		OPT_STR(struct agent_config, envoy_log_level, "warning", "Envoy's log level: warning,misc:error")},
	{.name = "bootstrap-override",
		OPT_STR(struct agent_config, bootstrap_override, NULL,
			"file that Envoy merges over its bootstrap, YAML or JSON")},
	{.name = "concurrency",
		OPT_U32(struct agent_config, concurrency, "2", 0, 1024,
			"Envoy's worker threads; 0: one per processor")},
	{.name = "proxy-mark",
		OPT_U32(struct agent_config, proxy_mark, "0", 0, 0,
			"socket mark by which traffic capture knows the proxy; 0: by its user id")},
	{.name = "base-id",
		OPT_U32(struct agent_config, base_id, "0", 0, 0, "Envoy's base id; 0: Envoy without hot restart")},
	{.name = "status-address",
		OPT_STR(struct agent_config, status_address, "*:15020", "health and metrics of this workload")},
	{.name = "metrics-localhost-only",
		OPT_BOOL(struct agent_config, metrics_inside_only,
			"/stats/prometheus is for the pod itself (also by METRICS_LOCALHOST_ACCESS_ONLY)")},
	{.name = "interception-mode",
		OPT_STR(struct agent_config, interception_mode, NULL,
			"how traffic reaches Envoy, by which pilot makes listeners: REDIRECT, TPROXY or NONE (default: "
			"what "
			"ISTIO_META_INTERCEPTION_MODE or the proxy's configuration says, else REDIRECT)")},
	{.name = "proxy-config",
		OPT_STR(struct agent_config, proxy_config, NULL,
			"settings of this proxy, Istio's ProxyConfig as JSON (default: what PROXY_CONFIG says)")},
	{.name = "app-probers",
		OPT_STR(struct agent_config, app_probers, NULL,
			"probes of the application's containers by path, JSON (default: what "
			"ISTIO_KUBE_APP_PROBERS says)")},
	{.name = "envoy-admin-port",
		OPT_U32(struct agent_config, envoy_admin_port, "15000", 1, 65535,
			"Envoy's own admin port, on 127.0.0.1")},
	{.name = "drain-duration",
		OPT_MS(struct agent_config, drain_duration_ms, "5s", 0, 3600000,
			"how long Envoy still serves after a stop was asked for; below --drain-timeout")},
	{.name = "exit-on-zero-connections",
		OPT_BOOL(struct agent_config, exit_on_zero_connections,
			"after --drain-duration Envoy ends with its last connection")},
	{.name = "no-envoy",
		OPT_BOOL(struct agent_config, no_envoy, "only serve the sockets: somebody else runs Envoy")},
};

static const struct daemon_command commands[] = {
	{"wait", "end when Envoy is ready", wait_main},
	{"drain", "have Envoy drain its listeners and go on", drain_main},
	{"capture", "direct this network namespace's traffic to Envoy, or stop doing so", capture_main},
};

int main(int argc, char **argv)
{
	const struct daemon_def def = {
		.name = "agent",
		.summary = "brings one Envoy its identity, its bootstrap and its configuration, and runs it",
		.admin_port = 15004,
		.drain_timeout = "25s",
		.options = options,
		.n_options = ARRAY_LEN(options),
		.pages = agent_pages,
		.n_pages = agent_n_pages,
		.commands = commands,
		.n_commands = ARRAY_LEN(commands),
		.config_size = sizeof(struct agent_config),
		.start = agent_start,
		.drain = agent_drain,
		.stop = agent_stop,
		.reload = agent_reload,
	};
	return daemon_main(&def, argc, argv);
}
