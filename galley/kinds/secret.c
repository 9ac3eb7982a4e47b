#include "galley/kinds/secret.h"

#include <stdlib.h>

#include "common/pki/pki.h"
#include "galley/kinds/kubernetes.h"

/*
 * DOC: Secret. A certificate that cannot be read, or that does not fit its key, is refused here, where the object can be named, and the last
 * good one stays in force; Envoy would refuse the whole listener. Texts of diagnostics never hold anything of the data. Secrets without
 * certificates are of no concern and pass.
 */

static const struct {
	const char *certificate, *key, *ca, *crl;
} forms[] = {{"cert", "key", "cacert", "crl"}, {"tls.crt", "tls.key", "ca.crt", "ca.crl"}};

static struct str value_of(const Kube__Secret *s, const char *name)
{
	for (size_t i = 0; i < s->n_string_data; i++)
		if (streq(s->string_data[i]->key, name))
			return str_of(s->string_data[i]->value);
	for (size_t i = 0; i < s->n_data; i++)
		if (streq(s->data[i]->key, name))
			return str_n((const char *)s->data[i]->value.data, s->data[i]->value.len);
	return (struct str){0};
}

static void put(ProtobufCBinaryData *out, struct str text)
{
	if (!out->len && text.len)
		*out = (ProtobufCBinaryData){text.len, (uint8_t *)(uintptr_t)text.ptr};
}

bool secret_credential(struct arena *a, const Kube__Secret *s, const char *ns, const char *name, Fl__Credential *out)
{
	fl__credential__init(out);
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct str certificate = value_of(s, forms[i].certificate), key = value_of(s, forms[i].key);

		if (certificate.len && key.len && !out->certificate.len) {
			put(&out->certificate, certificate);
			put(&out->private_key, key);
		}
		put(&out->ca, value_of(s, forms[i].ca));
		put(&out->crl, value_of(s, forms[i].crl));
	}
	out->namespace_ = arena_strdup(a, ns);
	out->name = arena_strdup(a, name);
	return out->certificate.len || out->ca.len;
}

/* PEM holds no NUL, so a value is text whether it came as data or as binaryData. */
static struct str map_value_of(const Kube__ConfigMap *m, const char *name)
{
	for (size_t i = 0; i < m->n_data; i++)
		if (streq(m->data[i]->key, name))
			return str_of(m->data[i]->value);
	for (size_t i = 0; i < m->n_binary_data; i++)
		if (streq(m->binary_data[i]->key, name))
			return str_n((const char *)m->binary_data[i]->value.data, m->binary_data[i]->value.len);
	return (struct str){0};
}

bool config_map_credential(
	struct arena *a, const Kube__ConfigMap *m, const char *ns, const char *name, Fl__Credential *out)
{
	fl__credential__init(out);
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		put(&out->ca, map_value_of(m, forms[i].ca));
		put(&out->crl, map_value_of(m, forms[i].crl));
	}
	out->namespace_ = arena_strdup(a, ns);
	out->name = arena_strdup(a, name);
	return out->ca.len > 0;
}

static bool readable(struct check *c, ProtobufCBinaryData pem, const char *what)
{
	struct pki_cert *certs;
	struct err e = {0};
	size_t n;

	if (pki_certs_parse(c->arena, str_n((const char *)pem.data, pem.len), &certs, &n, &e) && n)
		return true;
	check_error(c, "certificate", "docs: Secure Gateways", "data", "the %s is not PEM that can be read", what);
	return false;
}

void credential_check_ca(struct check *c, const Fl__Credential *x)
{
	if (x->ca.len)
		(void)readable(c, x->ca, "CA certificate");
}

static void free_key(struct pki_key **k)
{
	pki_key_free(*k);
}

static void pair(struct check *c, const Fl__Credential *x)
{
	const struct str pem = str_n((const char *)x->private_key.data, x->private_key.len);
	struct err e = {0};

	if (!readable(c, x->certificate, "certificate"))
		return;
	cleanup(free_key) struct pki_key *key = pki_key_parse(pem, &e);
	if (!key)
		check_error(c, "certificate", "docs: Secure Gateways", "data",
			"the private key is not PEM that can be read");
	else if (!pki_key_fits(key, str_n((const char *)x->certificate.data, x->certificate.len), &e))
		check_error(c, "certificate", "docs: Secure Gateways", "data",
			"the private key does not fit the certificate");
}

static void validate(struct check *c, const void *message)
{
	Fl__Credential x;

	if (!secret_credential(c->arena, message, c->ns, c->name, &x))
		return;
	if (x.certificate.len)
		pair(c, &x);
	credential_check_ca(c, &x);
}

const struct kind_ops secret_ops = {.validate = validate};
