/*
 * DOC: See the header. A service is addressed by a name or an address with its port, and is called by Envoy past its own listeners, as the workload
 * itself would call it: TLS is what tlsSettings say, ISTIO_MUTUAL with the workload's certificate. Names of clusters are Istio's.
 */
#include "agent/services.h"

#include "agent/bootstrap_parts.h"
#include "common/io/addr.h"

#define TYPE "type.googleapis.com/envoy.extensions."
#define METRICS "type.googleapis.com/envoy.config.metrics.v3."
#define METRICS_CLUSTER "envoy_metrics_service"
#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"
#define HOST_IP \
	"$(HOST_IP)" /* in an address: the machine's, as Kubernetes would write it into a container's arguments */

static const struct service {
	const char *field, *address_field, *cluster; /* address_field: deprecated, an address alone; NULL: none */
} services[] = {
	{"envoyAccessLogService", NULL, "envoy_accesslog_service"},
	{"envoyMetricsService", "envoyMetricsServiceAddress", METRICS_CLUSTER},
};

static const char *text_in(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static const char *address_of(const struct service *s, const json_t *config)
{
	const char *address = text_in(json_object_get(config, s->field), "address");
	return str_empty(address) && s->address_field ? text_in(config, s->address_field) : address;
}

/* ---- where */

static const char *environment_of(const struct agent_config *c, const char *name)
{
	for (char *const *v = c->environment; v && *v; v++)
		if (str_starts(str_of(*v), str_of(name)) && (*v)[strlen(name)] == '=')
			return *v + strlen(name) + 1;
	return "";
}

static bool split(const char *text, struct str *host, uint16_t *port, struct err *e)
{
	return addr_split(str_of(text), host, port, e) &&
	       ((host->len && *port) || err_set(e, ERR_PEER, "\"%.200s\": host:port is expected", text));
}

static bool endpoint(const struct agent_config *c, const char *text, json_t **out, struct err *e)
{
	struct str host;
	uint16_t port;
	if (!split(text, &host, &port, e))
		return false;
	if (str_eqc(host, HOST_IP))
		host = str_of(environment_of(c, "HOST_IP"));
	if (!host.len)
		return err_set(e, ERR_PEER, "\"%.200s\": HOST_IP is not set in the agent's environment", text);
	*out = socket_address(host, port);
	return true;
}

/* Names are asked for in the families that the pod has. */
static const char *family(const struct agent_config *c)
{
	struct families f = pod_families(c);
	return f.v4 && f.v6 ? "ALL" : f.v6 ? "V6_ONLY" : "V4_ONLY";
}

/* ---- how */

static json_t *sds(const char *name)
{
	return json_pack("{s:s, s:{s:{s:s, s:s, s:b, s:[{s:{s:s}}]}, s:s, s:s}}", "name", name, "sds_config",
		"api_config_source", "api_type", "GRPC", "transport_api_version", "V3",
		"set_node_on_first_message_only", 1, "grpc_services", "envoy_grpc", "cluster_name", "sds-grpc",
		"initial_fetch_timeout", "0s", "resource_api_version", "V3");
}

static json_t *file(const char *path)
{
	return json_pack("{s:s}", "filename", path);
}

/* A name without a scheme is a DNS name. */
static json_t *validation(const json_t *tls)
{
	const json_t *names = json_object_get(tls, "subjectAltNames");
	json_t *matchers = json_array();
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		if (name)
			(void)json_array_append_new(
				matchers, json_pack("{s:s, s:{s:s}}", "san_type", strstr(name, "://") ? "URI" : "DNS",
						  "matcher", "exact", name));
	}
	return json_pack("{s:o}", "match_typed_subject_alt_names", matchers);
}

static json_t *context_of_mesh(const json_t *tls)
{
	return json_pack("{s:[o], s:{s:o, s:o}, s:[s, s]}", "tls_certificate_sds_secret_configs", sds("default"),
		"combined_validation_context", "default_validation_context", validation(tls),
		"validation_context_sds_secret_config", sds("ROOTCA"), "alpn_protocols", "istio", "h2");
}

static json_t *context_of_files(const json_t *tls, bool mutual)
{
	json_t *c = json_pack("{s:[s]}", "alpn_protocols", "h2");
	const char *ca = text_in(tls, "caCertificates");
	if (mutual)
		(void)json_object_set_new(c, "tls_certificates",
			json_pack("[{s:o, s:o}]", "certificate_chain", file(text_in(tls, "clientCertificate")),
				"private_key", file(text_in(tls, "privateKey"))));
	if (!json_is_true(json_object_get(tls, "insecureSkipVerify"))) {
		json_t *v = validation(tls);
		(void)json_object_set_new(v, "trusted_ca", file(str_empty(ca) ? SYSTEM_ROOTS : ca));
		(void)json_object_set_new(c, "validation_context", v);
	}
	return c;
}

/* *out NULL: plain text. */
static bool transport(const json_t *tls, const char *cluster, json_t **out, struct err *e)
{
	const char *mode = text_in(tls, "mode"), *sni = text_in(tls, "sni");
	bool mesh = streq(mode, "ISTIO_MUTUAL"), mutual = streq(mode, "MUTUAL");
	if (str_empty(mode) || streq(mode, "DISABLE"))
		return true;
	if (!mesh && !mutual && !streq(mode, "SIMPLE"))
		return err_set(e, ERR_PEER,
			"tlsSettings.mode: \"%.40s\" is not DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL", mode);
	if (!str_empty(text_in(tls, "credentialName")))
		return err_set(e, ERR_PEER, "tlsSettings.credentialName: a bootstrap has files only");
	if (mutual && (str_empty(text_in(tls, "clientCertificate")) || str_empty(text_in(tls, "privateKey"))))
		return err_set(e, ERR_PEER, "tlsSettings: MUTUAL needs clientCertificate and privateKey");
	json_t *context = mesh ? context_of_mesh(tls) : context_of_files(tls, mutual);
	(void)json_object_set_new(context, "tls_params", json_pack("{s:s}", "tls_maximum_protocol_version", "TLSv1_3"));
	*out = json_pack("{s:s, s:{s:s, s:o, s:s}}", "name", "envoy.transport_sockets.tls", "typed_config", "@type",
		TYPE "transport_sockets.tls.v3.UpstreamTlsContext", "common_tls_context", context, "sni",
		mesh && str_empty(sni) ? cluster : sni);
	return true;
}

static bool keepalive(const json_t *k, json_t **out, struct err *e)
{
	static const char *const rows[][2] = {{"time", "keepalive_time"}, {"interval", "keepalive_interval"}};
	json_int_t probes = json_integer_value(json_object_get(k, "probes"));
	json_t *options = json_object();
	int64_t ns = 0;
	if (probes > 0)
		(void)json_object_set_new(options, "keepalive_probes", json_integer(probes));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *text = text_in(k, rows[i][0]);
		if (!str_empty(text) && (!str_duration(str_of(text), &ns) || ns < 0)) {
			json_decref(options);
			return err_set(e, ERR_PEER, "tcpKeepalive.%s: \"%.40s\" is not a duration", rows[i][0], text);
		}
		if (!str_empty(text) && ns >= 1000000000)
			(void)json_object_set_new(options, rows[i][1], json_integer(ns / 1000000000));
	}
	*out = json_pack("{s:o}", "tcp_keepalive", options);
	return true;
}

/* ---- the parts of the bootstrap */

static json_t *cluster(const struct agent_config *c, const char *name, json_t *address)
{
	return json_pack("{s:s, s:s, s:b, s:s, s:s, s:{s:{s:s, s:{s:{}}}}, s:{s:s, s:[{s:[{s:{s:o}}]}]}}", "name", name,
		"type", "STRICT_DNS", "respect_dns_ttl", 1, "dns_lookup_family", family(c), "connect_timeout", "1s",
		"typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "@type",
		TYPE "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config", "http2_protocol_options",
		"load_assignment", "cluster_name", name, "endpoints", "lb_endpoints", "endpoint", "address", address);
}

static bool add_cluster(const struct agent_config *c, const struct service *s, const char *address,
	const json_t *settings, json_t *clusters, struct err *e)
{
	const json_t *alive = json_object_get(settings, "tcpKeepalive");
	json_t *at = NULL, *tls = NULL, *options = NULL;
	bool ok = transport(json_object_get(settings, "tlsSettings"), s->cluster, &tls, e) &&
		  (!alive || keepalive(alive, &options, e)) && endpoint(c, address, &at, e);
	if (!ok) {
		json_decref(tls);
		json_decref(options);
		return err_in(e, "proxy-config: %s", s->field);
	}
	json_t *made = cluster(c, s->cluster, at);
	if (tls)
		(void)json_object_set_new(made, "transport_socket", tls);
	if (options)
		(void)json_object_set_new(made, "upstream_connection_options", options);
	(void)json_array_append_new(clusters, made);
	return true;
}

bool services_clusters(const struct agent_config *c, const json_t *config, json_t *clusters, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		const struct service *s = &services[i];
		const char *address = address_of(s, config);
		if (!str_empty(address) && !add_cluster(c, s, address, json_object_get(config, s->field), clusters, e))
			return false;
	}
	return true;
}

static json_t *sink(const char *name, const char *type, json_t *config)
{
	(void)json_object_set_new(config, "@type", json_string(type));
	return json_pack("{s:s, s:o}", "name", name, "typed_config", config);
}

static bool has_metrics_service(const json_t *config)
{
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (streq(services[i].cluster, METRICS_CLUSTER) && !str_empty(address_of(&services[i], config)))
			return true;
	return false;
}

bool services_sinks(const json_t *config, json_t **out, struct err *e)
{
	const char *statsd = text_in(config, "statsdUdpAddress");
	struct addr parsed;
	struct str host = STR("");
	uint16_t port = 0;
	/* Envoy looks up no names for it. */
	if (!str_empty(statsd) && (!split(statsd, &host, &port, e) || !addr_parse(str_of(statsd), &parsed, e)))
		return err_in(e, "proxy-config: statsdUdpAddress");
	*out = json_array();
	if (has_metrics_service(config))
		(void)json_array_append_new(
			*out, sink("envoy.stat_sinks.metrics_service", METRICS "MetricsServiceConfig",
				      json_pack("{s:s, s:{s:{s:s}}}", "transport_api_version", "V3", "grpc_service",
					      "envoy_grpc", "cluster_name", METRICS_CLUSTER)));
	if (host.len)
		(void)json_array_append_new(*out, sink("envoy.stat_sinks.statsd", METRICS "StatsdSink",
							  json_pack("{s:o}", "address", socket_address(host, port))));
	return true;
}
