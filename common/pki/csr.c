/*
 * DOC: Certificate signing requests (RFC 2986): made by agents, parsed by citadel. Parsing checks the proof of possession, because a CSR
 * whose signature does not verify says nothing about who holds the key; what the SANs may be is the caller's policy.
 */
#include "common/pki/pki_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform.h>

#include "common/base/str.h"

bool pki_csr_new(
	const struct pki_key *k, const char *const *uris, const char *const *dns, char **out_pem, struct err *e)
{
	unsigned char *san = NULL;
	size_t san_len = 0;
	bool any = (uris && uris[0]) ||
		   (dns && dns[0]); /* an empty subjectAltName is not allowed (RFC 5280, 4.2.1.6) */
	if (any && !pki_sans_write(uris, dns, &san, &san_len, e))
		return false;
	mbedtls_x509write_csr csr;
	mbedtls_x509write_csr_init(&csr);
	mbedtls_x509write_csr_set_key(&csr, (mbedtls_pk_context *)&k->pk);
	mbedtls_x509write_csr_set_md_alg(&csr, MBEDTLS_MD_SHA256);
	int rc = mbedtls_x509write_csr_set_subject_name(&csr, "");
	if (!rc && any)
		rc = mbedtls_x509write_csr_set_extension(&csr, MBEDTLS_OID_SUBJECT_ALT_NAME,
			MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), san, san_len);
	unsigned char pem[16384];
	if (!rc)
		rc = mbedtls_x509write_csr_pem(&csr, pem, sizeof(pem), pki_random, NULL);
	mbedtls_x509write_csr_free(&csr);
	free(san);
	if (rc)
		return pki_library_error(e, rc, "make a certificate signing request");
	*out_pem = xstrdup((char *)pem);
	return true;
}

/*
 * A CertificationRequest taken apart. By hand, because mbedTLS 2.28 refuses an empty subject, which RFC 2986 allows and which workloads
 * have: their name is the SAN.
 */
struct request {
	unsigned char *der; /* all strings point into it; the caller's */
	struct str info; /* CertificationRequestInfo: what is signed */
	struct str attributes; /* content of [0] */
	struct str spki;
	mbedtls_x509_buf signature;
	mbedtls_pk_context pk;
	mbedtls_md_type_t md;
	mbedtls_pk_type_t pk_type;
	void *pk_options;
};

static void request_done(struct request *r)
{
	mbedtls_pk_free(&r->pk);
	mbedtls_free(r->pk_options);
}

static bool malformed(struct err *e, const char *what)
{
	return err_set(e, ERR_PEER, "the CSR is not well-formed: %s (RFC 2986)", what);
}

static bool verify_signature(const struct request *r, struct err *e)
{
	const mbedtls_md_info_t *md = mbedtls_md_info_from_type(r->md);
	unsigned char hash[MBEDTLS_MD_MAX_SIZE];
	if (!md || r->md == MBEDTLS_MD_SHA1 || r->md == MBEDTLS_MD_MD5)
		return err_set(
			e, ERR_PEER, "the CSR is signed with a digest that is not accepted (SHA-256 or better is)");
	int rc = mbedtls_md(md, (const unsigned char *)r->info.ptr, r->info.len, hash);
	if (!rc)
		rc = mbedtls_pk_verify_ext(r->pk_type, r->pk_options, (mbedtls_pk_context *)&r->pk, r->md, hash,
			mbedtls_md_get_size(md), r->signature.p, r->signature.len);
	return rc == 0 || err_set(e, ERR_PEER, "the CSR's signature does not verify with its own public key");
}

/* One Extension { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }. */
static bool one_extension(
	struct arena *a, unsigned char **p, const unsigned char *end, struct pki_csr *out, struct err *e)
{
	size_t len = 0, oid_len = 0;
	if (mbedtls_asn1_get_tag(p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE))
		return err_set(e, ERR_PEER, "the CSR's extensions are not well-formed");
	const unsigned char *stop = *p + len;
	if (mbedtls_asn1_get_tag(p, stop, &oid_len, MBEDTLS_ASN1_OID))
		return err_set(e, ERR_PEER, "an extension of the CSR has no OID");
	struct str oid = str_n(*p, oid_len);
	*p += oid_len;
	int critical = 0;
	(void)mbedtls_asn1_get_bool(p, stop, &critical);
	if (mbedtls_asn1_get_tag(p, stop, &len, MBEDTLS_ASN1_OCTET_STRING) || *p + len != stop)
		return err_set(e, ERR_PEER, "an extension of the CSR has no value");
	const unsigned char *value = *p;
	*p += len;
	if (str_eq(oid, STR(MBEDTLS_OID_SUBJECT_ALT_NAME))) {
		struct pki_sans sans = {0};
		if (out->uris[0] || out->dns[0] || out->other_sans[0])
			return err_set(e, ERR_PEER, "the CSR has more than one subjectAltName extension");
		if (!pki_sans_parse(a, value, len, &sans, e))
			return false;
		out->uris = sans.uris;
		out->dns = sans.dns;
		out->other_sans = sans.other;
	}
	if (str_eq(oid, STR(MBEDTLS_OID_BASIC_CONSTRAINTS))) {
		unsigned char *q = (unsigned char *)value;
		size_t seq = 0;
		int ca = 0;
		if (mbedtls_asn1_get_tag(&q, value + len, &seq, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE))
			return err_set(e, ERR_PEER, "the CSR's basicConstraints are not well-formed");
		(void)mbedtls_asn1_get_bool(&q, value + len, &ca);
		out->wants_ca |= ca != 0;
	}
	return true;
}

/* Attribute { OID extensionRequest, SET OF SEQUENCE OF Extension }; other attributes are skipped. */
static bool one_attribute(
	struct arena *a, unsigned char **p, const unsigned char *end, struct pki_csr *out, struct err *e)
{
	size_t len = 0, oid_len = 0;
	if (mbedtls_asn1_get_tag(p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE))
		return err_set(e, ERR_PEER, "the CSR's attributes are not well-formed");
	const unsigned char *stop = *p + len;
	if (mbedtls_asn1_get_tag(p, stop, &oid_len, MBEDTLS_ASN1_OID))
		return err_set(e, ERR_PEER, "an attribute of the CSR has no OID");
	bool wanted = str_eq(str_n(*p, oid_len), STR(MBEDTLS_OID_PKCS9_CSR_EXT_REQ));
	*p += oid_len;
	if (!wanted) {
		*p = (unsigned char *)stop;
		return true;
	}
	if (mbedtls_asn1_get_tag(p, stop, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SET) ||
		mbedtls_asn1_get_tag(p, stop, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) ||
		*p + len != stop)
		return err_set(e, ERR_PEER, "the CSR's extension request is not well-formed");
	while (*p < stop)
		if (!one_extension(a, p, stop, out, e))
			return false;
	return true;
}

static bool parse_attributes(struct arena *a, const struct request *r, struct pki_csr *out, struct err *e)
{
	unsigned char *p = (unsigned char *)r->attributes.ptr;
	const unsigned char *end = p + r->attributes.len;
	while (p < end)
		if (!one_attribute(a, &p, end, out, e))
			return false;
	return true;
}

#define SEQUENCE (MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE)

/* CertificationRequestInfo { version INTEGER (0), subject Name, subjectPublicKeyInfo, [0] attributes } */
static bool split_info(struct request *r, struct err *e)
{
	unsigned char *p = (unsigned char *)r->info.ptr;
	const unsigned char *end = p + r->info.len;
	size_t len = 0;
	int version = 0;
	if (mbedtls_asn1_get_tag(&p, end, &len, SEQUENCE) || p + len != end ||
		mbedtls_asn1_get_int(&p, end, &version) || version != 0)
		return malformed(e, "version");
	if (mbedtls_asn1_get_tag(&p, end, &len, SEQUENCE))
		return malformed(e, "subject");
	p += len;
	unsigned char *spki = p;
	if (mbedtls_asn1_get_tag(&p, end, &len, SEQUENCE))
		return malformed(e, "public key");
	p += len;
	r->spki = str_n(spki, (size_t)(p - spki));
	if (mbedtls_pk_parse_subpubkey(&spki, p, &r->pk))
		return err_set(e, ERR_PEER, "the CSR's public key is of a kind that is not supported or not valid");
	if (p == end)
		return true;
	if (mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_CONTEXT_SPECIFIC) ||
		p + len != end)
		return malformed(e, "attributes");
	r->attributes = str_n(p, len);
	return true;
}

/* CertificationRequest { info, signatureAlgorithm, signature BIT STRING } */
static bool split_request(struct request *r, size_t der_len, struct err *e)
{
	unsigned char *p = r->der;
	const unsigned char *end = p + der_len;
	size_t len = 0;
	if (mbedtls_asn1_get_tag(&p, end, &len, SEQUENCE) || p + len != end)
		return malformed(e, "outer sequence");
	unsigned char *info = p;
	if (mbedtls_asn1_get_tag(&p, end, &len, SEQUENCE))
		return malformed(e, "request info");
	p += len;
	r->info = str_n(info, (size_t)(p - info));
	mbedtls_x509_buf oid = {0}, params = {0};
	if (mbedtls_x509_get_alg(&p, end, &oid, &params) ||
		mbedtls_x509_get_sig_alg(&oid, &params, &r->md, &r->pk_type, &r->pk_options))
		return err_set(e, ERR_PEER, "the CSR's signature algorithm is not supported");
	if (mbedtls_x509_get_sig(&p, end, &r->signature) || p != end)
		return malformed(e, "signature");
	return split_info(r, e);
}

bool pki_csr_der(struct arena *a, struct str pem, struct str *out, struct err *e)
{
	if (pem.len > LIMIT_CSR_BYTES)
		return err_set(e, ERR_LIMIT, "CSR of %zu bytes; the limit is %u", pem.len, LIMIT_CSR_BYTES);
	return pki_unarmour(a, pem, "CERTIFICATE REQUEST", out) ||
	       pki_unarmour(a, pem, "NEW CERTIFICATE REQUEST", out) ||
	       err_set(e, ERR_PEER, "the CSR is not PEM of a CERTIFICATE REQUEST (RFC 7468, 7)");
}

static bool read_request(struct arena *a, struct str der, bool proof, struct pki_csr *out, struct err *e)
{
	static const char *none[] = {NULL};
	struct pki_csr parsed = {.uris = none, .dns = none, .other_sans = none};
	struct request r cleanup(request_done) = {.der = (unsigned char *)der.ptr}; /* only read */
	mbedtls_pk_init(&r.pk);
	if (der.len > LIMIT_CSR_BYTES)
		return err_set(e, ERR_LIMIT, "CSR of %zu bytes; the limit is %u", der.len, LIMIT_CSR_BYTES);
	if (!split_request(&r, der.len, e) || (proof && !verify_signature(&r, e)) ||
		!parse_attributes(a, &r, &parsed, e))
		return false;
	parsed.key_type = pki_pk_name(&r.pk, &parsed.key_bits);
	parsed.spki_der = str_n(arena_dup(a, r.spki.ptr, r.spki.len), r.spki.len);
	*out = parsed;
	return true;
}

bool pki_csr_read(struct arena *a, struct str der, struct pki_csr *out, struct err *e)
{
	return read_request(a, der, false, out, e);
}

bool pki_csr_verify(struct arena *a, struct str der, struct pki_csr *out, struct err *e)
{
	return read_request(a, der, true, out, e);
}

bool pki_csr_parse(struct arena *a, struct str pem, struct pki_csr *out, struct err *e)
{
	struct str der = {0};
	return pki_csr_der(a, pem, &der, e) && pki_csr_verify(a, der, out, e);
}
