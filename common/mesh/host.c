/*
 * DOC: Host names by Istio's rules. A name without a dot is short and means a service of the namespace it is used in;
 * every other name stands as it is, "reviews.ns" too (Istio documents this as a frequent mistake, and treats it so).
 * A wildcard is a leading "*" followed by a suffix; whether a name belongs to it is a comparison of suffixes. Names
 * are compared without regard to ASCII case.
 */
#include "common/mesh/host.h"

#define HOST_MAX_BYTES 255u /* RFC 1035 section 2.3.4 */
#define LABEL_MAX_BYTES 63u

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool ends_with(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_ieq(str_from(s, s.len - suffix.len), suffix);
}

bool host_is_wildcard(struct str host)
{
	return host.len > 0 && host.ptr[0] == '*';
}

struct str host_lower(struct arena *a, struct str host)
{
	char *out = arena_cstr(a, host);

	for (char *c = out; *c; c++)
		*c = lower(*c);
	return str_n(out, host.len);
}

struct str host_resolve(struct arena *a, struct str host, struct str ns, struct str suffix)
{
	size_t at;
	char *out;

	/* An IPv6 address has no dot either. */
	if (host.len == 0 || host_is_wildcard(host) || str_find(host, '.', &at) || str_find(host, ':', &at))
		out = arena_cstr(a, host);
	else
		out = arena_printf(a, STR_FMT "." STR_FMT ".svc." STR_FMT, STR_ARG(host), STR_ARG(ns), STR_ARG(suffix));
	return host_lower(a, str_of(out));
}

bool host_matches(struct str pattern, struct str host)
{
	if (!host_is_wildcard(pattern))
		return !host_is_wildcard(host) && str_ieq(pattern, host);
	if (host_is_wildcard(host))
		return ends_with(str_from(host, 1), str_from(pattern, 1));
	return ends_with(host, str_from(pattern, 1));
}

bool host_overlaps(struct str x, struct str y)
{
	return host_matches(x, y) || host_matches(y, x);
}

/* Exact names first, then longer before shorter, then by the alphabet: Istio's order of host lists. */
int host_specificity(struct str x, struct str y)
{
	bool wild_x = host_is_wildcard(x);
	bool wild_y = host_is_wildcard(y);

	if (wild_x != wild_y)
		return wild_x ? 1 : -1;
	if (x.len != y.len)
		return x.len > y.len ? -1 : 1;
	for (size_t i = 0; i < x.len; i++) {
		if (lower(x.ptr[i]) != lower(y.ptr[i]))
			return lower(x.ptr[i]) < lower(y.ptr[i]) ? -1 : 1;
	}
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

static const char *check_label(struct str label)
{
	if (label.len == 0)
		return "a label between dots is empty";
	if (label.len > LABEL_MAX_BYTES)
		return "a label is longer than 63 bytes (RFC 1123)";
	if (!is_alnum(label.ptr[0]) || !is_alnum(label.ptr[label.len - 1]))
		return "a label begins or ends with something else than a letter or digit (RFC 1123)";
	for (size_t i = 0; i < label.len; i++) {
		if (!is_alnum(label.ptr[i]) && label.ptr[i] != '-')
			return "a label holds something else than letters, digits and dashes (RFC 1123)";
	}
	return NULL;
}

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_digit(s.ptr[i]))
			return false;
	}
	return s.len > 0;
}

/* The first label of a wildcard name: "*", or "*-" before an ordinary label. Leaves what must still be checked. */
static const char *check_wildcard(struct str *label)
{
	if (str_eq(*label, STR("*"))) {
		*label = (struct str){0};
		return NULL;
	}
	if (!str_starts(*label, STR("*-")) || label->len == 2)
		return "a wildcard is \"*\", \"*.suffix\" or \"*-label.suffix\"";
	*label = str_from(*label, 2);
	return NULL;
}

const char *host_check(struct str host, bool wildcard_allowed)
{
	struct str rest = host;
	struct str label;
	struct str last = {0};
	const char *reason;

	if (host.len == 0)
		return "a host name must not be empty";
	if (host.len > HOST_MAX_BYTES)
		return "a host name has at most 255 bytes (RFC 1035)";
	if (host_is_wildcard(host)) {
		if (!wildcard_allowed)
			return "a wildcard is not allowed here";
		(void)str_split(&rest, '.', &label);
		reason = check_wildcard(&label);
		if (!reason && label.len > 0)
			reason = check_label(label);
		if (reason)
			return reason;
	}
	/* A dot at the end makes a name absolute. */
	if (host.len > 1 && host.ptr[host.len - 1] == '.' && rest.len > 0)
		rest.len--;
	while (str_split(&rest, '.', &label)) {
		reason = check_label(label);
		if (reason)
			return reason;
		last = label;
	}
	return all_digits(last) ? "the last label is a number, so this is no host name" : NULL;
}

bool host_split_service(struct str fqdn, struct str suffix, struct str *name, struct str *ns)
{
	struct str head;
	size_t at;

	if (fqdn.len <= suffix.len || suffix.len == 0 || !ends_with(fqdn, suffix) ||
		fqdn.ptr[fqdn.len - suffix.len - 1] != '.')
		return false;
	head = str_sub(fqdn, 0, fqdn.len - suffix.len - 1);
	if (!ends_with(head, STR(".svc")))
		return false;
	head.len -= STR(".svc").len;
	if (!str_find(head, '.', &at) || at == 0 || at + 1 == head.len || host_is_wildcard(head) ||
		memchr(head.ptr + at + 1, '.', head.len - at - 1))
		return false;
	*name = str_sub(head, 0, at);
	*ns = str_from(head, at + 1);
	return true;
}

size_t host_aliases(struct arena *a, struct str fqdn, struct str client_ns, struct str suffix, struct str out[4])
{
	struct str name;
	struct str ns;
	size_t n = 0;

	out[n++] = arena_str(a, fqdn);
	if (!host_split_service(fqdn, suffix, &name, &ns))
		return n;
	out[n++] = str_of(arena_printf(a, STR_FMT "." STR_FMT ".svc", STR_ARG(name), STR_ARG(ns)));
	out[n++] = str_of(arena_printf(a, STR_FMT "." STR_FMT, STR_ARG(name), STR_ARG(ns)));
	if (str_eq(ns, client_ns))
		out[n++] = arena_str(a, name);
	return n;
}

size_t host_alias_owners(struct arena *a, struct str name, struct str client_ns, struct str suffix, struct str out[3])
{
	size_t n = 0;

	out[n++] = name;
	if (str_ends(name, STR(".svc")))
		out[n++] = str_of(arena_printf(a, STR_FMT "." STR_FMT, STR_ARG(name), STR_ARG(suffix)));
	else if (str_find(name, '.', &(size_t){0}))
		out[n++] = str_of(arena_printf(a, STR_FMT ".svc." STR_FMT, STR_ARG(name), STR_ARG(suffix)));
	out[n++] = str_of(arena_printf(
		a, STR_FMT "." STR_FMT ".svc." STR_FMT, STR_ARG(name), STR_ARG(client_ns), STR_ARG(suffix)));
	return n;
}
