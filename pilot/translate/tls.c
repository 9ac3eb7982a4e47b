/*
 * DOC: TLS contexts. The ALPN names of the mesh choose the server's filter chain only: a server negotiates none of istio-http/1.x
 * and istio-h2, because Envoy's codec takes a negotiated name for the protocol, while without one it looks at the first bytes.
 * TLS 1.2 at least on both sides; a client of Envoy's stops at 1.2 unless the maximum is set.
 */
#include "pilot/translate/tls.h"

#include "xds/raw_buffer.pb-c.h"

static void add_alpn(struct arena *a, Tls__CommonTlsContext *c, const char *const *names)
{
	for (; *names; names++)
		pb_add(a, c, alpn_protocols, arena_strdup(a, *names));
}

static const char *const client_alpn[ALPN_COUNT][4] = {
	[ALPN_TCP] = {"istio-peer-exchange", "istio"},
	[ALPN_HTTP1] = {"istio-http/1.1", "istio"},
	[ALPN_HTTP2] = {"istio-h2", "istio"},
	[ALPN_HTTP_ANY] = {"istio-peer-exchange", "istio"},
};
/* What a server outside the mesh is offered. */
static const char *const plain_alpn[ALPN_COUNT][4] = {
	[ALPN_TCP] = {NULL},
	[ALPN_HTTP1] = {"http/1.1"},
	[ALPN_HTTP2] = {"h2"},
	[ALPN_HTTP_ANY] = {NULL},
};
/* Envoy has no notion of the system's roots (it accepts system_root_certs and then verifies nothing), so the file is named. */
static const char system_roots[] = "/etc/ssl/certs/ca-certificates.crt";
static const char *const server_alpn_http[] = {"h2", "http/1.1", NULL};
static const char *const server_alpn_tcp[] = {"istio", NULL};

static Core__ConfigSource *sds_source(struct arena *a)
{
	Core__ConfigSource *c = PB_NEW(a, Core__ConfigSource, core__config_source);
	Core__ApiConfigSource *api = PB_NEW(a, Core__ApiConfigSource, core__api_config_source);
	Core__GrpcService *grpc = PB_NEW(a, Core__GrpcService, core__grpc_service);

	grpc->envoy_grpc = PB_NEW(a, Core__GrpcService__EnvoyGrpc, core__grpc_service__envoy_grpc);
	grpc->envoy_grpc->cluster_name = arena_strdup(a, "sds-grpc");
	grpc->target_specifier_case = CORE__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC;
	api->api_type = CORE__API_CONFIG_SOURCE__API_TYPE__GRPC;
	api->transport_api_version = CORE__API_VERSION__V3;
	api->set_node_on_first_message_only = true;
	pb_add(a, api, grpc_services, grpc);
	c->api_config_source = api;
	c->config_source_specifier_case = CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE;
	c->initial_fetch_timeout = build_ms(a, 0);
	c->resource_api_version = CORE__API_VERSION__V3;
	return c;
}

static Tls__SdsSecretConfig *sds_secret(struct arena *a, const char *name)
{
	Tls__SdsSecretConfig *s = PB_NEW(a, Tls__SdsSecretConfig, tls__sds_secret_config);

	s->name = arena_strdup(a, name);
	s->sds_config = sds_source(a);
	return s;
}

static Tls__TlsParameters *tls_params(struct arena *a)
{
	Tls__TlsParameters *p = PB_NEW(a, Tls__TlsParameters, tls__tls_parameters);

	p->tls_minimum_protocol_version = TLS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2;
	p->tls_maximum_protocol_version = TLS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3;
	return p;
}

static void add_san(struct arena *a, Tls__CertificateValidationContext *v, Tls__SubjectAltNameMatcher__SanType type,
	const char *san)
{
	Tls__SubjectAltNameMatcher *m = PB_NEW(a, Tls__SubjectAltNameMatcher, tls__subject_alt_name_matcher);

	m->san_type = type;
	m->matcher = build_exact(a, san);
	pb_add(a, v, match_typed_subject_alt_names, m);
}

/* A name without a scheme is a DNS name. */
static void add_any_san(struct arena *a, Tls__CertificateValidationContext *v, const char *san)
{
	bool uri = strstr(san, "://") != NULL;

	add_san(a, v, uri ? TLS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI : TLS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS,
		san);
}

static Tls__CommonTlsContext *mesh_context(struct arena *a, const struct str *sans, size_t n_sans)
{
	Tls__CommonTlsContext *c = PB_NEW(a, Tls__CommonTlsContext, tls__common_tls_context);
	Tls__CommonTlsContext__CombinedCertificateValidationContext *combined = PB_NEW(a,
		Tls__CommonTlsContext__CombinedCertificateValidationContext,
		tls__common_tls_context__combined_certificate_validation_context);
	Tls__CertificateValidationContext *v = PB_NEW(
		a, Tls__CertificateValidationContext, tls__certificate_validation_context);

	for (size_t i = 0; i < n_sans; i++)
		add_any_san(a, v, arena_cstr(a, sans[i]));
	combined->default_validation_context = v;
	combined->validation_context_sds_secret_config = sds_secret(a, "ROOTCA");
	c->combined_validation_context = combined;
	c->validation_context_type_case = TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
	c->tls_params = tls_params(a);
	pb_add(a, c, tls_certificate_sds_secret_configs, sds_secret(a, "default"));
	return c;
}

char *tls_sni(struct arena *a, uint32_t port, const char *subset, const char *host)
{
	return arena_printf(a, "outbound_.%u_.%s_.%s", port, subset ? subset : "", host);
}

Core__TransportSocket *tls_mutual_client(
	struct arena *a, enum alpn alpn, const char *sni, const struct str *sans, size_t n_sans)
{
	Tls__UpstreamTlsContext *t = PB_NEW(a, Tls__UpstreamTlsContext, tls__upstream_tls_context);

	t->common_tls_context = mesh_context(a, sans, n_sans);
	add_alpn(a, t->common_tls_context, client_alpn[alpn]);
	t->sni = arena_strdup(a, sni);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}

static Core__DataSource *file_source(struct arena *a, const char *path)
{
	Core__DataSource *d = PB_NEW(a, Core__DataSource, core__data_source);

	d->filename = arena_strdup(a, path);
	d->specifier_case = CORE__DATA_SOURCE__SPECIFIER_FILENAME;
	return d;
}

static void add_certificate(struct arena *a, Tls__CommonTlsContext *c, const char *chain, const char *key)
{
	Tls__TlsCertificate *t = PB_NEW(a, Tls__TlsCertificate, tls__tls_certificate);

	if (str_empty(chain))
		return;
	t->certificate_chain = file_source(a, chain);
	t->private_key = file_source(a, key);
	pb_add(a, c, tls_certificates, t);
}

static void set_roots(struct arena *a, Tls__CommonTlsContext *c, const char *ca, char *const *sans, size_t n_sans)
{
	Tls__CertificateValidationContext *v = PB_NEW(
		a, Tls__CertificateValidationContext, tls__certificate_validation_context);

	v->trusted_ca = file_source(a, str_empty(ca) ? system_roots : ca);
	for (size_t i = 0; i < n_sans; i++)
		add_any_san(a, v, sans[i]);
	c->validation_context = v;
	c->validation_context_type_case = TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
}

Core__TransportSocket *tls_client(struct arena *a, const Cfg__ClientTLSSettings *s, enum alpn alpn, const char *sni)
{
	Tls__UpstreamTlsContext *t = PB_NEW(a, Tls__UpstreamTlsContext, tls__upstream_tls_context);
	Tls__CommonTlsContext *c = PB_NEW(a, Tls__CommonTlsContext, tls__common_tls_context);

	c->tls_params = tls_params(a);
	if (!s->insecure_skip_verify || !s->insecure_skip_verify->value)
		set_roots(a, c, s->ca_certificates, s->subject_alt_names, s->n_subject_alt_names);
	if (s->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL)
		add_certificate(a, c, s->client_certificate, s->private_key);
	add_alpn(a, c, plain_alpn[alpn]);
	t->common_tls_context = c;
	t->sni = arena_strdup(a, str_empty(s->sni) ? sni : s->sni);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}

Core__TransportSocket *tls_mutual_server(struct arena *a, bool http)
{
	Tls__DownstreamTlsContext *t = PB_NEW(a, Tls__DownstreamTlsContext, tls__downstream_tls_context);

	t->common_tls_context = mesh_context(a, NULL, 0);
	add_alpn(a, t->common_tls_context, http ? server_alpn_http : server_alpn_tcp);
	t->require_client_certificate = build_bool(a, true);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}

Core__TransportSocket *tls_raw_buffer(struct arena *a)
{
	return build_transport_socket(
		a, "envoy.transport_sockets.raw_buffer", PB_NEW(a, RawBuf__RawBuffer, raw_buf__raw_buffer));
}

/* Istio's TLSProtocol has the same numbers as Envoy's; AUTO means 1.2 at least. */
static Tls__TlsParameters *gateway_params(struct arena *a, const Cfg__ServerTLSSettings *s)
{
	Tls__TlsParameters *p = tls_params(a);

	if (s->min_protocol_version)
		p->tls_minimum_protocol_version = (Tls__TlsParameters__TlsProtocol)s->min_protocol_version;
	if (s->max_protocol_version)
		p->tls_maximum_protocol_version = (Tls__TlsParameters__TlsProtocol)s->max_protocol_version;
	for (size_t i = 0; i < s->n_cipher_suites; i++)
		pb_add(a, p, cipher_suites, arena_strdup(a, s->cipher_suites[i]));
	return p;
}

Core__TransportSocket *tls_gateway(struct arena *a, const Cfg__ServerTLSSettings *s)
{
	Tls__DownstreamTlsContext *t = PB_NEW(a, Tls__DownstreamTlsContext, tls__downstream_tls_context);
	Tls__CommonTlsContext *c;
	bool verify = s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__MUTUAL ||
		      s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__OPTIONAL_MUTUAL;

	if (s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL) {
		c = mesh_context(a, NULL, 0);
		verify = true;
	} else {
		c = PB_NEW(a, Tls__CommonTlsContext, tls__common_tls_context);
		add_certificate(a, c, s->server_certificate, s->private_key);
		for (size_t i = 0; i < s->n_tls_certificates; i++)
			add_certificate(
				a, c, s->tls_certificates[i]->server_certificate, s->tls_certificates[i]->private_key);
		if (!str_empty(s->credential_name))
			pb_add(a, c, tls_certificate_sds_secret_configs,
				sds_secret(a, arena_printf(a, "kubernetes://%s", s->credential_name)));
		if (verify)
			set_roots(a, c, s->ca_certificates, s->subject_alt_names, s->n_subject_alt_names);
	}
	c->tls_params = gateway_params(a, s);
	add_alpn(a, c, server_alpn_http);
	t->common_tls_context = c;
	t->require_client_certificate = build_bool(
		a, verify && s->mode != CFG__SERVER_TLSSETTINGS__TLSMODE__OPTIONAL_MUTUAL);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}
