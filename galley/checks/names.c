#include "galley/checks/names.h"

#include <arpa/inet.h>

#include "common/mesh/labels.h"

/*
 * DOC: Names. A label is RFC 1123's; a host may have a wildcard in its first label only ("*", "*.example.com", "*-x.example.com",
 * the last form being a warning where it matters); a top level that is all digits is refused, so that a mistyped IP address is no
 * host name. Label keys and values follow Kubernetes: an optional DNS prefix, then at most 63 bytes of letters, digits, '-', '_', '.'.
 */

static bool is_lower_alnum(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
}

static bool is_alnum(char ch)
{
	return is_lower_alnum(ch) || (ch >= 'A' && ch <= 'Z');
}

bool name_has_only(struct str s, const char *extra)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.ptr[i]) && (s.ptr[i] == '\0' || !strchr(extra, s.ptr[i])))
			return false;
	return s.len > 0;
}

bool name_is_label(struct str s)
{
	if (s.len == 0 || s.len > 63 || !is_lower_alnum(s.ptr[0]) || !is_lower_alnum(s.ptr[s.len - 1]))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_lower_alnum(s.ptr[i]) && s.ptr[i] != '-')
			return false;
	return true;
}

bool name_is_subdomain(struct str s)
{
	if (s.len == 0 || s.len > 253 || s.ptr[s.len - 1] == '.')
		return false;
	struct str rest = s, part;
	while (str_split(&rest, '.', &part))
		if (!name_is_label(part))
			return false;
	return true;
}

bool host_is_ip(struct str host)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char out[16];
	if (host.len == 0 || host.len >= sizeof(text))
		return false;
	memcpy(text, host.ptr, host.len);
	text[host.len] = '\0';
	return inet_pton(AF_INET, text, out) == 1 || inet_pton(AF_INET6, text, out) == 1;
}

/* Host labels compare without case, so capitals are fine in them. */
static bool is_host_label(struct str s)
{
	if (s.len == 0 || s.len > 63 || !is_alnum(s.ptr[0]) || !is_alnum(s.ptr[s.len - 1]))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-')
			return false;
	return true;
}

static bool is_wildcard_label(struct str s)
{
	if (s.len == 0 || s.ptr[0] != '*')
		return is_host_label(s);
	struct str rest = str_from(s, 1);
	return rest.len == 0 || (rest.len < 63 && rest.ptr[0] == '-' && is_host_label(str_from(rest, 1)));
}

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	return s.len > 0;
}

static const char *labels_problem(struct arena *a, struct str host, bool wildcard)
{
	if (host.len == 0)
		return "an empty host name";
	if (host.len > 255)
		return "a host name of more than 255 bytes";
	struct str rest = host, part, last = STR("");
	for (bool first = true; str_split(&rest, '.', &part); first = false) {
		if (part.len == 0 && !rest.ptr && !first)
			break; /* a final dot */
		if (first && wildcard ? !is_wildcard_label(part) : !is_host_label(part))
			return arena_printf(a, "\"" STR_FMT "\" is not a host name: \"" STR_FMT "\" is not a DNS label",
				STR_ARG(host), STR_ARG(part));
		last = part;
	}
	if (!str_eq(last, host) && all_digits(last))
		return arena_printf(
			a, "\"" STR_FMT "\" is not a host name: its top level is all digits", STR_ARG(host));
	return NULL;
}

const char *host_problem(struct arena *a, struct str host)
{
	return labels_problem(a, host, true);
}

const char *fqdn_problem(struct arena *a, struct str host)
{
	return labels_problem(a, host, false);
}

const char *label_value_problem(struct arena *a, struct str value)
{
	if (value.len == 0)
		return NULL;
	bool ok = value.len <= 63 && is_alnum(value.ptr[0]) && is_alnum(value.ptr[value.len - 1]);
	for (size_t i = 0; ok && i < value.len; i++)
		ok = is_alnum(value.ptr[i]) || value.ptr[i] == '-' || value.ptr[i] == '_' || value.ptr[i] == '.';
	return ok ? NULL : arena_printf(a, "\"" STR_FMT "\" is not a label value", STR_ARG(value));
}

const char *label_key_problem(struct arena *a, struct str key)
{
	struct str prefix, name;
	if (!str_cut(key, '/', &prefix, &name))
		name = key;
	else if (!name_is_subdomain(prefix))
		return arena_printf(a, "the prefix of label \"" STR_FMT "\" is not a DNS name", STR_ARG(key));
	if (name.len == 0 || label_value_problem(a, name))
		return arena_printf(a, "\"" STR_FMT "\" is not a label key", STR_ARG(key));
	return NULL;
}

void check_label(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!name_is_label(s))
		check_error(c, "dns-label", r->source, p->path,
			"\"" STR_FMT "\" is not a DNS label (lower-case letters, digits and '-', at most 63)",
			STR_ARG(s));
}

void check_host(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	const char *problem = str_eqc(s, "*") ? "\"*\" is not allowed here" : host_problem(c->arena, s);
	if (problem)
		check_error(c, "host", r->source, p->path, "%s", problem);
}

void check_host_or_ip(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	const char *problem = host_is_ip(s) ? NULL : host_problem(c->arena, s);
	if (problem)
		check_error(c, "host", r->source, p->path, "%s", problem);
}

/* "$(HOST_IP)" is the machine's address, which the proxy finds in its environment. */
static const char *address_problem(struct arena *a, struct str s, bool ip_only)
{
	struct str host, port;
	size_t colon = 0;
	uint32_t number = 0;
	if (!str_rfind(s, ':', &colon))
		return "host:port is expected";
	host = str_sub(s, 0, colon);
	port = str_from(s, colon + 1);
	if (!str_u32(port, 65535, &number) || !number)
		return arena_printf(a, "port \"" STR_FMT "\" is not in the range 1..65535", STR_ARG(port));
	if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		return host_is_ip(str_sub(host, 1, host.len - 2)) ? NULL : "no address is in the brackets";
	if (str_find(host, ':', &colon))
		return "an address of IPv6 stands in brackets";
	if (host_is_ip(host) || (!ip_only && str_eqc(host, "$(HOST_IP)")))
		return NULL;
	return ip_only ? "an IP address and a port are expected" : fqdn_problem(a, host);
}

void check_address(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const char *problem = address_problem(c->arena, place_str(p), r->max > 0);
	if (problem)
		check_error(c, "address", r->source, p->path, "%s", problem);
}

void check_fqdn(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const char *problem = fqdn_problem(c->arena, place_str(p));
	if (problem)
		check_error(c, "host", r->source, p->path, "%s", problem);
}

void check_port_name(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!name_is_label(s))
		check_error(
			c, "port-name", r->source, p->path, "port name \"" STR_FMT "\" is not a DNS label", STR_ARG(s));
}

static void check_gateway_name(struct check *c, const struct rule *r, struct str name, const char *path)
{
	struct str ns, gateway;
	if (str_cut(name, '/', &ns, &gateway)) {
		if (!str_eqc(ns, ".") && !name_is_label(ns))
			check_error(
				c, "gateway-name", r->source, path, "\"" STR_FMT "\" is not a namespace", STR_ARG(ns));
		if (!name_is_label(gateway))
			check_error(c, "gateway-name", r->source, path, "\"" STR_FMT "\" is not a Gateway's name",
				STR_ARG(gateway));
		return;
	}
	const char *problem = fqdn_problem(c->arena, name);
	if (problem)
		check_error(c, "gateway-name", r->source, path, "%s", problem);
	else if (str_find(name, '.', &(size_t){0}))
		check_warn(c, "legacy-gateway-name", r->source, path,
			"\"" STR_FMT "\" is the old way to name a Gateway; write <namespace>/<name>", STR_ARG(name));
}

void check_gateway_names(struct check *c, const struct rule *r, const struct pb_place *p)
{
	check_gateway_name(c, r, place_str(p), p->path);
}

/* One entry; the rules between entries are in check_export_list. */
void check_export_to(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	bool special = str_eqc(s, "*") || str_eqc(s, ".") || (str_eqc(s, "~") && r->max > 0);
	if (!special && !name_is_label(s))
		check_error(c, "export-to", r->source, p->path, "\"" STR_FMT "\" is no namespace, \"*\" or \".\"%s",
			STR_ARG(s), r->max > 0 ? " or \"~\"" : "");
}

void check_labels(struct check *c, struct label_view labels, const char *path, const char *source)
{
	struct label_set set = {labels.n, labels.entries};
	for (size_t i = 0; i < labels.n; i++) {
		struct label l = label_at(set, i);
		const char *problem = label_key_problem(c->arena, str_of(l.key));
		if (!problem)
			problem = label_value_problem(c->arena, str_of(l.value));
		if (problem)
			check_error(c, "label", source, path, "%s", problem);
	}
}

void check_selector(struct check *c, struct label_view labels, const char *path, const char *source)
{
	struct label_set set = {labels.n, labels.entries};
	if (labels.n == 0)
		check_warn(c, "selector-empty", source, path,
			"a selector without labels selects every workload of the namespace");
	for (size_t i = 0; i < labels.n; i++) {
		struct label l = label_at(set, i);
		if (str_empty(l.key))
			check_error(c, "selector", source, path, "a selector has no empty keys");
		if (strchr(l.key ? l.key : "", '*') || strchr(l.value ? l.value : "", '*'))
			check_error(c, "selector", source, path, "a selector has no wildcards: %s=%s", l.key, l.value);
	}
}
