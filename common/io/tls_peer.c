/*
 * DOC: Who a verified certificate says its holder is. Only subject alternative names count (RFC 9525; SPIFFE X.509-SVID): the
 * common name is never looked at. In a trust domain a certificate carries exactly one URI, spiffe://<trust domain>/<path>.
 */
#include <mbedtls/asn1.h>
#include <time.h>

#include "common/io/addr.h"
#include "common/io/tls_impl.h"

#define SAN(tag) (MBEDTLS_ASN1_CONTEXT_SPECIFIC | (tag))
#define SAN_DNS SAN(2)
#define SAN_URI SAN(6)
#define SAN_IP SAN(7)

static struct str san_str(const mbedtls_x509_sequence *san)
{
	return str_n(san->buf.p, san->buf.len);
}

/* RFC 9525, 6.3: a wildcard is the whole left-most label and stands for exactly one. */
static bool dns_matches(struct str pattern, struct str name)
{
	struct str first, rest;
	if (str_ieq(pattern, name))
		return true;
	if (!str_starts(pattern, STR("*.")) || !str_cut(name, '.', &first, &rest) || !first.len)
		return false;
	return str_ieq(str_from(pattern, 2), rest);
}

static bool san_matches(const mbedtls_x509_sequence *san, struct str name)
{
	uint8_t ip[16];
	unsigned bits;
	if (san->buf.tag == SAN_URI)
		return str_eq(san_str(san), name);
	if (san->buf.tag == SAN_IP)
		return ip_parse(name, ip, &bits) && san->buf.len == bits / 8 && !memcmp(san->buf.p, ip, bits / 8);
	return san->buf.tag == SAN_DNS && !ip_parse(name, ip, &bits) && dns_matches(san_str(san), name);
}

static const mbedtls_x509_sequence *first_san(const mbedtls_x509_crt *leaf)
{
	return leaf->subject_alt_names.buf.p ? &leaf->subject_alt_names : NULL;
}

static bool any_name(const struct tls_setup *s, const mbedtls_x509_crt *leaf)
{
	for (char **name = s->names; *name; name++)
		for (const mbedtls_x509_sequence *san = first_san(leaf); san; san = san->next)
			if (san_matches(san, str_of(*name)))
				return true;
	return false;
}

static void list_sans(const mbedtls_x509_crt *leaf, struct strbuf *out)
{
	for (const mbedtls_x509_sequence *san = first_san(leaf); san; san = san->next) {
		if (san->buf.tag != SAN_DNS && san->buf.tag != SAN_URI)
			continue;
		if (out->len)
			strbuf_adds(out, ", ");
		strbuf_add(out, str_sub(san_str(san), 0, 100));
	}
}

static bool wrong_name(const struct tls_setup *s, const mbedtls_x509_crt *leaf, struct err *e)
{
	struct strbuf has = {0};
	list_sans(leaf, &has);
	(void)err_set(e, ERR_DENIED, "the peer's certificate is for [%s], none of which is %s%s",
		has.ptr ? has.ptr : "", s->names[0], s->names[1] ? " or another accepted name" : "");
	strbuf_done(&has);
	return false;
}

static bool in_trust_domain(struct str uri, const char *trust_domain)
{
	struct str prefix = STR("spiffe://");
	struct str domain, path;
	if (!str_starts(uri, prefix) || !str_cut(str_from(uri, prefix.len), '/', &domain, &path))
		return false;
	return str_eqc(domain, trust_domain) && path.len;
}

static int64_t time_ms(const mbedtls_x509_time *t)
{
	struct tm tm = {.tm_year = t->year - 1900,
		.tm_mon = t->mon - 1,
		.tm_mday = t->day,
		.tm_hour = t->hour,
		.tm_min = t->min,
		.tm_sec = t->sec};
	return (int64_t)timegm(&tm) * 1000;
}

bool tls_peer_check(const struct tls_setup *s, const mbedtls_x509_crt *leaf, struct tls_peer *peer, struct err *e)
{
	size_t uris = 0;
	struct str uri = {0};
	for (const mbedtls_x509_sequence *san = first_san(leaf); san; san = san->next) {
		if (san->buf.tag != SAN_URI)
			continue;
		uri = san_str(san);
		uris++;
	}
	if (s->trust_domain && uris != 1)
		return err_set(
			e, ERR_DENIED, "the peer's certificate has %zu URI names, want exactly one SPIFFE id", uris);
	if (s->trust_domain && !in_trust_domain(uri, s->trust_domain))
		return err_set(e, ERR_DENIED, "the peer's identity \"" STR_FMT "\" is not in trust domain %s",
			(int)min_size(uri.len, 200), uri.ptr, s->trust_domain);
	if (s->names && !any_name(s, leaf))
		return wrong_name(s, leaf, e);
	peer->spiffe_id = uris == 1 && str_starts(uri, STR("spiffe://")) ? uri : STR("");
	peer->not_after_ms = time_ms(&leaf->valid_to);
	return true;
}
