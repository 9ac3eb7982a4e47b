/*
 * DOC: The SubjectAltName extension, by hand: mbedTLS 2.28 writes DNS names only and, in requests, none at all without help, and SPIFFE
 * needs URIs. RFC 5280, 4.2.1.6.
 */
#include "common/pki/pki_internal.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/oid.h>

#include "common/base/vec.h"

static const char *other_name(unsigned tag)
{
	switch (tag) {
	case SAN_EMAIL:
		return "email";
	case SAN_IP:
		return "ip";
	case SAN_DIRECTORY:
		return "directory";
	case SAN_OTHER:
		return "otherName";
	default:
		return "unknown";
	}
}

typedef VEC(const char *) names;

static const char **terminated(struct arena *a, const names *v)
{
	const char **list = ARENA_ARRAY(a, const char *, v->len + 1);
	for (size_t i = 0; i < v->len; i++)
		list[i] = v->items[i];
	return list;
}

static bool one_name(struct arena *a, unsigned char **p, const unsigned char *end, names lists[3], struct err *e)
{
	unsigned char tag = **p;
	(*p)++;
	size_t len = 0;
	if (mbedtls_asn1_get_len(p, end, &len) || (tag & MBEDTLS_ASN1_TAG_CLASS_MASK) != MBEDTLS_ASN1_CONTEXT_SPECIFIC)
		return err_set(e, ERR_PEER, "the subjectAltName extension is not well-formed (RFC 5280)");
	unsigned kind = tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
	struct str text = str_n(*p, len);
	*p += len;
	if (kind != SAN_URI && kind != SAN_DNS) {
		vec_push(&lists[2], other_name(kind));
		return true;
	}
	/* An embedded NUL would make the name mean one thing to us and another to C strings elsewhere. */
	if (memchr(text.ptr, 0, text.len))
		return err_set(e, ERR_PEER, "a subjectAltName contains a NUL byte");
	vec_push(&lists[kind == SAN_URI ? 0 : 1], arena_cstr(a, text));
	return true;
}

bool pki_sans_parse(struct arena *a, const unsigned char *der, size_t len, struct pki_sans *out, struct err *e)
{
	unsigned char *p = (unsigned char *)der;
	const unsigned char *end = der + len;
	size_t seq = 0;
	if (mbedtls_asn1_get_tag(&p, end, &seq, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) || p + seq != end)
		return err_set(e, ERR_PEER, "the subjectAltName extension is not a SEQUENCE (RFC 5280)");
	names lists[3] = {0};
	bool ok = true;
	while (ok && p < end)
		ok = one_name(a, &p, end, lists, e);
	if (ok)
		*out = (struct pki_sans){terminated(a, &lists[0]), terminated(a, &lists[1]), terminated(a, &lists[2])};
	for (size_t i = 0; i < 3; i++)
		vec_done(&lists[i]);
	return ok;
}

/* mbedTLS writes ASN.1 backwards, from *p down to start: so the last name goes first. */
static int write_names(unsigned char **p, unsigned char *start, const char *const *list, unsigned kind)
{
	int total = 0, rc = 0;
	size_t i = 0;
	while (list && list[i])
		i++;
	while (i-- > 0) {
		size_t len = strlen(list[i]);
		rc = mbedtls_asn1_write_raw_buffer(p, start, (const unsigned char *)list[i], len);
		if (rc < 0)
			return rc;
		int n = rc;
		if ((rc = mbedtls_asn1_write_len(p, start, len)) < 0)
			return rc;
		n += rc;
		if ((rc = mbedtls_asn1_write_tag(p, start, (unsigned char)(MBEDTLS_ASN1_CONTEXT_SPECIFIC | kind))) < 0)
			return rc;
		total += n + rc;
	}
	return total;
}

static size_t names_size(const char *const *list)
{
	size_t size = 0;
	for (size_t i = 0; list && list[i]; i++)
		size += strlen(list[i]) + 8;
	return size;
}

bool pki_sans_write(const char *const *uris, const char *const *dns, unsigned char **out, size_t *len, struct err *e)
{
	size_t size = names_size(uris) + names_size(dns) + 16;
	unsigned char *buf = xzalloc(size), *p = buf + size;
	int a = write_names(&p, buf, dns, SAN_DNS);
	int b = a < 0 ? a : write_names(&p, buf, uris, SAN_URI);
	int c = b < 0 ? b : mbedtls_asn1_write_len(&p, buf, (size_t)(a + b));
	int d = c < 0 ? c : mbedtls_asn1_write_tag(&p, buf, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
	if (d < 0) {
		free(buf);
		return pki_library_error(e, d, "write subjectAltName");
	}
	*len = (size_t)(a + b + c + d);
	*out = xmalloc(*len);
	memcpy(*out, p, *len);
	free(buf);
	return true;
}
