/*
 * DOC: SDS. The CA of "name-cacert" is that of the Secret of this name, else the one in the Secret "name" itself; a CA named by
 * caCertCredentialName is asked for as "its name-cacert", too, and so read from there.
 */
#include "pilot/translate/credentials.h"

#include "pilot/translate/names.h"
#include "pilot/translate/translate.h"

#define SCHEME "kubernetes://"
#define CA_SUFFIX "-cacert"

char *credential_name(struct arena *a, const char *credential)
{
	return arena_printf(a, SCHEME "%s", credential);
}

char *credential_ca_name(struct arena *a, const char *credential, const char *ca_credential)
{
	return arena_printf(a, SCHEME "%s" CA_SUFFIX, str_empty(ca_credential) ? credential : ca_credential);
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
static const Fl__Credential *ca_of(struct view *v, struct str credential)
{
	const char *own = arena_printf(v->scratch, STR_FMT CA_SUFFIX, STR_ARG(credential));
	const Fl__Credential *c = view_credential(v, str_of(own));

	if (!c || !c->ca.len)
		c = view_credential(v, credential);
	return c && c->ca.len ? c : NULL;
}

bool credential_has_key(struct view *v, const char *credential)
{
	const Fl__Credential *c = view_credential(v, str_of(credential));

	return c && c->certificate.len;
}

bool credential_has_ca(struct view *v, const char *credential, const char *ca_credential)
{
	return ca_of(v, str_of(str_empty(ca_credential) ? credential : ca_credential)) != NULL;
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
	struct str credential = str_from(name, strlen(SCHEME));
	Tls__Secret *out = PB_NEW(a, Tls__Secret, tls__secret);
	const Fl__Credential *c;

	if (!str_starts(name, STR(SCHEME)))
		return NULL;
	out->name = arena_cstr(a, name);
	if (str_ends(name, STR(CA_SUFFIX))) {
		c = ca_of(v, str_sub(credential, 0, credential.len - strlen(CA_SUFFIX)));
		if (!c)
			return NULL;
		fill_ca(a, c, out);
		return &out->base;
	}
	c = view_credential(v, credential);
	if (!c || !c->certificate.len)
		return NULL;
	fill_certificate(a, c, out);
	return &out->base;
}

/* ---- names: of servers of the scope's gateways and of rules of its services */
static void add_both(struct arena *a, struct name_list *l, const char *credential)
{
	if (str_empty(credential))
		return;
	name_list_add(a, l, credential_name(a, credential));
	name_list_add(a, l, credential_ca_name(a, credential, ""));
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
