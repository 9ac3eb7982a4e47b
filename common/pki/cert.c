/*
 * DOC: X.509 certificates: issuing (leaf and CA), parsing bundles, verifying chains. A workload's certificate has an empty subject, so its
 * subjectAltName is critical (RFC 5280, 4.2.1.6); leaves carry digitalSignature + keyEncipherment and both extended usages, as Istio's do.
 */
#include "common/pki/pki_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform.h>
#include <mbedtls/sha256.h>

#include "common/base/clock.h"

bool pki_crt_parse(mbedtls_x509_crt *crt, struct str pem, struct err *e)
{
	mbedtls_x509_crt_init(crt);
	if (pem.len > LIMIT_PEM_BYTES)
		return err_set(e, ERR_LIMIT, "certificates of %zu bytes; the limit is %u", pem.len, LIMIT_PEM_BYTES);
	char *text = xstrndup(pem.ptr ? pem.ptr : "", pem.len);
	int rc = mbedtls_x509_crt_parse(crt, (const unsigned char *)text, strlen(text) + 1);
	free(text);
	if (rc == 0)
		return true;
	mbedtls_x509_crt_free(crt);
	if (rc > 0)
		return err_set(e, ERR_PEER, "%d certificates of the PEM bundle do not parse", rc);
	(void)pki_library_error(e, rc, "parse PEM certificates");
	if (e)
		e->kind = ERR_PEER;
	return false;
}

static void x509_time(int64_t wall_ms, char out[16])
{
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;
	(void)gmtime_r(&t, &tm);
	(void)strftime(out, 16, "%Y%m%d%H%M%S", &tm);
}

static int set_serial(mbedtls_x509write_cert *w)
{
	unsigned char raw[16];
	random_bytes(raw, sizeof(raw));
	raw[0] &= 0x7f; /* positive, 127 random bits (RFC 5280: at most 20 octets; CABF: at least 64 bits) */
	raw[0] |= 0x40;
	mbedtls_mpi serial;
	mbedtls_mpi_init(&serial);
	int rc = mbedtls_mpi_read_binary(&serial, raw, sizeof(raw));
	if (!rc)
		rc = mbedtls_x509write_crt_set_serial(w, &serial);
	mbedtls_mpi_free(&serial);
	return rc;
}

/* The value of an extension within v3_ext (SEQUENCE OF Extension); empty when there is none. */
static struct str find_extension(const mbedtls_x509_crt *crt, struct str oid)
{
	unsigned char *p = crt->v3_ext.p;
	const unsigned char *end = p + crt->v3_ext.len;
	size_t len = 0;
	if (!p || mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE))
		return (struct str){0};
	while (p < end && !mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE)) {
		unsigned char *q = p;
		const unsigned char *stop = p + len;
		p += len;
		size_t oid_len = 0, value_len = 0;
		int critical = 0;
		if (mbedtls_asn1_get_tag(&q, stop, &oid_len, MBEDTLS_ASN1_OID))
			continue;
		bool wanted = str_eq(str_n(q, oid_len), oid);
		q += oid_len;
		(void)mbedtls_asn1_get_bool(&q, stop, &critical);
		if (wanted && !mbedtls_asn1_get_tag(&q, stop, &value_len, MBEDTLS_ASN1_OCTET_STRING))
			return str_n(q, value_len);
	}
	return (struct str){0};
}

/*
 * The issuer's name exactly as its certificate has it: verifiers compare bytes (Go does), and mbedTLS's way by text would lose string
 * types, repeated attributes (DC=example,DC=com) and commas. The writer emits the list back to front, so it is built in reverse.
 */
static int copy_issuer(mbedtls_x509write_cert *w, const mbedtls_x509_name *from)
{
	for (const mbedtls_x509_name *n = from; n && n->oid.p; n = n->next) {
		if (n->next_merged)
			return MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE; /* a multi-valued RDN cannot be written */
		mbedtls_asn1_named_data *d = mbedtls_calloc(1, sizeof(*d));
		if (!d)
			return MBEDTLS_ERR_X509_ALLOC_FAILED;
		d->next = w->issuer;
		w->issuer = d;
		d->oid = n->oid;
		d->val = n->val;
		d->oid.p = mbedtls_calloc(1, n->oid.len ? n->oid.len : 1);
		d->val.p = mbedtls_calloc(1, n->val.len ? n->val.len : 1);
		if (!d->oid.p || !d->val.p)
			return MBEDTLS_ERR_X509_ALLOC_FAILED;
		memcpy(d->oid.p, n->oid.p, n->oid.len);
		memcpy(d->val.p, n->val.p, n->val.len);
	}
	return 0;
}

static int set_names(mbedtls_x509write_cert *w, const struct pki_cert_request *r, const mbedtls_x509_crt *issuer)
{
	char subject[512] = "";
	bool organized = !str_empty(r->organization), named = !str_empty(r->common_name);
	(void)snprintf(subject, sizeof(subject), "%s%s%s%s%s", organized ? "O=" : "", organized ? r->organization : "",
		organized && named ? "," : "", named ? "CN=" : "", named ? r->common_name : "");
	int rc = mbedtls_x509write_crt_set_subject_name(w, subject);
	if (rc)
		return rc;
	return issuer ? copy_issuer(w, &issuer->subject) : mbedtls_x509write_crt_set_issuer_name(w, subject);
}

/* The authority key identifier must repeat the issuer's subject key identifier, however that was made (RFC 5280, 4.2.1.1). */
static int set_authority(mbedtls_x509write_cert *w, const mbedtls_x509_crt *issuer)
{
	struct str ski = issuer ? find_extension(issuer, STR(MBEDTLS_OID_SUBJECT_KEY_IDENTIFIER)) : (struct str){0};
	unsigned char *p = (unsigned char *)ski.ptr, value[80];
	size_t len = 0;
	if (!p || mbedtls_asn1_get_tag(&p, p + ski.len, &len, MBEDTLS_ASN1_OCTET_STRING) || len == 0 || len > 64)
		return mbedtls_x509write_crt_set_authority_key_identifier(w);
	value[0] = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
	value[1] = (unsigned char)(len + 2);
	value[2] = MBEDTLS_ASN1_CONTEXT_SPECIFIC; /* [0] keyIdentifier */
	value[3] = (unsigned char)len;
	memcpy(value + 4, p, len);
	return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER,
		MBEDTLS_OID_SIZE(MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER), 0, value, len + 4);
}

static int set_usages(mbedtls_x509write_cert *w, bool ca)
{
	int rc = mbedtls_x509write_crt_set_key_usage(
		w, ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
		      : MBEDTLS_X509_KU_DIGITAL_SIGNATURE | MBEDTLS_X509_KU_KEY_ENCIPHERMENT);
	if (rc || ca)
		return rc;
	/* SEQUENCE { serverAuth, clientAuth } */
	static const unsigned char eku[] = {0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01,
		0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02};
	return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
		MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0, eku, sizeof(eku));
}

static int set_sans(mbedtls_x509write_cert *w, const struct pki_cert_request *r)
{
	bool any = (r->uris && r->uris[0]) || (r->dns && r->dns[0]);
	unsigned char *san = NULL;
	size_t len = 0;
	if (!any)
		return 0;
	if (!pki_sans_write(r->uris, r->dns, &san, &len, NULL))
		return MBEDTLS_ERR_X509_ALLOC_FAILED;
	bool critical = str_empty(r->common_name) && str_empty(r->organization);
	int rc = mbedtls_x509write_crt_set_extension(
		w, MBEDTLS_OID_SUBJECT_ALT_NAME, MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), critical, san, len);
	free(san);
	return rc;
}

static int fill(mbedtls_x509write_cert *w, const struct pki_cert_request *r, const mbedtls_x509_crt *issuer)
{
	char from[16], to[16];
	x509_time(r->not_before_ms, from);
	x509_time(r->not_after_ms, to);
	mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
	int rc = set_serial(w);
	rc = rc ? rc : set_names(w, r, issuer);
	rc = rc ? rc : mbedtls_x509write_crt_set_validity(w, from, to);
	rc = rc ? rc : mbedtls_x509write_crt_set_basic_constraints(w, r->ca, r->ca ? r->path_len : -1);
	rc = rc ? rc : set_usages(w, r->ca);
	rc = rc ? rc : set_authority(w, issuer);
	if (r->ca)
		rc = rc ? rc : mbedtls_x509write_crt_set_subject_key_identifier(w);
	return rc ? rc : set_sans(w, r);
}

static char *hex(struct arena *a, const unsigned char *data, size_t len)
{
	char *out = arena_alloc(a, len * 2 + 1);
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = "0123456789abcdef"[data[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[data[i] & 15];
	}
	out[2 * len] = 0;
	return out;
}

struct pki_issuer {
	const struct pki_key *key;
	bool self_signed;
	mbedtls_x509_crt cert; /* unless self-signed */
};

void pki_issuer_free(struct pki_issuer *i)
{
	if (!i)
		return;
	mbedtls_x509_crt_free(&i->cert);
	free(i);
}

static void issuer_free_p(struct pki_issuer **i)
{
	pki_issuer_free(*i);
}

struct pki_issuer *pki_issuer_new(const struct pki_key *key, struct str cert_pem, struct err *e)
{
	struct pki_issuer *i cleanup(issuer_free_p) = xzalloc(sizeof(*i));
	i->key = key;
	i->self_signed = cert_pem.ptr == NULL;
	mbedtls_x509_crt_init(&i->cert);
	if (!i->self_signed && !pki_crt_parse(&i->cert, cert_pem, e)) {
		(void)err_in(e, "issuer certificate");
		return NULL;
	}
	return take(i);
}

bool pki_issuer_sign(struct arena *a, const struct pki_issuer *i, const struct pki_cert_request *r,
	struct pki_issued *out, struct err *e)
{
	if ((r->ca || i->self_signed) && str_empty(r->common_name) && str_empty(r->organization))
		return err_set(e, ERR_BUG, "an issuer must have a name (RFC 5280, 4.1.2.4)");
	mbedtls_pk_context subject;
	mbedtls_pk_init(&subject);
	mbedtls_x509write_cert w;
	mbedtls_x509write_crt_init(&w);
	unsigned char der[16384], serial[16] = {0};
	int rc = mbedtls_pk_parse_public_key(&subject, (const unsigned char *)r->spki_der.ptr, r->spki_der.len);
	if (!rc) {
		mbedtls_x509write_crt_set_subject_key(&w, &subject);
		mbedtls_x509write_crt_set_issuer_key(&w, (mbedtls_pk_context *)&i->key->pk);
		rc = fill(&w, r, i->self_signed ? NULL : &i->cert);
	}
	if (!rc)
		rc = mbedtls_mpi_write_binary(&w.serial, serial, sizeof(serial));
	if (!rc)
		rc = mbedtls_x509write_crt_der(&w, der, sizeof(der), pki_random, NULL);
	mbedtls_x509write_crt_free(&w);
	mbedtls_pk_free(&subject);
	if (rc < 0)
		return pki_library_error(e, rc, "issue a certificate");
	/* mbedTLS writes at the end of the buffer; the result is the length. */
	*out = (struct pki_issued){
		.der = arena_str(a, str_n(der + sizeof(der) - rc, (size_t)rc)),
		.serial_hex = str_of(hex(a, serial, sizeof(serial))),
		.not_after_ms = r->not_after_ms / 1000 * 1000,
	};
	return true;
}

bool pki_issue(const struct pki_key *issuer_key, struct str issuer_cert_pem, const struct pki_cert_request *r,
	char **out_pem, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct pki_issuer *i cleanup(issuer_free_p) = pki_issuer_new(issuer_key, issuer_cert_pem, e);
	struct pki_issued issued = {0};
	if (!i || !pki_issuer_sign(a, i, r, &issued, e))
		return false;
	*out_pem = pki_pem("CERTIFICATE", (const unsigned char *)issued.der.ptr, issued.der.len);
	return true;
}

static int64_t wall_ms_of(const mbedtls_x509_time *t)
{
	struct tm tm = {.tm_year = t->year - 1900,
		.tm_mon = t->mon - 1,
		.tm_mday = t->day,
		.tm_hour = t->hour,
		.tm_min = t->min,
		.tm_sec = t->sec};
	return (int64_t)timegm(&tm) * 1000;
}

bool pki_cert_sans(struct arena *a, const mbedtls_x509_crt *crt, struct pki_sans *out, struct err *e)
{
	static const char *none[] = {NULL};
	*out = (struct pki_sans){none, none, none};
	struct str san = find_extension(crt, STR(MBEDTLS_OID_SUBJECT_ALT_NAME));
	return !san.ptr || pki_sans_parse(a, (const unsigned char *)san.ptr, san.len, out, e);
}

static bool describe(struct arena *a, const mbedtls_x509_crt *crt, struct pki_cert *out, struct err *e)
{
	char name[1024];
	unsigned char digest[32];
	unsigned bits = 0;
	struct pki_sans sans = {0};
	if (!pki_cert_sans(a, crt, &sans, e))
		return false;
	out->subject = arena_strdup(a, mbedtls_x509_dn_gets(name, sizeof(name), &crt->subject) > 0 ? name : "");
	out->issuer = arena_strdup(a, mbedtls_x509_dn_gets(name, sizeof(name), &crt->issuer) > 0 ? name : "");
	out->uris = sans.uris;
	out->dns = sans.dns;
	out->serial_hex = hex(a, crt->serial.p, crt->serial.len);
	out->not_before_ms = wall_ms_of(&crt->valid_from);
	out->not_after_ms = wall_ms_of(&crt->valid_to);
	out->ca = crt->ca_istrue != 0;
	out->der = str_n(arena_dup(a, crt->raw.p, crt->raw.len), crt->raw.len);
	pki_sha256(str_n(crt->raw.p, crt->raw.len), (char *)digest);
	out->sha256_hex = hex(a, digest, sizeof(digest));
	out->key_type = pki_pk_name(&crt->pk, &bits);
	return true;
}

bool pki_certs_parse(struct arena *a, struct str pem, struct pki_cert **out, size_t *n, struct err *e)
{
	mbedtls_x509_crt first;
	if (!pki_crt_parse(&first, pem, e))
		return false;
	size_t count = 0;
	for (const mbedtls_x509_crt *c = &first; c; c = c->next)
		count++;
	struct pki_cert *list = ARENA_ARRAY(a, struct pki_cert, count);
	bool ok = true;
	size_t i = 0;
	for (const mbedtls_x509_crt *c = &first; c && ok; c = c->next)
		ok = describe(a, c, &list[i++], e);
	mbedtls_x509_crt_free(&first);
	if (ok) {
		*out = list;
		*n = count;
	}
	return ok;
}

/* mbedTLS checks times against time(2); we judge them by the caller's clock, so its verdict on them is masked. */
static bool times_hold(const mbedtls_x509_crt *chain, int64_t now_ms, struct err *e)
{
	for (const mbedtls_x509_crt *c = chain; c; c = c->next) {
		char when[32];
		if (now_ms < wall_ms_of(&c->valid_from)) {
			clock_format(wall_ms_of(&c->valid_from), when);
			return err_set(e, ERR_DENIED, "a certificate of the chain is not valid before %s", when);
		}
		if (now_ms > wall_ms_of(&c->valid_to)) {
			clock_format(wall_ms_of(&c->valid_to), when);
			return err_set(e, ERR_DENIED, "a certificate of the chain expired at %s", when);
		}
	}
	return true;
}

bool pki_verify(struct str chain_pem, struct str roots_pem, int64_t now_ms, struct err *e)
{
	mbedtls_x509_crt chain, roots;
	if (!pki_crt_parse(&chain, chain_pem, e))
		return err_in(e, "chain");
	if (!pki_crt_parse(&roots, roots_pem, e)) {
		mbedtls_x509_crt_free(&chain);
		return err_in(e, "roots");
	}
	uint32_t flags = 0;
	int rc = mbedtls_x509_crt_verify(&chain, &roots, NULL, NULL, &flags, NULL, NULL);
	flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
	bool ok = (rc == 0 || rc == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) && flags == 0;
	if (!ok) {
		char text[256] = "";
		(void)mbedtls_x509_crt_verify_info(text, sizeof(text), "", flags);
		for (char *c = text; *c; c++)
			*c = *c == '\n' ? ';' : *c;
		(void)err_set(e, ERR_DENIED, "the chain does not lead to a trusted root: %s", text);
	}
	ok = ok && times_hold(&chain, now_ms, e);
	mbedtls_x509_crt_free(&chain);
	mbedtls_x509_crt_free(&roots);
	return ok;
}

char *pki_cert_pem(const struct pki_cert *c)
{
	return pki_pem("CERTIFICATE", (const unsigned char *)c->der.ptr, c->der.len);
}

bool pki_cert_listed(const struct pki_cert *c, const struct pki_cert *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(c->der, list[i].der))
			return true;
	return false;
}

static void add_new(
	struct strbuf *out, const struct pki_cert *from, size_t n, const struct pki_cert *before, size_t n_before)
{
	for (size_t i = 0; i < n; i++) {
		if (pki_cert_listed(&from[i], before, n_before) || pki_cert_listed(&from[i], from, i))
			continue;
		char *pem = pki_cert_pem(&from[i]);
		strbuf_adds(out, pem);
		free(pem);
	}
}

bool pki_bundle_join(struct arena *a, struct str first, struct str second, struct str *out, struct err *e)
{
	struct pki_cert *one = NULL, *two = NULL;
	size_t n_one = 0, n_two = 0;
	struct strbuf text cleanup(strbuf_done) = {0};
	if (!pki_certs_parse(a, first, &one, &n_one, e) || !pki_certs_parse(a, second, &two, &n_two, e))
		return false;
	add_new(&text, one, n_one, NULL, 0);
	add_new(&text, two, n_two, one, n_one);
	*out = arena_str(a, strbuf_str(&text));
	return true;
}
