/*
 * DOC: Envoy's bootstrap. JSON, because Envoy's YAML reads `id: n` as false. The node's id and metadata are what Istio's agents send, so that
 * pilot needs no other agent's dialect; everything else that Envoy needs comes over ADS and SDS through the agent's Unix sockets.
 */
#include "agent/agent.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define SOL_SOCKET_NUMBER 1
#define SO_MARK_NUMBER 36

static json_t *parse_object(const char *text, const char *what, struct err *e)
{
	json_error_t error;
	json_t *j = str_empty(text) ? json_object() : json_loads(text, 0, &error);
	if (json_is_object(j))
		return j;
	json_decref(j);
	(void)err_set(e, ERR_PEER, "--%s: a JSON object is expected", what);
	return NULL;
}

static const char *label_of(json_t *labels, const char *first, const char *second, const char *fallback)
{
	const char *v = json_string_value(json_object_get(labels, first));
	v = v ? v : json_string_value(json_object_get(labels, second));
	return v ? v : fallback;
}

char **bootstrap_env(const struct agent_config *c)
{
	json_t *labels = parse_object(c->labels, "labels", NULL);
	const char *app = label_of(labels, "app", "app.kubernetes.io/name", "unknown");
	const char *version = label_of(labels, "version", "app.kubernetes.io/version", "unknown");
	char **env = xzalloc(9 * sizeof(*env));
	env[0] = xasprintf("ISTIO_META_WORKLOAD_NAME=%s", c->workload);
	env[1] = xasprintf("POD_NAMESPACE=%s", c->pod_namespace);
	env[2] = xasprintf("ISTIO_META_CLUSTER_ID=%s", c->cluster_id);
	env[3] = xasprintf("FAIRLEAD_APP=%s", app);
	env[4] = xasprintf("FAIRLEAD_VERSION=%s", version);
	env[5] = xasprintf("FAIRLEAD_CANONICAL_SERVICE=%s",
		label_of(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name",
			streq(app, "unknown") ? c->workload : app));
	env[6] = xasprintf("FAIRLEAD_CANONICAL_REVISION=%s",
		label_of(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version",
			streq(version, "unknown") ? "latest" : version));
	env[7] = xasprintf("POD_NAME=%s", c->pod_name);
	json_decref(labels);
	return env;
}

void bootstrap_env_free(char **env)
{
	for (size_t i = 0; env && env[i]; i++)
		free(env[i]);
	free(env);
}

static json_t *node_metadata(const struct agent_config *c, struct err *e)
{
	json_t *labels = parse_object(c->labels, "labels", e);
	json_t *annotations = labels ? parse_object(c->annotations, "annotations", e) : NULL;
	if (!annotations) {
		json_decref(labels);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:{s:i}}", "NAME",
		c->pod_name, "NAMESPACE", c->pod_namespace, "LABELS", labels, "ANNOTATIONS", annotations,
		"SERVICE_ACCOUNT", c->service_account, "WORKLOAD_NAME", c->workload, "CLUSTER_ID", c->cluster_id,
		"NETWORK", c->network, "MESH_ID", c->mesh_id, "NODE_NAME", c->node_name, "INSTANCE_IPS", c->pod_ip,
		"ISTIO_VERSION", "1.31.0", "INTERCEPTION_MODE", streq(c->type, "router") ? "NONE" : "REDIRECT",
		"ENVOY_PROMETHEUS_PORT", 15090, "ENVOY_STATUS_PORT", 15021, "PROXY_CONFIG", "concurrency",
		(int)c->concurrency);
}

static json_t *node(const struct agent_config *c, struct err *e)
{
	json_t *metadata = node_metadata(c, e);
	if (!metadata)
		return NULL;
	char *id cleanup(free_p) = xasprintf("%s~%s~%s.%s~%s.svc.%s", c->type, c->pod_ip, c->pod_name, c->pod_namespace,
		c->pod_namespace, c->domain_suffix);
	char *cluster cleanup(free_p) = xasprintf("%s.%s", c->workload, c->pod_namespace);
	json_t *n = json_pack("{s:s, s:s, s:o}", "id", id, "cluster", cluster, "metadata", metadata);
	struct str rest = str_of(c->locality), part;
	static const char *const keys[] = {"region", "zone", "sub_zone"};
	json_t *locality = json_object();
	for (size_t i = 0; i < ARRAY_LEN(keys) && str_split(&rest, '/', &part); i++)
		(void)json_object_set_new(locality, keys[i], json_stringn(part.ptr, part.len));
	(void)json_object_set_new(n, "locality", locality);
	return n;
}

static json_t *socket_address(const char *host, unsigned port)
{
	return json_pack("{s:{s:s, s:i}}", "socket_address", "address", host, "port_value", (int)port);
}

static json_t *static_cluster(const char *name, json_t *address, bool http2)
{
	json_t *c = json_pack("{s:s, s:s, s:s, s:{s:s, s:[{s:[{s:{s:o}}]}]}}", "name", name, "type", "STATIC",
		"connect_timeout", "1s", "load_assignment", "cluster_name", name, "endpoints", "lb_endpoints",
		"endpoint", "address", address);
	if (http2)
		(void)json_object_set_new(c, "typed_extension_protocol_options",
			json_pack("{s:{s:s, s:{s:{}}}}", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"@type", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config", "http2_protocol_options"));
	/* An empty binding of its own: the cluster manager's, which carries the socket mark, is not for Unix sockets and loopback. */
	(void)json_object_set_new(c, "upstream_bind_config", json_object());
	return c;
}

static json_t *pipe_cluster(const char *name, const char *state_dir, const char *file)
{
	char *path cleanup(free_p) = xasprintf("%s/%s", state_dir, file);
	json_t *c = static_cluster(name, json_pack("{s:{s:s}}", "pipe", "path", path), true);
	(void)json_object_set_new(c, "circuit_breakers",
		json_pack("{s:[{s:s, s:i, s:i, s:i}]}", "thresholds", "priority", "DEFAULT", "max_connections", 100000,
			"max_pending_requests", 100000, "max_requests", 100000));
	return c;
}

/* A listener that answers one path by one cluster: the health and the Prometheus port. */
static json_t *path_listener(
	const char *name, unsigned port, const char *path, const char *rewrite, const char *cluster)
{
	json_t *route = json_pack("{s:{s:s}, s:{s:s, s:s}}", "match", "path", path, "route", "cluster", cluster,
		"prefix_rewrite", rewrite);
	json_t *hcm = json_pack("{s:s, s:s, s:{s:[{s:s, s:[s], s:[o]}]}, s:[{s:s, s:{s:s}}]}", "@type",
		"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix", name, "route_config", "virtual_hosts", "name", "backend", "domains", "*", "routes",
		route, "http_filters", "name", "envoy.filters.http.router", "typed_config", "@type",
		"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router");
	return json_pack("{s:s, s:o, s:[{s:[{s:s, s:o}]}]}", "name", name, "address", socket_address("0.0.0.0", port),
		"filter_chains", "filters", "name", "envoy.filters.network.http_connection_manager", "typed_config",
		hcm);
}

static json_t *static_resources(const struct agent_config *c, const char *state_dir)
{
	unsigned status_port = 15020;
	size_t colon = 0;
	if (str_rfind(str_of(c->status_address), ':', &colon) &&
		!str_u32(str_from(str_of(c->status_address), colon + 1), 65535, &status_port))
		status_port = 15020;
	json_t *clusters = json_array();
	(void)json_array_append_new(clusters, pipe_cluster("xds-grpc", state_dir, AGENT_XDS_SOCKET));
	(void)json_array_append_new(clusters, pipe_cluster("sds-grpc", state_dir, AGENT_SDS_SOCKET));
	(void)json_array_append_new(clusters, static_cluster("agent", socket_address("127.0.0.1", status_port), false));
	(void)json_array_append_new(
		clusters, static_cluster("prometheus_stats", socket_address("127.0.0.1", c->envoy_admin_port), false));
	return json_pack("{s:o, s:[o, o]}", "clusters", clusters, "listeners",
		path_listener("prometheus", 15090, "/stats/prometheus", "/stats/prometheus", "prometheus_stats"),
		path_listener("health", 15021, "/healthz/ready", "/healthz/ready", "agent"));
}

static json_t *dynamic_resources(void)
{
	json_t *ads = json_pack("{s:s, s:s, s:b, s:[{s:{s:s}}]}", "api_type", "DELTA_GRPC", "transport_api_version",
		"V3", "set_node_on_first_message_only", 1, "grpc_services", "envoy_grpc", "cluster_name", "xds-grpc");
	return json_pack("{s:o, s:{s:{}, s:s}, s:{s:{}, s:s}}", "ads_config", ads, "cds_config", "ads",
		"resource_api_version", "V3", "lds_config", "ads", "resource_api_version", "V3");
}

bool bootstrap_json(const struct agent_config *c, const char *state_dir, char **out, struct err *e)
{
	json_t *n = node(c, e);
	if (!n)
		return false;
	json_t *root = json_pack("{s:o, s:{s:o}, s:o, s:o, s:{s:b}}", "node", n, "admin", "address",
		socket_address("127.0.0.1", c->envoy_admin_port), "dynamic_resources", dynamic_resources(),
		"static_resources", static_resources(c, state_dir), "stats_config", "use_all_default_tags", 1);
	if (c->proxy_mark)
		(void)json_object_set_new(root, "cluster_manager",
			json_pack("{s:{s:[{s:s, s:i, s:i, s:i, s:s}]}}", "upstream_bind_config", "socket_options",
				"description", "traffic capture knows the proxy by it", "level", SOL_SOCKET_NUMBER,
				"name", SO_MARK_NUMBER, "int_value", (int)c->proxy_mark, "state", "STATE_PREBIND"));
	char *text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	if (!text)
		return err_set(e, ERR_PEER, "the bootstrap has text that is not UTF-8");
	*out = text;
	return true;
}
