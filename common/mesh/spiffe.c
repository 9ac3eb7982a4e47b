/*
 * DOC: SPIFFE identities in Istio's path format. The character rules are those of the SPIFFE-ID specification,
 * sections 2.1 to 2.3: a trust domain of lower-case letters, digits, dots, dashes and underscores, path segments of
 * the same with upper case, neither empty nor a relative "." or "..", no query, no port, at most 2048 bytes.
 */
#include "common/mesh/spiffe.h"

#define SPIFFE_MAX_BYTES 2048u
#define TRUST_DOMAIN_MAX_BYTES 255u

static bool valid_chars(struct str s, bool upper_too)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool lower = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';

		if (!lower && !(upper_too && c >= 'A' && c <= 'Z'))
			return false;
	}
	return s.len > 0;
}

static bool valid_segment(struct str s)
{
	return valid_chars(s, true) && !str_eq(s, STR(".")) && !str_eq(s, STR(".."));
}

bool spiffe_parse(struct str uri, struct spiffe_id *out, struct err *e)
{
	static const struct str scheme = {"spiffe://", 9};
	struct str part[5];
	struct str rest = str_from(uri, scheme.len);
	size_t n = 0;

	if (uri.len > SPIFFE_MAX_BYTES)
		return err_set(e, ERR_LIMIT, "SPIFFE ID: %zu bytes, at most %u are allowed", uri.len, SPIFFE_MAX_BYTES);
	if (!str_starts(uri, scheme))
		return err_set(e, ERR_PEER, "SPIFFE ID \"" STR_FMT "\": does not begin with spiffe://", STR_ARG(uri));
	while (n < ARRAY_LEN(part) && str_split(&rest, '/', &part[n]))
		n++;
	if (n != ARRAY_LEN(part) || rest.ptr || !str_eq(part[1], STR("ns")) || !str_eq(part[3], STR("sa")))
		return err_set(e, ERR_PEER,
			"SPIFFE ID \"" STR_FMT "\": not spiffe://<trust domain>/ns/<namespace>/sa/<account>",
			STR_ARG(uri));
	if (!valid_chars(part[0], false) || part[0].len > TRUST_DOMAIN_MAX_BYTES)
		return err_set(e, ERR_PEER, "SPIFFE ID \"" STR_FMT "\": invalid trust domain", STR_ARG(uri));
	if (!valid_segment(part[2]) || !valid_segment(part[4]))
		return err_set(e, ERR_PEER, "SPIFFE ID \"" STR_FMT "\": invalid character or segment in its path",
			STR_ARG(uri));
	*out = (struct spiffe_id){.trust_domain = part[0], .ns = part[2], .service_account = part[4]};
	return true;
}

char *spiffe_format(struct arena *a, struct str trust_domain, struct str ns, struct str service_account)
{
	return arena_printf(a, "spiffe://" STR_FMT "/ns/" STR_FMT "/sa/" STR_FMT, STR_ARG(trust_domain), STR_ARG(ns),
		STR_ARG(service_account));
}
