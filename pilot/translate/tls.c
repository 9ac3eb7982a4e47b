/*
 * DOC: TLS contexts. The ALPN names of the mesh choose the server's filter chain only: a server negotiates none of istio-http/1.x
 * and istio-h2, because Envoy's codec takes a negotiated name for the protocol, while without one it looks at the first bytes.
 * TLS 1.2 at least on both sides; a client of Envoy's stops at 1.2 unless the maximum is set.
 */
#include "pilot/translate/tls.h"

#include "common/mesh/host.h"

#include "pilot/translate/credentials.h"
#include "pilot/translate/names.h"
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

	api->api_type = CORE__API_CONFIG_SOURCE__API_TYPE__GRPC;
	api->transport_api_version = CORE__API_VERSION__V3;
	api->set_node_on_first_message_only = true;
	pb_add(a, api, grpc_services, build_grpc_service(a, "sds-grpc"));
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

static Tls__TlsParameters__TlsProtocol mesh_minimum(const Mesh__MeshConfig__TLSConfig *c)
{
	return c && c->min_protocol_version == MESH__MESH_CONFIG__TLSCONFIG__TLSPROTOCOL__TLSV1_3
		       ? TLS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3
		       : TLS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2;
}

/* c: the mesh config's meshMTLS between workloads, tlsDefaults elsewhere; NULL: nothing said. */
static Tls__TlsParameters *tls_params(struct arena *a, const Mesh__MeshConfig__TLSConfig *c)
{
	Tls__TlsParameters *p = PB_NEW(a, Tls__TlsParameters, tls__tls_parameters);

	p->tls_minimum_protocol_version = mesh_minimum(c);
	p->tls_maximum_protocol_version = TLS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3;
	for (size_t i = 0; c && i < c->n_cipher_suites; i++)
		pb_add(a, p, cipher_suites, arena_strdup(a, c->cipher_suites[i]));
	for (size_t i = 0; c && i < c->n_ecdh_curves; i++)
		pb_add(a, p, ecdh_curves, arena_strdup(a, c->ecdh_curves[i]));
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

static Tls__CommonTlsContext *mesh_context(struct view *view, struct arena *a, const struct str *sans, size_t n_sans)
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
	c->tls_params = tls_params(a, view_mesh(view)->mesh_mtls);
	pb_add(a, c, tls_certificate_sds_secret_configs, sds_secret(a, "default"));
	return c;
}

char *tls_sni(struct arena *a, uint32_t port, const char *subset, const char *host)
{
	return arena_printf(a, "outbound_.%u_.%s_.%s", port, subset ? subset : "", host);
}

bool tls_sni_parse(struct str sni, struct cluster_name *out)
{
	static const struct str prefix = {"outbound_.", 10}, separator = {"_.", 2};
	struct str rest = str_from(sni, prefix.len), parts[2];

	if (!str_starts(sni, prefix))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		const char *at = memmem(rest.ptr, rest.len, separator.ptr, separator.len);

		if (!at)
			return false;
		parts[i] = str_sub(rest, 0, (size_t)(at - rest.ptr));
		rest = str_from(rest, (size_t)(at - rest.ptr) + separator.len);
	}
	*out = (struct cluster_name){.direction = STR("outbound"), .subset = parts[1], .host = rest};
	return str_u32(parts[0], 65535, &out->port);
}

Core__TransportSocket *tls_mutual_client(
	struct view *v, struct arena *a, enum alpn alpn, const char *sni, const struct str *sans, size_t n_sans)
{
	Tls__UpstreamTlsContext *t = PB_NEW(a, Tls__UpstreamTlsContext, tls__upstream_tls_context);

	t->common_tls_context = mesh_context(v, a, sans, n_sans);
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

/* ---- who is believed, outside the mesh */
struct trust {
	const char *ca, *crl; /* files; ca empty: the system's roots */
	char *credential; /* SDS name of a Secret's CA instead of files, NULL: none */
	char *const *sans, *const *spki, *const *hashes;
	size_t n_sans, n_spki, n_hashes;
	bool any; /* no chain of trust is asked for */
};

static void set_trust(struct arena *a, Tls__CommonTlsContext *c, const struct trust *t)
{
	Tls__CommonTlsContext__CombinedCertificateValidationContext *combined;
	Tls__CertificateValidationContext *v = PB_NEW(
		a, Tls__CertificateValidationContext, tls__certificate_validation_context);

	for (size_t i = 0; i < t->n_sans; i++)
		add_any_san(a, v, t->sans[i]);
	for (size_t i = 0; i < t->n_spki; i++)
		pb_add(a, v, verify_certificate_spki, arena_strdup(a, t->spki[i]));
	for (size_t i = 0; i < t->n_hashes; i++)
		pb_add(a, v, verify_certificate_hash, arena_strdup(a, t->hashes[i]));
	if (t->any)
		v->trust_chain_verification =
			TLS__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED;
	if (!t->credential) {
		v->trusted_ca = file_source(a, str_empty(t->ca) ? system_roots : t->ca);
		v->crl = str_empty(t->crl) ? NULL : file_source(a, t->crl);
		c->validation_context = v;
		c->validation_context_type_case = TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
		return;
	}
	combined = PB_NEW(a, Tls__CommonTlsContext__CombinedCertificateValidationContext,
		tls__common_tls_context__combined_certificate_validation_context);
	combined->default_validation_context = v;
	combined->validation_context_sds_secret_config = credential_secret(a, t->credential);
	c->combined_validation_context = combined;
	c->validation_context_type_case = TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
}

/* insecureSkipVerify of the rule; else a mesh may not ask for verification where no CA is named. */
static bool verifies(struct view *v, const Cfg__ClientTLSSettings *s)
{
	if (s->insecure_skip_verify)
		return !s->insecure_skip_verify->value;
	return !str_empty(s->ca_certificates) || !str_empty(s->credential_name) ||
	       bool_or(view_mesh(v)->verify_certificate_at_client, true);
}

struct tls_by_host tls_by_host(struct view *v, const Cfg__ClientTLSSettings *s, const Fl__Service *of)
{
	bool outside = s && (s->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__SIMPLE ||
				    s->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL);
	bool sni = outside && str_empty(s->sni);

	return (struct tls_by_host){
		sni, sni && !s->n_subject_alt_names && (!of || !of->n_subject_alt_names) && verifies(v, s)};
}

Core__TransportSocket *tls_client(
	struct view *v, struct arena *a, const Cfg__ClientTLSSettings *s, enum alpn alpn, const Fl__Service *of)
{
	bool own_sans = s->n_subject_alt_names || !of;
	Tls__UpstreamTlsContext *t = PB_NEW(a, Tls__UpstreamTlsContext, tls__upstream_tls_context);
	Tls__CommonTlsContext *c = PB_NEW(a, Tls__CommonTlsContext, tls__common_tls_context);
	const struct trust trust = {.ca = s->ca_certificates,
		.crl = s->ca_crl,
		.credential = str_empty(s->credential_name) ? NULL : credential_ca_name(a, s->credential_name, ""),
		.sans = own_sans ? s->subject_alt_names : of->subject_alt_names,
		.n_sans = own_sans ? s->n_subject_alt_names : of->n_subject_alt_names};

	c->tls_params = tls_params(a, view_mesh(v)->tls_defaults);
	if (verifies(v, s))
		set_trust(a, c, &trust);
	if (s->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL && !str_empty(s->credential_name))
		pb_add(a, c, tls_certificate_sds_secret_configs,
			credential_secret(a, credential_name(a, s->credential_name)));
	else if (s->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL)
		add_certificate(a, c, s->client_certificate, s->private_key);
	add_alpn(a, c, plain_alpn[alpn]);
	t->common_tls_context = c;
	if (!str_empty(s->sni))
		t->sni = arena_strdup(a, s->sni);
	else if (of && !host_is_wildcard(str_of(of->hostname)))
		t->sni = arena_strdup(a, of->hostname);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}

static void add_domain(struct arena *a, Tls__CertificateValidationContext *c, const char *trust_domain)
{
	Tls__SubjectAltNameMatcher *m = PB_NEW(a, Tls__SubjectAltNameMatcher, tls__subject_alt_name_matcher);

	m->san_type = TLS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI;
	m->matcher = PB_NEW(a, Match__StringMatcher, match__string_matcher);
	m->matcher->prefix = arena_printf(a, "spiffe://%s/", trust_domain);
	m->matcher->match_pattern_case = MATCH__STRING_MATCHER__MATCH_PATTERN_PREFIX;
	pb_add(a, c, match_typed_subject_alt_names, m);
}

/*
 * With roots of others in the bundle (MeshConfig.caCertificates) a chain that verifies may be of anybody's: the trust domains are named then, as
 * Istio does always. Our own root alone vouches for no other.
 */
static void limit_domains(struct view *view, struct arena *a, Tls__CommonTlsContext *c)
{
	Tls__CertificateValidationContext *v = c->combined_validation_context->default_validation_context;
	const Mesh__MeshConfig *m = view_mesh(view);

	if (!m->n_ca_certificates)
		return;
	add_domain(a, v, arena_cstr(a, view_trust_domain(view)));
	for (size_t i = 0; i < m->n_trust_domain_aliases; i++)
		add_domain(a, v, m->trust_domain_aliases[i]);
	for (size_t i = 0; i < m->n_ca_certificates; i++)
		for (size_t k = 0; k < m->ca_certificates[i]->n_trust_domains; k++)
			add_domain(a, v, m->ca_certificates[i]->trust_domains[k]);
}

Core__TransportSocket *tls_mutual_server(struct view *v, struct arena *a, bool http)
{
	Tls__DownstreamTlsContext *t = PB_NEW(a, Tls__DownstreamTlsContext, tls__downstream_tls_context);

	t->common_tls_context = mesh_context(v, a, NULL, 0);
	limit_domains(v, a, t->common_tls_context);
	add_alpn(a, t->common_tls_context, http ? server_alpn_http : server_alpn_tcp);
	t->require_client_certificate = build_bool(a, true);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}

Core__TransportSocket *tls_raw_buffer(struct arena *a)
{
	return build_transport_socket(
		a, "envoy.transport_sockets.raw_buffer", PB_NEW(a, RawBuf__RawBuffer, raw_buf__raw_buffer));
}

/* ---- gateways. Istio's TLSProtocol has the same numbers as Envoy's; AUTO means 1.2 at least. */
static Tls__TlsParameters *gateway_params(struct view *v, struct arena *a, const Cfg__ServerTLSSettings *s)
{
	bool mesh = s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL;
	Tls__TlsParameters *p = tls_params(a, mesh ? view_mesh(v)->mesh_mtls : view_mesh(v)->tls_defaults);

	if (s->min_protocol_version)
		p->tls_minimum_protocol_version = (Tls__TlsParameters__TlsProtocol)s->min_protocol_version;
	if (s->max_protocol_version)
		p->tls_maximum_protocol_version = (Tls__TlsParameters__TlsProtocol)s->max_protocol_version;
	if (s->n_cipher_suites)
		p->n_cipher_suites = 0;
	for (size_t i = 0; i < s->n_cipher_suites; i++)
		pb_add(a, p, cipher_suites, arena_strdup(a, s->cipher_suites[i]));
	return p;
}

static bool verifies_clients(const Cfg__ServerTLSSettings *s)
{
	return s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__MUTUAL ||
	       s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__OPTIONAL_MUTUAL;
}

static size_t credentials_of(const Cfg__ServerTLSSettings *s, char *const **out)
{
	if (!str_empty(s->credential_name)) {
		*out = &s->credential_name;
		return 1;
	}
	*out = s->credential_names;
	return s->n_credential_names;
}

bool tls_gateway_ready(struct view *v, const Cfg__ServerTLSSettings *s)
{
	char *const *names;
	size_t n = credentials_of(s, &names);
	bool files = !str_empty(s->server_certificate) || s->n_tls_certificates;

	if (s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL)
		return true;
	if (!files && (!n || !credential_has_key(v, names[0])))
		return false;
	if (!verifies_clients(s) || !str_empty(s->ca_certificates))
		return true;
	if (n || !str_empty(s->ca_cert_credential_name))
		return credential_has_ca(v, n ? names[0] : "", s->ca_cert_credential_name);
	return s->n_tls_certificates && !str_empty(s->tls_certificates[0]->ca_certificates);
}

static void add_server_certificates(
	struct view *v, struct arena *a, const Cfg__ServerTLSSettings *s, Tls__CommonTlsContext *c)
{
	char *const *names;
	size_t n = credentials_of(s, &names);

	add_certificate(a, c, s->server_certificate, s->private_key);
	for (size_t i = 0; i < s->n_tls_certificates && i < 2; i++)
		add_certificate(a, c, s->tls_certificates[i]->server_certificate, s->tls_certificates[i]->private_key);
	/* A second one that is not there must not hold up the first. */
	for (size_t i = 0; i < n && i < 2; i++)
		if (credential_has_key(v, names[i]))
			pb_add(a, c, tls_certificate_sds_secret_configs,
				credential_secret(a, credential_name(a, names[i])));
}

static void set_client_trust(struct arena *a, const Cfg__ServerTLSSettings *s, Tls__CommonTlsContext *c)
{
	char *const *names;
	size_t n = credentials_of(s, &names);
	bool named = str_empty(s->ca_certificates) && (n || !str_empty(s->ca_cert_credential_name));
	const char *ca = !str_empty(s->ca_certificates) || !s->n_tls_certificates
				 ? s->ca_certificates
				 : s->tls_certificates[0]->ca_certificates;
	const struct trust trust = {.ca = ca,
		.crl = s->ca_crl,
		.credential = named ? credential_ca_name(a, n ? names[0] : "", s->ca_cert_credential_name) : NULL,
		.sans = s->subject_alt_names,
		.n_sans = s->n_subject_alt_names,
		.spki = s->verify_certificate_spki,
		.n_spki = s->n_verify_certificate_spki,
		.hashes = s->verify_certificate_hash,
		.n_hashes = s->n_verify_certificate_hash,
		.any = bool_or(s->insecure_skip_verify, false)};

	set_trust(a, c, &trust);
}

Core__TransportSocket *tls_gateway(struct view *v, struct arena *a, const Cfg__ServerTLSSettings *s)
{
	Tls__DownstreamTlsContext *t = PB_NEW(a, Tls__DownstreamTlsContext, tls__downstream_tls_context);
	bool mesh = s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL;
	Tls__CommonTlsContext *c = mesh ? mesh_context(v, a, NULL, 0)
					: PB_NEW(a, Tls__CommonTlsContext, tls__common_tls_context);

	if (mesh)
		limit_domains(v, a, c);
	else
		add_server_certificates(v, a, s, c);
	if (verifies_clients(s))
		set_client_trust(a, s, c);
	c->tls_params = gateway_params(v, a, s);
	add_alpn(a, c, server_alpn_http);
	t->common_tls_context = c;
	t->require_client_certificate = build_bool(a, mesh || s->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__MUTUAL);
	return build_transport_socket(a, "envoy.transport_sockets.tls", t);
}
