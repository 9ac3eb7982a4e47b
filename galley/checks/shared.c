#include "galley/checks/shared.h"

#include "common/base/map.h"
#include "common/mesh/credential.h"
#include "galley/checks/names.h"
#include "galley/checks/values.h"

/*
 * DOC: Cross-field checks that more than one kind has. They follow what Istio documents for the field and what its validation
 * refuses; the citation names the API field. Things that work but do nothing, or are deprecated, are warnings.
 */

void check_unique(struct check *c, char *const *items, size_t n, const char *path, const char *rule, const char *source)
{
	cleanup(map_free_p) struct map *seen = map_new();
	for (size_t i = 0; i < n; i++)
		if (map_put(seen, str_of(items[i] ? items[i] : ""), (void *)items))
			check_error(c, rule, source, path_at(c, "%s[%zu]", path, i), "\"%s\" is there twice", items[i]);
}

static bool is_own(const struct check *c, const char *entry)
{
	return streq(entry, ".") || streq(entry, c->ns);
}

void check_export_list(struct check *c, char **items, size_t n, const char *path, bool service_entry, bool selector)
{
	static const char source[] = "api: exportTo";
	bool all = false, nobody = false, foreign = false;
	for (size_t i = 0; i < n; i++) {
		all |= streq(items[i], "*");
		nobody |= service_entry && streq(items[i], "~");
		foreign |= !is_own(c, items[i]);
		for (size_t k = 0; k < i; k++)
			if (streq(items[i], items[k]) || (is_own(c, items[i]) && is_own(c, items[k])))
				check_error(c, "export-to", source, path_at(c, "%s[%zu]", path, i),
					"\"%s\" repeats \"%s\"", items[i], items[k]);
	}
	if (all && n > 1)
		check_error(c, "export-to", source, path, "\"*\" (everyone) stands alone");
	if (nobody && n > 1)
		check_error(c, "export-to", source, path, "\"~\" (no one) stands alone");
	if (selector && foreign)
		check_error(c, "export-to", source, path,
			"a DestinationRule with a workloadSelector is for its own namespace only");
}

struct forbidden {
	bool set;
	const char *field;
};

static void held_key(struct check *c, const char *name, const char *path)
{
	struct credential_ref r;

	if (str_empty(name))
		return;
	if (!credential_parse(str_of(credential_with_scheme(c->arena, str_of(name))), &r))
		check_warn(c, "credential-name", "docs: Secure Gateways", path,
			"\"%s\" is not the name of a Secret, [kubernetes://][namespace/]name or "
			"kubernetes-gateway://namespace/name: there is no certificate",
			name);
	else if (r.source == CREDENTIAL_CONFIG_MAP)
		check_warn(c, "credential-name", "docs: Secure Gateways", path,
			"a ConfigMap holds no private key: there is no certificate");
}

static void credential_names(struct check *c, const Cfg__ServerTLSSettings *t, const char *path)
{
	struct credential_ref r;
	const char *ca = t->ca_cert_credential_name;

	held_key(c, t->credential_name, path_at(c, "%s.credentialName", path));
	for (size_t i = 0; i < t->n_credential_names; i++)
		held_key(c, t->credential_names[i], path_at(c, "%s.credentialNames[%zu]", path, i));
	if (!str_empty(ca) && !credential_parse(str_of(credential_with_scheme(c->arena, str_of(ca))), &r))
		check_warn(c, "credential-name", "docs: Secure Gateways", path_at(c, "%s.caCertCredentialName", path),
			"\"%s\" is not the name of a Secret or a ConfigMap, [kubernetes://][namespace/]name, "
			"kubernetes-gateway://namespace/name or configmap://namespace/name: there is no CA",
			ca);
}

static void server_certificates(struct check *c, const Cfg__ServerTLSSettings *t, const char *path)
{
	static const char source[] = "api: ServerTLSSettings";
	credential_names(c, t, path);
	int sources = (!str_empty(t->server_certificate) && !str_empty(t->private_key)) +
		      !str_empty(t->credential_name) + (t->n_credential_names > 0) + (t->n_tls_certificates > 0);
	if (sources > 1)
		check_error(c, "tls-sources", source, path,
			"one of credentialName, credentialNames, tlsCertificates, serverCertificate with privateKey, "
			"not several");
	if (!str_empty(t->ca_crl) && !str_empty(t->credential_name))
		check_error(c, "tls-crl", source, path_at(c, "%s.caCrl", path),
			"with credentialName the CRL is part of the credential");
	bool simple = t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__SIMPLE;
	bool mutual = t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__MUTUAL ||
		      t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__OPTIONAL_MUTUAL;
	if (!str_empty(t->ca_crl) && simple)
		check_error(c, "tls-crl", source, path_at(c, "%s.caCrl", path), "a CRL has no use with SIMPLE");
	if ((!simple && !mutual) || !str_empty(t->credential_name) || t->n_credential_names)
		return;
	if (mutual && str_empty(t->ca_certificates) && str_empty(t->ca_cert_credential_name))
		check_error(c, "tls-certificates", source, path, "MUTUAL needs caCertificates or a credentialName");
	if (t->n_tls_certificates > 2)
		check_warn(c, "tls-certificates", source, path_at(c, "%s.tlsCertificates", path),
			"at most two certificates are used");
	for (size_t i = 0; i < t->n_tls_certificates; i++)
		if (str_empty(t->tls_certificates[i]->server_certificate) ||
			str_empty(t->tls_certificates[i]->private_key))
			check_error(c, "tls-certificates", source, path_at(c, "%s.tlsCertificates[%zu]", path, i),
				"serverCertificate and privateKey are both needed");
	if (t->n_tls_certificates == 0 && (str_empty(t->server_certificate) || str_empty(t->private_key)))
		check_error(c, "tls-certificates", source, path,
			"SIMPLE and MUTUAL need a credentialName, or serverCertificate and privateKey");
}

static void istio_mutual(struct check *c, const Cfg__ServerTLSSettings *t, const char *path)
{
	const struct forbidden fields[] = {
		{!str_empty(t->server_certificate), "serverCertificate"},
		{!str_empty(t->private_key), "privateKey"},
		{!str_empty(t->ca_certificates), "caCertificates"},
		{t->n_tls_certificates > 0, "tlsCertificates"},
		{!str_empty(t->credential_name), "credentialName"},
		{t->n_credential_names > 0, "credentialNames"},
	};
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (fields[i].set)
			check_error(c, "tls-istio-mutual", "api: ServerTLSSettings.mode",
				path_at(c, "%s.%s", path, fields[i].field),
				"ISTIO_MUTUAL uses the workload's own certificates");
}

static bool cipher_known(const char *name)
{
	static const char *const known[] = {
		"ECDHE-ECDSA-AES128-GCM-SHA256",
		"ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-ECDSA-AES256-GCM-SHA384",
		"ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-RSA-CHACHA20-POLY1305",
		"ECDHE-ECDSA-AES128-SHA",
		"ECDHE-RSA-AES128-SHA",
		"ECDHE-ECDSA-AES256-SHA",
		"ECDHE-RSA-AES256-SHA",
		"AES128-GCM-SHA256",
		"AES256-GCM-SHA384",
		"AES128-SHA",
		"AES256-SHA",
		"DES-CBC3-SHA",
	};
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (streq(name, known[i]))
			return true;
	return false;
}

void check_server_tls(struct check *c, const Cfg__ServerTLSSettings *t, const char *path)
{
	if (!t)
		return;
	bool old = t->min_protocol_version == CFG__SERVER_TLSSETTINGS__TLSPROTOCOL__TLSV1_0 ||
		   t->min_protocol_version == CFG__SERVER_TLSSETTINGS__TLSPROTOCOL__TLSV1_1;
	if (old && t->n_cipher_suites == 0)
		check_warn(c, "tls-version", "api: ServerTLSSettings.minProtocolVersion",
			path_at(c, "%s.minProtocolVersion", path), "TLS below 1.2 needs cipherSuites that allow it");
	if (t->min_protocol_version && t->max_protocol_version && t->min_protocol_version > t->max_protocol_version)
		check_error(c, "tls-version", "api: ServerTLSSettings", path_at(c, "%s.minProtocolVersion", path),
			"is above maxProtocolVersion");
	for (size_t i = 0; i < t->n_cipher_suites; i++)
		if (!cipher_known(t->cipher_suites[i]))
			check_warn(c, "tls-cipher", "api: ServerTLSSettings.cipherSuites",
				path_at(c, "%s.cipherSuites[%zu]", path, i),
				"\"%s\" is no cipher suite of Envoy and is ignored", t->cipher_suites[i]);
	if (t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL) {
		istio_mutual(c, t, path);
		return;
	}
	bool pass = t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__PASSTHROUGH ||
		    t->mode == CFG__SERVER_TLSSETTINGS__TLSMODE__AUTO_PASSTHROUGH;
	if (pass && (!str_empty(t->server_certificate) || !str_empty(t->private_key) ||
			    !str_empty(t->ca_certificates) || !str_empty(t->ca_crl) || !str_empty(t->credential_name) ||
			    t->n_credential_names || t->n_tls_certificates))
		check_warn(c, "tls-passthrough", "api: ServerTLSSettings.mode", path,
			"this mode uses no certificates; they are ignored");
	server_certificates(c, t, path);
}

/* Every proxy may have any ConfigMap's CA, so that a rule may name those of its own namespace alone. */
static void client_config_map(struct check *c, const Cfg__ClientTLSSettings *t, const char *path)
{
	static const char source[] = "api: ClientTLSSettings.credentialName";
	const char *at = path_at(c, "%s.credentialName", path);
	struct credential_ref r;

	if (!str_starts(str_of(t->credential_name), STR("configmap://")))
		return;
	if (!credential_parse(str_of(t->credential_name), &r))
		check_error(c, "credential-name", source, at, "\"%s\" is not configmap://namespace/name",
			t->credential_name);
	else if (!str_eqc(r.ns, c->ns))
		check_error(c, "credential-name", source, at,
			"\"%s\": the namespace of the ConfigMap must be that of the rule, \"%s\"", t->credential_name,
			c->ns);
	else if (t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL)
		check_warn(c, "credential-name", source, at,
			"a ConfigMap holds no private key: there is no certificate for MUTUAL");
}

void check_client_tls(struct check *c, const Cfg__ClientTLSSettings *t, const char *path)
{
	static const char source[] = "api: ClientTLSSettings";
	if (!t)
		return;
	bool simple = t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__SIMPLE;
	bool mutual = t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__MUTUAL;
	bool credential = !str_empty(t->credential_name);
	client_config_map(c, t, path);
	if (t->insecure_skip_verify && t->insecure_skip_verify->value && (simple || mutual) &&
		(!str_empty(t->ca_certificates) || t->n_subject_alt_names || (simple && credential)))
		check_error(c, "tls-skip-verify", source, path_at(c, "%s.insecureSkipVerify", path),
			"with insecureSkipVerify nothing is verified: no caCertificates, subjectAltNames or "
			"credentialName");
	if ((simple || mutual) && credential) {
		if (!str_empty(t->client_certificate) || !str_empty(t->private_key) || !str_empty(t->ca_certificates) ||
			!str_empty(t->ca_crl))
			check_error(c, "tls-sources", source, path,
				"credentialName stands alone, without certificate files");
		return;
	}
	if (mutual && str_empty(t->client_certificate))
		check_error(c, "tls-certificates", source, path_at(c, "%s.clientCertificate", path),
			"MUTUAL needs a client certificate");
	if (mutual && str_empty(t->private_key))
		check_error(
			c, "tls-certificates", source, path_at(c, "%s.privateKey", path), "MUTUAL needs a private key");
	if (t->mode == CFG__CLIENT_TLSSETTINGS__TLSMODE__ISTIO_MUTUAL &&
		(!str_empty(t->client_certificate) || !str_empty(t->private_key) || !str_empty(t->ca_certificates) ||
			credential))
		check_warn(c, "tls-istio-mutual", source, path,
			"ISTIO_MUTUAL uses the workload's own certificates; these are ignored");
}

static const struct rule pool_rules[] = {
	{"http.http1MaxPendingRequests", check_number, 0, 2147483647,
		.source = "api: ConnectionPoolSettings.HTTPSettings"},
	{"http.http2MaxRequests", check_number, 0, 2147483647, .source = "api: ConnectionPoolSettings.HTTPSettings"},
	{"http.maxRequestsPerConnection", check_number, 0, 536870912,
		.source = "api: ConnectionPoolSettings.HTTPSettings"},
	{"http.maxRetries", check_number, 0, 2147483647, .source = "api: ConnectionPoolSettings.HTTPSettings"},
	{"http.maxConcurrentStreams", check_number, 0, 2147483647,
		.source = "api: ConnectionPoolSettings.HTTPSettings"},
	{"http.idleTimeout", check_duration, 1, 0, .source = "api: ConnectionPoolSettings.HTTPSettings.idleTimeout"},
	{"http.http2KeepAlive.interval", check_duration, 1, 0, true, "api: HTTPSettings.http2KeepAlive.interval"},
	{"http.http2KeepAlive.timeout", check_duration, 1, 0, true, "api: HTTPSettings.http2KeepAlive.timeout"},
	{"tcp.maxConnections", check_number, 0, 2147483647,
		.source = "api: ConnectionPoolSettings.TCPSettings.maxConnections"},
	{"tcp.connectTimeout", check_duration, 1, 0,
		.source = "api: ConnectionPoolSettings.TCPSettings.connectTimeout"},
	{"tcp.maxConnectionDuration", check_duration, 1, 0, .source = "api: ConnectionPoolSettings.TCPSettings"},
	{"tcp.idleTimeout", check_duration, 0, 0, .source = "api: ConnectionPoolSettings.TCPSettings.idleTimeout"},
	{"tcp.tcpKeepalive.time", check_duration, 1, 0, .source = "api: TCPSettings.TcpKeepalive.time"},
	{"tcp.tcpKeepalive.interval", check_duration, 1, 0, .source = "api: TCPSettings.TcpKeepalive.interval"},
};

void check_connection_pool(struct check *c, const Cfg__ConnectionPoolSettings *p, const char *path)
{
	if (!p)
		return;
	if (!p->http && !p->tcp)
		check_error(c, "empty", "api: ConnectionPoolSettings", path, "has neither http nor tcp");
	if (p->http && p->http->use_client_protocol &&
		p->http->h2_upgrade_policy == CFG__CONNECTION_POOL_SETTINGS__HTTPSETTINGS__H2_UPGRADE_POLICY__UPGRADE)
		check_error(c, "h2-upgrade", "api: HTTPSettings.useClientProtocol",
			path_at(c, "%s.http.useClientProtocol", path), "cannot be with h2UpgradePolicy UPGRADE");
	check_rules(c, p, path, pool_rules, ARRAY_LEN(pool_rules));
}

static const struct rule retry_rules[] = {
	{"attempts", check_number, 0, 2147483647, .source = "api: HTTPRetry.attempts"},
	{"perTryTimeout", check_duration, 1, 0, .source = "api: HTTPRetry.perTryTimeout"},
	{"backoff", check_duration, 1, 0, .source = "api: HTTPRetry.backoff"},
	{"retryOn", check_retry_on, .source = "api: HTTPRetry.retryOn"},
};

void check_retry(struct check *c, const Cfg__HTTPRetry *r, const char *path)
{
	if (!r)
		return;
	check_rules(c, r, path, retry_rules, ARRAY_LEN(retry_rules));
	if (r->attempts == 0 && (r->per_try_timeout || !str_empty(r->retry_on) || r->retry_remote_localities))
		check_error(c, "retry-disabled", "api: HTTPRetry.attempts", path,
			"attempts is 0, which disables the rest of the policy");
}

void check_destination(struct check *c, const Cfg__Destination *d, const char *path)
{
	if (!d)
		return;
	struct str host = str_of(d->host ? d->host : "");
	const char *problem = host.len == 0        ? "a destination needs a host"
			      : str_eqc(host, "*") ? "\"*\" is no destination"
						   : host_problem(c->arena, host);
	if (problem)
		check_error(c, "host", "api: Destination.host", path_at(c, "%s.host", path), "%s", problem);
	if (!str_empty(d->subset) && !name_is_label(str_of(d->subset)))
		check_error(c, "dns-label", "api: Destination.subset", path_at(c, "%s.subset", path),
			"\"%s\" is not a subset's name", d->subset);
	if (d->port && (d->port->number < 1 || d->port->number > 65535))
		check_error(c, "port", "api: Destination.port", path_at(c, "%s.port.number", path),
			"port %u is not in the range 1..65535", d->port->number);
}
