/*
 * DOC: Envoy's bootstrap. JSON, because Envoy's YAML reads `id: n` as false. The node's id and metadata are what Istio's agents send, so that
 * pilot needs no other agent's dialect; everything else that Envoy needs comes over ADS and SDS through the agent's Unix sockets.
 *
 * Memory: of Envoy's statistics only those are kept that readiness, the standard metrics and authorisation need, and what the pod's
 * annotations add; clusters and their statistics are made when the first request needs them. Both configurations that Envoy
 * starts with are waited for without end: an Envoy that gives up waiting would listen with nothing to serve.
 */
#include "agent/agent.h"
#include "agent/bootstrap_parts.h"
#include "agent/metadata.h"
#include "agent/services.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "common/base/limits.h"
#include "common/io/addr.h"
#include "common/re/re.h"

#define SOL_SOCKET_NUMBER 1 /* Linux, as is everything here: the numbers are part of the configuration */
#define SO_MARK_NUMBER 36
#define TYPE "type.googleapis.com/envoy.extensions."
#define HEALTH_PORT 15021u
#define PROMETHEUS_PORT 15090u
#define SELF_CLUSTER "local_cluster" /* Istio's name for it; pilot answers to it */
#define ISTIO_VERSION "1.31.0" /* whose node metadata and features we speak */
/* A connection costs Envoy some 20 kB at rest; past this many it would rather be killed for its memory than serve. */
#define MAX_DOWNSTREAM_CONNECTIONS 100000

static json_t *parse_object(const char *text, const char *what, struct err *e)
{
	json_error_t error;
	json_t *j = str_empty(text) ? json_object() : json_loads(text, 0, &error);
	if (json_is_object(j))
		return j;
	if (j)
		(void)err_set(e, ERR_PEER, "--%s: a JSON object is expected", what);
	else
		(void)err_set(e, ERR_PEER, "--%s: line %d: %s", what, error.line, error.text);
	json_decref(j);
	return NULL;
}

static const char *text_or(const char *s, const char *fallback)
{
	return str_empty(s) ? fallback : s;
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
	env[0] = xasprintf("ISTIO_META_WORKLOAD_NAME=%s", text_or(c->workload, "unknown"));
	env[1] = xasprintf("POD_NAMESPACE=%s", text_or(c->pod_namespace, "default"));
	env[2] = xasprintf("ISTIO_META_CLUSTER_ID=%s", text_or(c->cluster_id, "Kubernetes"));
	env[3] = xasprintf("FAIRLEAD_APP=%s", app);
	env[4] = xasprintf("FAIRLEAD_VERSION=%s", version);
	env[5] = xasprintf("FAIRLEAD_CANONICAL_SERVICE=%s",
		label_of(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name",
			streq(app, "unknown") ? text_or(c->workload, "unknown") : app));
	env[6] = xasprintf("FAIRLEAD_CANONICAL_REVISION=%s",
		label_of(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version",
			streq(version, "unknown") ? "latest" : version));
	env[7] = xasprintf("POD_NAME=%s", text_or(c->pod_name, "unknown"));
	json_decref(labels);
	return env;
}

void bootstrap_env_free(char **env)
{
	for (size_t i = 0; env && env[i]; i++)
		free(env[i]);
	free(env);
}

/* ---- the node */

/* What this agent does differs from what it was told where options say otherwise. */
static json_t *proxy_config(const struct agent_config *c, struct err *e)
{
	char *drain cleanup(free_p) = xasprintf("%.3fs", (double)c->drain_duration_ms / 1000);
	json_t *j = parse_object(c->proxy_config, "proxy-config", e);
	if (!j)
		return NULL;
	(void)json_object_set_new(j, "concurrency", json_integer(c->concurrency));
	(void)json_object_set_new(j, "proxyAdminPort", json_integer(c->envoy_admin_port));
	(void)json_object_set_new(j, "terminationDrainDuration", json_string(drain));
	if (!str_empty(c->discovery_address))
		(void)json_object_set_new(j, "discoveryAddress", json_string(c->discovery_address));
	return j;
}

static json_t *node_metadata(const struct agent_config *c, struct err *e)
{
	const struct {
		const char *key, *value;
	} texts[] = {
		{"NAME", c->pod_name},
		{"NAMESPACE", c->pod_namespace},
		{"SERVICE_ACCOUNT", c->service_account},
		{"WORKLOAD_NAME", c->workload},
		{"CLUSTER_ID", c->cluster_id},
		{"NETWORK", c->network},
		{"MESH_ID", c->mesh_id},
		{"NODE_NAME", c->node_name},
		{"INSTANCE_IPS", text_or(c->pod_ips, c->pod_ip)},
		{"ISTIO_VERSION", ISTIO_VERSION},
		{"INTERCEPTION_MODE", streq(c->type, "router") ? "NONE" : c->interception_mode},
		{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS", c->exit_on_zero_connections ? "true" : NULL},
	};
	json_t *labels = parse_object(c->labels, "labels", e);
	json_t *annotations = labels ? parse_object(c->annotations, "annotations", e) : NULL;
	json_t *config = annotations ? proxy_config(c, e) : NULL;
	if (!config) {
		json_decref(labels);
		json_decref(annotations);
		return NULL;
	}
	json_t *m = json_pack("{s:o, s:o, s:o, s:i, s:i}", "LABELS", labels, "ANNOTATIONS", annotations, "PROXY_CONFIG",
		config, "ENVOY_PROMETHEUS_PORT", (int)PROMETHEUS_PORT, "ENVOY_STATUS_PORT", (int)HEALTH_PORT);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (!str_empty(texts[i].value))
			(void)json_object_set_new(m, texts[i].key, json_string(texts[i].value));
	if (!metadata_from_env(m, c->environment, e)) {
		json_decref(m);
		return NULL;
	}
	const char *mode = json_string_value(json_object_get(config, "interceptionMode"));
	if (!json_object_get(m, "INTERCEPTION_MODE"))
		(void)json_object_set_new(m, "INTERCEPTION_MODE", json_string(text_or(mode, "REDIRECT")));
	return m;
}

static bool node(const struct agent_config *c, json_t **out, struct err *e)
{
	json_t *metadata = node_metadata(c, e);
	if (!metadata)
		return false;
	const char *ns = text_or(c->pod_namespace, "default");
	char *id cleanup(free_p) = xasprintf("%s~%s~%s.%s~%s.svc.%s", text_or(c->type, "sidecar"),
		text_or(c->pod_ip, "127.0.0.1"), text_or(c->pod_name, "unknown"), ns, ns,
		text_or(c->domain_suffix, "cluster.local"));
	char *cluster cleanup(free_p) = xasprintf("%s.%s", text_or(c->workload, "unknown"), ns);
	*out = json_pack("{s:s, s:s, s:o, s:o}", "id", id, "cluster", cluster, "locality",
		metadata_locality(c->locality, json_object_get(metadata, "LABELS")), "metadata", metadata);
	return true;
}

/* ---- what is there without pilot */

json_t *socket_address(struct str host, unsigned port)
{
	return json_pack("{s:{s:s%, s:i}}", "socket_address", "address", host.ptr, host.len, "port_value", (int)port);
}

static json_t *static_cluster(const char *name, json_t *address, bool http2)
{
	json_t *c = json_pack("{s:s, s:s, s:s, s:{s:s, s:[{s:[{s:{s:o}}]}]}}", "name", name, "type", "STATIC",
		"connect_timeout", "1s", "load_assignment", "cluster_name", name, "endpoints", "lb_endpoints",
		"endpoint", "address", address);
	if (http2)
		(void)json_object_set_new(c, "typed_extension_protocol_options",
			json_pack("{s:{s:s, s:{s:{}}}}", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"@type", TYPE "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config",
				"http2_protocol_options"));
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

struct families pod_families(const struct agent_config *c)
{
	struct str rest = str_of(text_or(c->pod_ips, c->pod_ip)), ip;
	struct families f = {0};
	while (str_split(&rest, ',', &ip))
		*(memchr(ip.ptr, ':', ip.len) ? &f.v6 : &f.v4) = true;
	return f;
}

static void listen_everywhere(const struct agent_config *c, unsigned port, json_t *listener)
{
	struct families f = pod_families(c);
	(void)json_object_set_new(
		listener, "address", socket_address(f.v6 && !f.v4 ? STR("::") : STR("0.0.0.0"), port));
	if (f.v6 && f.v4)
		(void)json_object_set_new(listener, "additional_addresses",
			json_pack("[{s:o}]", "address", socket_address(STR("::"), port)));
}

/* A listener that passes one path on to the agent. It works also when the limit of connections is reached: probes must see that Envoy lives. */
static json_t *path_listener(
	const struct agent_config *c, const char *name, unsigned port, const char *path, const char *agent_path)
{
	json_t *route = json_pack("{s:{s:s}, s:{s:s, s:s, s:s}}", "match", "path", path, "route", "cluster", "agent",
		"prefix_rewrite", agent_path, "timeout", "15s");
	json_t *hcm = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:[{s:s, s:[s], s:[o]}]}, s:[{s:s, s:{s:s}}]}", "@type",
		TYPE "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix", name,
		"common_http_protocol_options", "idle_timeout", "60s", "headers_with_underscores_action",
		"REJECT_REQUEST", "route_config", "virtual_hosts", "name", "agent", "domains", "*", "routes", route,
		"http_filters", "name", "envoy.filters.http.router", "typed_config", "@type",
		TYPE "filters.http.router.v3.Router");
	json_t *listener = json_pack("{s:s, s:i, s:b, s:[{s:[{s:s, s:o}]}]}", "name", name,
		"per_connection_buffer_limit_bytes", 32768, "ignore_global_conn_limit", 1, "filter_chains", "filters",
		"name", "envoy.filters.network.http_connection_manager", "typed_config", hcm);
	listen_everywhere(c, port, listener);
	return listener;
}

/* The workload's own instances, by whose zones Envoy decides how much traffic stays in its own zone (zoneAwareLbSetting). */
static json_t *self_cluster(void)
{
	return json_pack("{s:s, s:s, s:s, s:{s:{s:{}, s:s}, s:s}}", "name", SELF_CLUSTER, "type", "EDS",
		"connect_timeout", "1s", "eds_cluster_config", "eds_config", "ads", "resource_api_version", "V3",
		"service_name", SELF_CLUSTER);
}

/* Port 15090 has Envoy's metrics under Istio's names, so it too asks the agent. */
static json_t *static_resources(const struct agent_config *c, const char *state_dir, bool self, json_t *services)
{
	json_t *clusters = json_pack("[o, o, o]", pipe_cluster("xds-grpc", state_dir, AGENT_XDS_SOCKET),
		pipe_cluster("sds-grpc", state_dir, AGENT_SDS_SOCKET),
		static_cluster("agent", socket_address(STR("127.0.0.1"), status_port(c)), false));
	if (self)
		(void)json_array_append_new(clusters, self_cluster());
	(void)json_array_extend(clusters, services);
	return json_pack("{s:o, s:[o, o]}", "clusters", clusters, "listeners",
		path_listener(c, "prometheus", PROMETHEUS_PORT, "/stats/prometheus", "/stats/envoy"),
		path_listener(c, "health", HEALTH_PORT, "/healthz/ready", "/healthz/ready"));
}

static json_t *dynamic_resources(void)
{
	json_t *ads = json_pack("{s:s, s:s, s:b, s:[{s:{s:s}}]}", "api_type", "DELTA_GRPC", "transport_api_version",
		"V3", "set_node_on_first_message_only", 1, "grpc_services", "envoy_grpc", "cluster_name", "xds-grpc");
	return json_pack("{s:o, s:{s:{}, s:s, s:s}, s:{s:{}, s:s, s:s}}", "ads_config", ads, "cds_config", "ads",
		"initial_fetch_timeout", "0s", "resource_api_version", "V3", "lds_config", "ads",
		"initial_fetch_timeout", "0s", "resource_api_version", "V3");
}

/* ---- statistics */

/* Tags with Istio's names. The first group is taken out of the name, the second is the value; a cluster's or listener's name may have dots
 * in it and ends where a statistic's name begins. */
static const struct {
	const char *tag, *regex;
} stat_tags[] = {
	{"cluster_name", "^cluster\\.((.+?)\\.)(?:ssl\\.|http1\\.|http2\\.|external\\.|internal\\.|canary\\.|version$|["
			 "a-z][a-z0-9]*_)"},
	{"http_conn_manager_prefix", "^http\\.((.+?)\\.)(?:rbac\\.|[a-z][a-z0-9]*_)"},
	{"listener_address", "^listener\\.((.+?)\\.)(?:http\\.|ssl\\.|[a-z][a-z0-9]*_)"},
	{"tcp_prefix", "^tcp\\.((.+?)\\.)[a-z][a-z0-9]*_"},
	{"response_code", "_rq(_(\\d{3}))$"},
	{"response_code_class", "_rq(_(\\dxx))$"},
};

static const struct {
	const char *how, *text;
} kept_stats[] = {
	{"prefix", "istio."}, /* the standard metrics */
	{"prefix", "cluster_manager."},
	{"prefix", "listener_manager."},
	{"prefix", "server."},
	{"prefix", "cluster.xds-grpc."},
	{"prefix", "cluster.sds-grpc."},
	{"suffix", "rbac.allowed"},
	{"suffix", "rbac.denied"},
	{"suffix", "shadow_allowed"},
	{"suffix", "shadow_denied"},
};

static const struct {
	const char *annotation, *how;
} stat_annotations[] = {
	{"sidecar.istio.io/statsInclusionPrefixes", "prefix"},
	{"sidecar.istio.io/statsInclusionSuffixes", "suffix"},
	{"sidecar.istio.io/statsInclusionRegexps", "safe_regex"},
};

static json_t *pattern(const char *how, struct str text)
{
	json_t *value = json_stringn(text.ptr, text.len);
	return streq(how, "safe_regex") ? json_pack("{s:{s:o}}", how, "regex", value) : json_pack("{s:o}", how, value);
}

static bool add_annotated(json_t *patterns, const char *list, const char *how, struct err *e)
{
	struct str rest = str_of(list), part;
	while (str_split(&rest, ',', &part)) {
		part = str_trim(part);
		if (part.len && streq(how, "safe_regex") && !re_check(part, e))
			return false;
		if (part.len)
			(void)json_array_append_new(patterns, pattern(how, part));
	}
	return true;
}

static bool stats_config(const struct agent_config *c, json_t *annotations, json_t **out, struct err *e)
{
	json_t *tags = json_array(), *patterns = json_array();
	for (size_t i = 0; i < ARRAY_LEN(stat_tags); i++)
		(void)json_array_append_new(
			tags, json_pack("{s:s, s:s}", "tag_name", stat_tags[i].tag, "regex", stat_tags[i].regex));
	for (size_t i = 0; i < ARRAY_LEN(kept_stats); i++)
		(void)json_array_append_new(patterns, pattern(kept_stats[i].how, str_of(kept_stats[i].text)));
	if (c->exit_on_zero_connections)
		(void)json_array_append_new(patterns, pattern("suffix", STR(".downstream_cx_active")));
	for (size_t i = 0; i < ARRAY_LEN(stat_annotations); i++) {
		const char *name = stat_annotations[i].annotation;
		if (!add_annotated(patterns, json_string_value(json_object_get(annotations, name)),
			    stat_annotations[i].how, e)) {
			json_decref(tags);
			json_decref(patterns);
			return err_in(e, "annotation %s", name);
		}
	}
	*out = json_pack("{s:b, s:o, s:{s:{s:o}}}", "use_all_default_tags", 0, "stats_tags", tags, "stats_matcher",
		"inclusion_list", "patterns", patterns);
	return true;
}

/* ---- the whole */

static json_t *cluster_manager(const struct agent_config *c, bool self)
{
	json_t *m = json_pack("{s:b}", "enable_deferred_cluster_creation", 1);
	if (self)
		(void)json_object_set_new(m, "local_cluster_name", json_string(SELF_CLUSTER));
	if (c->proxy_mark)
		(void)json_object_set_new(m, "upstream_bind_config",
			json_pack("{s:[{s:s, s:i, s:i, s:I, s:s}]}", "socket_options", "description",
				"traffic capture knows the proxy by it", "level", SOL_SOCKET_NUMBER, "name",
				SO_MARK_NUMBER, "int_value", (json_int_t)c->proxy_mark, "state", "STATE_PREBIND"));
	return m;
}

static json_t *admin(const struct agent_config *c)
{
	return json_pack("{s:o, s:b}", "address", socket_address(STR("127.0.0.1"), c->envoy_admin_port),
		"ignore_global_conn_limit", 1);
}

static json_t *layered_runtime(const json_t *config)
{
	json_t *values = json_pack("{s:i}", "re2.max_program_size.error_level", (int)LIMIT_REGEX_PROGRAM);
	json_t *more = json_object_get(config, "runtimeValues");
	if (json_is_object(more))
		(void)json_object_update(values, more);
	return json_pack("{s:[{s:s, s:o}, {s:s, s:{}}]}", "layers", "name", "fairlead", "static_layer", values, "name",
		"admin", "admin_layer");
}

static json_t *overload_manager(const json_t *config)
{
	const json_t *settings = json_object_get(config, "connectionSettings");
	json_int_t limit = json_integer_value(json_object_get(settings, "globalDownstreamConnectionLimit"));
	return json_pack("{s:[{s:s, s:{s:s, s:I}}]}", "resource_monitors", "name",
		"envoy.resource_monitors.global_downstream_max_connections", "typed_config", "@type",
		TYPE "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
		"max_active_downstream_connections", limit > 0 ? limit : (json_int_t)MAX_DOWNSTREAM_CONNECTIONS);
}

static bool check_state_dir(const char *state_dir, struct err *e)
{
	const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("/" AGENT_XDS_SOCKET);
	if (strlen(state_dir) <= most)
		return true;
	return err_set(e, ERR_LIMIT,
		"--state-dir %s: longer than %zu bytes, too long for the names of Unix sockets in it", state_dir, most);
}

static void drop(json_t **list)
{
	json_decref(*list);
}

bool bootstrap_json(const struct agent_config *c, const char *state_dir, char **out, struct err *e)
{
	json_t *n cleanup(drop) = NULL, *stats cleanup(drop) = NULL, *sinks cleanup(drop) = NULL;
	json_t *services cleanup(drop) = json_array();
	if (!check_state_dir(state_dir, e) || !node(c, &n, e))
		return false;
	const json_t *metadata = json_object_get(n, "metadata");
	json_t *annotations = json_object_get(metadata, "ANNOTATIONS");
	const json_t *config = json_object_get(metadata, "PROXY_CONFIG");
	bool self = metadata_is_true(metadata, "ENABLE_SELF_DISCOVERY");
	if (!stats_config(c, annotations, &stats, e) || !services_clusters(c, config, services, e) ||
		!services_sinks(config, &sinks, e))
		return false;
	json_t *root cleanup(drop) = json_pack("{s:O, s:o, s:o, s:o, s:O, s:O, s:{s:b}, s:o, s:o, s:o}", "node", n,
		"admin", admin(c), "dynamic_resources", dynamic_resources(), "static_resources",
		static_resources(c, state_dir, self, services), "stats_config", stats, "stats_sinks", sinks,
		"deferred_stat_options", "enable_deferred_creation_stats", 1, "cluster_manager",
		cluster_manager(c, self), "layered_runtime", layered_runtime(config), "overload_manager",
		overload_manager(config));
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	if (!text)
		return err_set(e, ERR_PEER, "the bootstrap has text that is not UTF-8");
	*out = text;
	return true;
}
