/*
 * DOC: Certificate signing requests (RFC 2986): made by agents, parsed by citadel. Parsing checks the proof of possession, because a CSR
 * whose signature does not verify says nothing about who holds the key; what the SANs may be is the caller's policy.
 */
#include "common/pki/pki_internal.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>

#include "common/base/str.h"

bool pki_csr_new(const struct pki_key *k, const char *const *uris, const char *const *dns, char **out_pem, struct err *e)
{
	unsigned char *san = NULL;
	size_t san_len = 0;
	if (!pki_sans_write(uris, dns, &san, &san_len, e))
		return false;
	mbedtls_x509write_csr csr;
	mbedtls_x509write_csr_init(&csr);
	mbedtls_x509write_csr_set_key(&csr, (mbedtls_pk_context *)&k->pk);
	mbedtls_x509write_csr_set_md_alg(&csr, MBEDTLS_MD_SHA256);
	int rc = mbedtls_x509write_csr_set_subject_name(&csr, "");
	if (!rc)
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

static bool verify_signature(mbedtls_x509_csr *csr, struct err *e)
{
	const mbedtls_md_info_t *md = mbedtls_md_info_from_type(csr->sig_md);
	unsigned char hash[MBEDTLS_MD_MAX_SIZE];
	if (!md || csr->sig_md == MBEDTLS_MD_SHA1 || csr->sig_md == MBEDTLS_MD_MD5)
		return err_set(e, ERR_PEER, "the CSR is signed with a digest that is not accepted (SHA-256 or better is)");
	int rc = mbedtls_md(md, csr->cri.p, csr->cri.len, hash);
	if (!rc)
		rc = mbedtls_pk_verify_ext(csr->sig_pk, csr->sig_opts, &csr->pk, csr->sig_md, hash, mbedtls_md_get_size(md), csr->sig.p,
			csr->sig.len);
	return rc == 0 || err_set(e, ERR_PEER, "the CSR's signature does not verify with its own public key");
}

/* One Extension { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }. */
static bool one_extension(struct arena *a, unsigned char **p, const unsigned char *end, struct pki_csr *out, struct err *e)
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
static bool one_attribute(struct arena *a, unsigned char **p, const unsigned char *end, struct pki_csr *out, struct err *e)
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
		mbedtls_asn1_get_tag(p, stop, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) || *p + len != stop)
		return err_set(e, ERR_PEER, "the CSR's extension request is not well-formed");
	while (*p < stop)
		if (!one_extension(a, p, stop, out, e))
			return false;
	return true;
}

/* CertificationRequestInfo { version, subject, SPKI, [0] attributes }: mbedTLS parses all but the attributes. */
static bool parse_attributes(struct arena *a, mbedtls_x509_csr *csr, struct pki_csr *out, struct err *e)
{
	unsigned char *p = csr->cri.p;
	const unsigned char *end = csr->cri.p + csr->cri.len;
	size_t len = 0;
	int version = 0;
	if (mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) || mbedtls_asn1_get_int(&p, end, &version))
		return err_set(e, ERR_PEER, "the CSR is not well-formed");
	for (int skip = 0; skip < 2; skip++) { /* subject, subjectPublicKeyInfo */
		unsigned char *start = p;
		if (mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE))
			return err_set(e, ERR_PEER, "the CSR is not well-formed");
		p += len;
		if (skip == 1)
			out->spki_der = str_n(arena_dup(a, start, (size_t)(p - start)), (size_t)(p - start));
	}
	if (p == end)
		return true;
	if (mbedtls_asn1_get_tag(&p, end, &len, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_CONTEXT_SPECIFIC))
		return err_set(e, ERR_PEER, "the CSR's attributes are not well-formed");
	const unsigned char *stop = p + len;
	while (p < stop)
		if (!one_attribute(a, &p, stop, out, e))
			return false;
	return true;
}

bool pki_csr_parse(struct arena *a, struct str pem, struct pki_csr *out, struct err *e)
{
	if (pem.len > LIMIT_CSR_BYTES)
		return err_set(e, ERR_LIMIT, "CSR of %zu bytes; the limit is %u", pem.len, LIMIT_CSR_BYTES);
	mbedtls_x509_csr csr;
	mbedtls_x509_csr_init(&csr);
	char *text = xstrndup(pem.ptr, pem.len);
	int rc = mbedtls_x509_csr_parse(&csr, (const unsigned char *)text, strlen(text) + 1);
	free(text);
	static const char *none[] = {NULL};
	struct pki_csr parsed = {.uris = none, .dns = none, .other_sans = none};
	bool ok = rc == 0;
	if (rc) {
		(void)pki_library_error(e, rc, "parse a PEM certificate signing request");
		if (e)
			e->kind = ERR_PEER;
	}
	ok = ok && verify_signature(&csr, e) && parse_attributes(a, &csr, &parsed, e);
	if (ok) {
		parsed.key_type = pki_pk_name(&csr.pk, &parsed.key_bits);
		*out = parsed;
	}
	mbedtls_x509_csr_free(&csr);
	return ok;
}
