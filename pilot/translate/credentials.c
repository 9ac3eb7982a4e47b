/*
 * DOC: SDS. The CA of "name-cacert" is that of the Secret of this name, else the one in the Secret "name" itself; a Secret that
 * caCertCredentialName names without a scheme is asked for as "its name-cacert", too, and so read from there.
 */
#include "pilot/translate/credentials.h"

#include "common/mesh/credential.h"
#include "pilot/model/query_secret.h"
#include "pilot/translate/names.h"
#include "pilot/translate/translate.h"

static char *ca_name(struct arena *a, const char *credential)
{
	return arena_printf(a, "%s" CREDENTIAL_CA_SUFFIX, credential_name(a, credential));
}

char *credential_name(struct arena *a, const char *credential)
{
	return credential_with_scheme(a, str_of(credential));
}

char *credential_ca_name(struct arena *a, const char *credential, const char *ca_credential)
{
	struct credential_ref r;
	char *name;

	if (str_empty(ca_credential))
		return ca_name(a, credential);
	name = credential_name(a, ca_credential);
	return credential_parse(str_of(name), &r) && r.ca ? name : ca_name(a, ca_credential);
}

bool credential_is_public(const char *credential)
{
	struct credential_ref r;

	return credential_parse(str_of(credential), &r) && r.source == CREDENTIAL_CONFIG_MAP;
}

/* Envoy goes on without a secret that does not come: one missing must not hold up all clusters. */
Tls__SdsSecretConfig *credential_secret(struct arena *a, const char *sds_name)
{
	Tls__SdsSecretConfig *s = PB_NEW(a, Tls__SdsSecretConfig, tls__sds_secret_config);

	s->name = arena_strdup(a, sds_name);
	s->sds_config = build_ads_source(a);
	s->sds_config->initial_fetch_timeout = build_ms(a, 5000);
	return s;
}

/* ---- reading */
static bool names(const Cfg__ServerTLSSettings *s, struct str sds_name, struct arena *scratch)
{
	char *const one[] = {s->credential_name, s->ca_cert_credential_name};

	for (size_t i = 0; i < ARRAY_LEN(one) + s->n_credential_names; i++) {
		const char *name = i < ARRAY_LEN(one) ? one[i] : s->credential_names[i - ARRAY_LEN(one)];

		if (str_eqc(sds_name, name) || str_eqc(sds_name, ca_name(scratch, name)))
			return true;
	}
	return false;
}

/* A Gateway of the Secret's namespace that is for the proxies of the scope names it. */
static bool gateway_vouches(struct view *v, struct str ns, struct str sds_name)
{
	struct entries gateways = {0};

	if (v->scope->attributes->type != PROXY_ROUTER)
		return false;
	view_gateways(v, &gateways);
	for (size_t i = 0; i < gateways.n; i++) {
		const Cfg__Gateway *g = gateways.items[i]->value;

		for (size_t j = 0; str_eq(gateways.items[i]->ns, ns) && j < g->n_servers; j++)
			if (g->servers[j]->tls && names(g->servers[j]->tls, sds_name, v->scratch))
				return true;
	}
	return false;
}

static const Fl__Credential *secret_with_ca(struct view *v, const struct credential_ref *r)
{
	const Fl__Credential *c = view_secret(v, r->ns, r->name);

	if (!c || !c->ca.len)
		c = view_secret(v, r->ns, str_sub(r->name, 0, r->name.len - strlen(CREDENTIAL_CA_SUFFIX)));
	return c && c->ca.len ? c : NULL;
}

/* A Gateway's word stands for the right of the proxy's account. */
static const Fl__Credential *secret_with_key(struct view *v, const struct credential_ref *r)
{
	const Fl__Credential *c = view_secret(v, r->ns, r->name);

	if (!c || !c->certificate.len || (r->source == CREDENTIAL_SECRET && view_withheld(v, c)))
		return NULL;
	return c;
}

/* What the name stands for, for the proxies of the scope; *ca: its CA is meant, not its key. */
static const Fl__Credential *find(struct view *v, struct str sds_name, bool *ca)
{
	struct credential_ref r;

	if (!credential_parse(sds_name, &r))
		return NULL;
	*ca = r.ca;
	if (r.source == CREDENTIAL_CONFIG_MAP)
		return view_config_map(v, r.ns, r.name);
	if (r.source == CREDENTIAL_GATEWAY_SECRET && !gateway_vouches(v, r.ns, sds_name))
		return NULL;
	return r.ca ? secret_with_ca(v, &r) : secret_with_key(v, &r);
}

bool credential_has_key(struct view *v, const char *credential)
{
	bool ca = false;

	return find(v, str_of(credential_name(v->scratch, credential)), &ca) && !ca;
}

bool credential_has_ca(struct view *v, const char *credential, const char *ca_credential)
{
	bool ca = false;

	return find(v, str_of(credential_ca_name(v->scratch, credential, ca_credential)), &ca) && ca;
}

/* ---- resources */
static Core__DataSource *bytes(struct arena *a, ProtobufCBinaryData data)
{
	Core__DataSource *d = PB_NEW(a, Core__DataSource, core__data_source);

	d->inline_bytes = (ProtobufCBinaryData){data.len, arena_dup(a, data.data, data.len)};
	d->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
	return d;
}

static void fill_certificate(struct arena *a, const Fl__Credential *c, Tls__Secret *out)
{
	out->tls_certificate = PB_NEW(a, Tls__TlsCertificate, tls__tls_certificate);
	out->tls_certificate->certificate_chain = bytes(a, c->certificate);
	out->tls_certificate->private_key = bytes(a, c->private_key);
	out->type_case = TLS__SECRET__TYPE_TLS_CERTIFICATE;
}

static void fill_ca(struct arena *a, const Fl__Credential *c, Tls__Secret *out)
{
	out->validation_context = PB_NEW(a, Tls__CertificateValidationContext, tls__certificate_validation_context);
	out->validation_context->trusted_ca = bytes(a, c->ca);
	out->validation_context->crl = c->crl.len ? bytes(a, c->crl) : NULL;
	out->type_case = TLS__SECRET__TYPE_VALIDATION_CONTEXT;
}

static const ProtobufCMessage *sds_build(struct view *v, struct str name, struct arena *a)
{
	bool ca = false;
	const Fl__Credential *c = find(v, name, &ca);
	Tls__Secret *out;

	if (!c)
		return NULL;
	out = PB_NEW(a, Tls__Secret, tls__secret);
	out->name = arena_cstr(a, name);
	if (ca)
		fill_ca(a, c, out);
	else
		fill_certificate(a, c, out);
	return &out->base;
}

/* ---- names: of servers of the scope's gateways and of rules of its services */
static void add_both(struct arena *a, struct name_list *l, const char *credential)
{
	if (str_empty(credential))
		return;
	if (!credential_is_public(credential))
		name_list_add(a, l, credential_name(a, credential));
	name_list_add(a, l, ca_name(a, credential));
}

static void add_server(struct arena *a, struct name_list *l, const Cfg__ServerTLSSettings *s)
{
	if (!s)
		return;
	add_both(a, l, s->credential_name);
	for (size_t i = 0; i < s->n_credential_names; i++)
		add_both(a, l, s->credential_names[i]);
	if (!str_empty(s->ca_cert_credential_name))
		name_list_add(a, l, credential_ca_name(a, "", s->ca_cert_credential_name));
}

static void add_policy(struct arena *a, struct name_list *l, const Cfg__TrafficPolicy *p)
{
	if (!p)
		return;
	if (p->tls)
		add_both(a, l, p->tls->credential_name);
	for (size_t i = 0; i < p->n_port_level_settings; i++)
		if (p->port_level_settings[i]->tls)
			add_both(a, l, p->port_level_settings[i]->tls->credential_name);
}

static void sds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	struct name_list list = {0};
	struct service_list services = {0};
	struct entries gateways = {0};

	if (v->scope->kind == SCOPE_SHARED && v->scope->attributes->type == PROXY_ROUTER)
		view_gateways(v, &gateways);
	if (v->scope->kind == SCOPE_SHARED)
		view_services(v, &services);
	for (size_t i = 0; i < gateways.n; i++) {
		const Cfg__Gateway *g = gateways.items[i]->value;

		for (size_t j = 0; j < g->n_servers; j++)
			add_server(a, &list, g->servers[j]->tls);
	}
	for (size_t i = 0; i < services.n; i++) {
		struct rule r = view_rule(
			v, Q_DR_HOST, str_of(services.items[i]->hostname), str_of(services.items[i]->namespace_));

		add_policy(a, &list, r.policy);
		for (size_t j = 0; j < r.n_subsets; j++)
			add_policy(a, &list, r.subsets[j]->traffic_policy);
	}
	name_list_finish(&list, out, n);
}

static enum scope_kind sds_scope(struct str name)
{
	(void)name;
	return SCOPE_SHARED;
}

const struct translator sds_translator = {.names = sds_names, .build = sds_build, .scope = sds_scope};

const ProtobufCMessage *secret_shown(struct arena *a, const ProtobufCMessage *secret)
{
	Tls__Secret *s = pb_copy(a, secret);
	static const char hidden[] = "[redacted]";

	if (s->type_case == TLS__SECRET__TYPE_TLS_CERTIFICATE) {
		s->tls_certificate->private_key = PB_NEW(a, Core__DataSource, core__data_source);
		s->tls_certificate->private_key->inline_string = arena_strdup(a, hidden);
		s->tls_certificate->private_key->specifier_case = CORE__DATA_SOURCE__SPECIFIER_INLINE_STRING;
	}
	return &s->base;
}
