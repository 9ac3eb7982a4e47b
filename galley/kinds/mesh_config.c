#include "cfg/mesh.pb-c.h"
#include "common/base/limits.h"
#include "common/pki/pki.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: MeshConfig. There is one, named "default". Normal form: what is absent gets Istio's documented default, so that pilot and
 * agents never ask what an empty field means.
 */

#define API "api: MeshConfig."
#define CONNECTION "api: ConnectionSettings."

static void default_pool(struct check *c, const Mesh__MeshConfig__DefaultTrafficPolicy *p)
{
	if (p)
		check_connection_pool(c, p->connection_pool, "spec.defaultTrafficPolicy.connectionPool");
}

/* As the API server checks label selectors. */
static void selector(struct check *c, const Mesh__LabelSelector *s, const char *path)
{
	static const char source[] = "kube: LabelSelectorRequirement";
	for (size_t i = 0; s && i < s->n_matchexpressions; i++) {
		const Mesh__LabelSelectorRequirement *r = s->matchexpressions[i];
		const char *at = path_at(c, "%s.matchExpressions[%zu]", path, i);
		bool set = streq(r->operator_, "In") || streq(r->operator_, "NotIn");
		if (!set && !streq(r->operator_, "Exists") && !streq(r->operator_, "DoesNotExist"))
			check_error(c, "selector-operator", source, path_at(c, "%s.operator", at),
				"\"%s\" is none of In, NotIn, Exists, DoesNotExist", r->operator_);
		else if (set != (r->n_values > 0))
			check_error(c, "selector-values", source, path_at(c, "%s.values", at),
				set ? "%s needs values" : "%s takes no values", r->operator_);
		if (str_empty(r->key))
			check_error(c, "required", source, path_at(c, "%s.key", at), "is required");
	}
}

static void selectors(struct check *c, const Mesh__MeshConfig *m)
{
	const Mesh__ServiceEntryVisibility *v = m->service_entry_visibility;
	for (size_t i = 0; i < m->n_discovery_selectors; i++)
		selector(c, m->discovery_selectors[i], path_at(c, "spec.discoverySelectors[%zu]", i));
	for (size_t i = 0; v && i < v->n_policies; i++)
		for (size_t k = 0; k < v->policies[i]->n_matching_rules; k++)
			selector(c, v->policies[i]->matching_rules[k]->namespace_selector,
				path_at(c,
					"spec.serviceEntryVisibility.policies[%zu].matchingRules[%zu]."
					"namespaceSelector",
					i, k));
}

/* Envoy refuses every listener and cluster that names a curve which it does not know. */
static void curves(struct check *c, const Mesh__MeshConfig__TLSConfig *t, const char *path)
{
	static const char *const known[] = {"P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"};
	for (size_t i = 0; t && i < t->n_ecdh_curves; i++) {
		bool found = false;
		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			found |= streq(t->ecdh_curves[i], known[k]);
		if (!found)
			check_error(c, "tls-curve", API "tlsDefaults.ecdhCurves",
				path_at(c, "%s.ecdhCurves[%zu]", path, i), "\"%s\" is no curve that Envoy knows",
				t->ecdh_curves[i]);
	}
	if (t)
		check_unique(c, t->ecdh_curves, t->n_ecdh_curves, path_at(c, "%s.ecdhCurves", path), "duplicate",
			API "tlsDefaults.ecdhCurves");
}

static void tls(struct check *c, const Mesh__MeshConfig *m)
{
	const Mesh__MeshConfig__OutboundTrafficPolicy *p = m->outbound_traffic_policy;
	if (m->tls_defaults && m->tls_defaults->min_protocol_version)
		check_error(c, "mesh-tls", API "tlsDefaults", "spec.tlsDefaults.minProtocolVersion",
			"is not supported; see meshMTLS");
	curves(c, m->tls_defaults, "spec.tlsDefaults");
	if (!p || !p->tls)
		return;
	check_client_tls(c, p->tls, "spec.outboundTrafficPolicy.tls");
	if (p->mode != MESH__MESH_CONFIG__OUTBOUND_TRAFFIC_POLICY__MODE__ALLOW_ANY_DYNAMIC_DNS)
		check_warn(c, "ineffective", API "outboundTrafficPolicy.tls", "spec.outboundTrafficPolicy.tls",
			"has an effect with mode ALLOW_ANY_DYNAMIC_DNS only");
}

/* ---- roots of others. Envoy refuses a bundle as a whole when one of its certificates is not a CA's or cannot be read. */
#define ROOTS API "caCertificates"
#define URL_MAX_BYTES 1000u /* it becomes a key of the model */
#define URLS_MAX 100u

static size_t roots_in(struct check *c, const char *pem, const char *path)
{
	struct pki_cert *certs = NULL;
	size_t n = 0;
	struct err e = {0};
	if (strstr(pem, "PRIVATE KEY-----"))
		check_error(
			c, "ca-private", ROOTS ".pem", path, "holds a private key, which would be told to everybody");
	else if (!pki_certs_parse(c->arena, str_of(pem), &certs, &n, &e))
		check_error(c, "ca-pem", ROOTS ".pem", path, "is not PEM that can be read: %s", e.text);
	for (size_t i = 0; i < n; i++)
		if (!certs[i].ca)
			check_error(
				c, "ca-pem", ROOTS ".pem", path, "\"%s\" is not a CA's certificate", certs[i].subject);
	return strlen(pem);
}

static const char *bundle_url_problem(struct str url)
{
	static const struct str scheme = {"https://", 8};
	size_t at;
	if (str_find(url, ':', &at) && !str_starts(url, scheme) && str_starts(str_from(url, at), STR("://")))
		return "is not https";
	if (str_starts(url, scheme))
		url = str_from(url, scheme.len);
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.ptr[i] <= ' ' || (unsigned char)url.ptr[i] > '~')
			return "has characters that belong into no URL";
	if (url.len > URL_MAX_BYTES)
		return "is too long";
	return !url.len || url.ptr[0] == '/' ? "names no host" : NULL;
}

static size_t bundle_url(struct check *c, const char *url, const char *path)
{
	const char *problem = bundle_url_problem(str_of(url));
	if (problem)
		check_error(c, "ca-url", ROOTS ".spiffeBundleUrl", path, "\"%s\" %s", url, problem);
	return 1;
}

static void roots(struct check *c, const Mesh__MeshConfig *m)
{
	size_t bytes = 0, urls = 0;
	for (size_t i = 0; i < m->n_ca_certificates; i++) {
		const Mesh__MeshConfig__CertificateData *d = m->ca_certificates[i];
		const char *at = path_at(c, "spec.caCertificates[%zu]", i);
		if (d->certificate_data_case == MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_PEM)
			bytes += roots_in(c, d->pem, path_at(c, "%s.pem", at));
		else if (d->certificate_data_case ==
			 MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_SPIFFE_BUNDLE_URL)
			urls += bundle_url(c, d->spiffe_bundle_url, path_at(c, "%s.spiffeBundleUrl", at));
		else
			check_error(c, "required", ROOTS, at, "needs one of pem, spiffeBundleUrl");
		if (d->n_cert_signers)
			check_warn(c, "ineffective", ROOTS ".certSigners", path_at(c, "%s.certSigners", at),
				"certificates come from citadel, never from a signer of Kubernetes; the roots are "
				"believed all the same");
	}
	if (urls > URLS_MAX)
		check_error(c, "ca-url", ROOTS ".spiffeBundleUrl", "spec.caCertificates", "has more than %u URLs",
			URLS_MAX);
	if (bytes > LIMIT_PEM_BYTES / 2)
		check_error(c, "ca-pem", "limits: the other half of a bundle is the CA's", "spec.caCertificates",
			"has more than %u bytes of PEM", LIMIT_PEM_BYTES / 2);
}

/* What Envoy itself calls: its bootstrap has files and the workload's certificate, no Secrets. */
static void remote(struct check *c, const Mesh__RemoteService *s, const char *path)
{
	const char *tls = path_at(c, "%s.tlsSettings", path);
	if (!s || !s->tls_settings)
		return;
	check_client_tls(c, s->tls_settings, tls);
	if (!str_empty(s->tls_settings->credential_name))
		check_error(c, "remote-service", "api: RemoteService.tlsSettings", path_at(c, "%s.credentialName", tls),
			"has to be files: the proxy needs them before anything can send it a Secret");
}

static void validate(struct check *c, const void *message)
{
	const Mesh__MeshConfig *m = message;
	selectors(c, m);
	tls(c, m);
	roots(c, m);
	if (m->default_config) {
		remote(c, m->default_config->envoy_access_log_service, "spec.defaultConfig.envoyAccessLogService");
		remote(c, m->default_config->envoy_metrics_service, "spec.defaultConfig.envoyMetricsService");
	}
	if (!streq(c->name, "default"))
		check_error(c, "mesh-name", "docs: the mesh has one MeshConfig", "metadata.name",
			"\"%s\": the MeshConfig is named \"default\"", c->name);
	check_locality(c, m->locality_lb_setting, true, "spec.localityLbSetting");
	check_zone_aware(c, m->zone_aware_lb_setting, true, "spec.zoneAwareLbSetting");
	check_retry(c, m->default_http_retry_policy, "spec.defaultHttpRetryPolicy");
	default_pool(c, m->default_traffic_policy);
	check_export_list(c, m->default_service_export_to, m->n_default_service_export_to,
		"spec.defaultServiceExportTo", false, false);
	check_export_list(c, m->default_virtual_service_export_to, m->n_default_virtual_service_export_to,
		"spec.defaultVirtualServiceExportTo", false, false);
	check_export_list(c, m->default_destination_rule_export_to, m->n_default_destination_rule_export_to,
		"spec.defaultDestinationRuleExportTo", false, false);
	if (m->mesh_mtls && m->mesh_mtls->n_ecdh_curves)
		check_error(
			c, "mesh-tls", API "meshMTLS", "spec.meshMTLS.ecdhCurves", "is not supported; see tlsDefaults");
}

static const struct rule rules[] = {
	{"proxyListenPort", check_port, .source = API "proxyListenPort"},
	{"proxyInboundListenPort", check_port, .source = API "proxyInboundListenPort"},
	{"proxyHttpPort", check_port, .source = API "proxyHttpPort"},
	{"connectTimeout", check_duration, 1, 3600e3, .source = API "connectTimeout"},
	{"protocolDetectionTimeout", check_duration, 0, 3600e3, .source = API "protocolDetectionTimeout"},
	{"trustDomain", check_trust_domain, .source = API "trustDomain"},
	{"trustDomainAliases[]", check_trust_domain, .source = API "trustDomainAliases"},
	{"caCertificates[].trustDomains[]", check_trust_domain, .source = API "caCertificates.trustDomains"},
	{"rootNamespace", check_label, .source = API "rootNamespace"},
	{"serviceSettings[].hosts[]", check_host_or_ip, .source = API "serviceSettings"},
	{"defaultServiceExportTo[]", check_export_to, .source = API "defaultServiceExportTo"},
	{"defaultVirtualServiceExportTo[]", check_export_to, .source = API "defaultVirtualServiceExportTo"},
	{"defaultDestinationRuleExportTo[]", check_export_to, .source = API "defaultDestinationRuleExportTo"},
	{"extensionProviders[].name", NULL, .required = true, .source = API "extensionProviders.name"},
	{"defaultConfig.drainDuration", check_duration, 1, 3600e3, .source = "api: ProxyConfig.drainDuration"},
	{"defaultConfig.terminationDrainDuration", check_duration, 0, 0,
		.source = "api: ProxyConfig.terminationDrainDuration"},
	{"defaultConfig.concurrency", check_wrapped, 0, 1024, .source = "api: ProxyConfig.concurrency"},
	{"defaultConfig.envoyAccessLogService.address", check_address, .source = "api: RemoteService.address"},
	{"defaultConfig.envoyMetricsService.address", check_address, .source = "api: RemoteService.address"},
	{"defaultConfig.envoyMetricsServiceAddress", check_address,
		.source = "api: ProxyConfig.envoyMetricsServiceAddress"},
	{"defaultConfig.statsdUdpAddress", check_address, .max = 1, .source = "api: ProxyConfig.statsdUdpAddress"},
	{"defaultConfig.fileFlushInterval", check_duration, 1, 3600e3, .source = "api: ProxyConfig.fileFlushInterval"},
	{"defaultConfig.proxyAdminPort", check_port, .source = "api: ProxyConfig.proxyAdminPort"},
	{"defaultConfig.statusPort", check_number, 0, 65535, .source = "api: ProxyConfig.statusPort"},
	{"defaultConfig.connectionSettings.httpMaxConcurrentStreams", check_wrapped, 1, 2147483647,
		.source = CONNECTION "httpMaxConcurrentStreams"},
	{"defaultConfig.connectionSettings.http2InitialStreamWindowSize", check_wrapped, 65535, 2147483647,
		.source = CONNECTION "http2InitialStreamWindowSize"},
	{"defaultConfig.connectionSettings.http2InitialConnectionWindowSize", check_wrapped, 65535, 2147483647,
		.source = CONNECTION "http2InitialConnectionWindowSize"},
	{"defaultConfig.connectionSettings.listenerPerConnectionBufferLimitBytes", check_wrapped, 1, 2147483647,
		.source = CONNECTION "listenerPerConnectionBufferLimitBytes"},
	{"defaultConfig.connectionSettings.clusterPerConnectionBufferLimitBytes", check_wrapped, 1, 2147483647,
		.source = CONNECTION "clusterPerConnectionBufferLimitBytes"},
	{"defaultConfig.connectionSettings.globalDownstreamConnectionLimit", check_wrapped, 1, 2147483647,
		.source = CONNECTION "globalDownstreamConnectionLimit"},
	{"defaultConfig.tracing.sampling", check_number, 0, 100, .source = "api: Tracing.sampling"},
};

static Wkt__Duration *seconds(struct normal *n, int64_t s)
{
	Wkt__Duration *d = pb_new(n->arena, &wkt__duration__descriptor);
	d->seconds = s;
	return d;
}

static char *text_or(struct normal *n, char *text, const char *fallback)
{
	return str_empty(text) ? arena_strdup(n->arena, fallback) : text;
}

/* Certificates alone, without the text that may be around them. */
static char *bare(struct normal *n, const char *pem)
{
	struct str out = STR("");
	return pki_bundle_join(n->arena, str_of(pem), str_of(pem), &out, NULL) ? arena_cstr(n->arena, out)
									       : arena_strdup(n->arena, pem);
}

static void normal_roots(struct normal *n, Mesh__MeshConfig *m)
{
	for (size_t i = 0; i < m->n_ca_certificates; i++) {
		Mesh__MeshConfig__CertificateData *d = m->ca_certificates[i];
		if (d->certificate_data_case == MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_PEM)
			d->pem = bare(n, d->pem);
		if (d->certificate_data_case ==
				MESH__MESH_CONFIG__CERTIFICATE_DATA__CERTIFICATE_DATA_SPIFFE_BUNDLE_URL &&
			!str_starts(str_of(d->spiffe_bundle_url), STR("https://")))
			d->spiffe_bundle_url = arena_printf(n->arena, "https://%s", d->spiffe_bundle_url);
	}
}

static void normalise(struct normal *n, void *message)
{
	Mesh__MeshConfig *m = message;
	normal_roots(n, m);
	m->trust_domain = text_or(n, m->trust_domain, "cluster.local");
	m->root_namespace = text_or(n, m->root_namespace, "istio-system");
	m->ingress_class = text_or(n, m->ingress_class, "istio");
	m->ingress_service = text_or(n, m->ingress_service, "istio-ingressgateway");
	m->proxy_listen_port = m->proxy_listen_port ? m->proxy_listen_port : 15001;
	m->proxy_inbound_listen_port = m->proxy_inbound_listen_port ? m->proxy_inbound_listen_port : 15006;
	if (!m->connect_timeout)
		m->connect_timeout = seconds(n, 10);
	if (!m->protocol_detection_timeout)
		m->protocol_detection_timeout = seconds(n, 0);
	if (!m->dns_refresh_rate)
		m->dns_refresh_rate = seconds(n, 60);
	if (!m->enable_auto_mtls) {
		m->enable_auto_mtls = pb_new(n->arena, &wkt__bool_value__descriptor);
		m->enable_auto_mtls->value = true;
	}
	if (!m->outbound_traffic_policy) {
		m->outbound_traffic_policy = pb_new(n->arena, &mesh__mesh_config__outbound_traffic_policy__descriptor);
		m->outbound_traffic_policy->mode = MESH__MESH_CONFIG__OUTBOUND_TRAFFIC_POLICY__MODE__ALLOW_ANY;
	}
	if (!m->default_config)
		m->default_config = PB_NEW(n->arena, Mesh__ProxyConfig, mesh__proxy_config);
}

extern const struct kind_ops mesh_config_ops;
const struct kind_ops mesh_config_ops = {RULES(rules), .validate = validate, .normalise = normalise};
