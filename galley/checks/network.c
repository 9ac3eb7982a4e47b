#include "galley/checks/values.h"

#include "common/mesh/protocol.h"
#include "galley/checks/names.h"

/*
 * DOC: Addresses and protocols. A protocol is one of the names that Istio's port naming knows; everything else is sniffed or plain
 * TCP, which a Gateway or ServiceEntry must say rather than guess.
 */

const char *protocol_canonical(struct str name)
{
	const struct protocol_row *row = protocol_find(name);
	return row ? row->name : "";
}

void check_protocol(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (s.len && !protocol_find(s))
		check_error(c, "protocol", r->source, p->path,
			"\"" STR_FMT
			"\" is no protocol; HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS, UDP are",
			STR_ARG(s));
}

void check_listener_protocol(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!protocol_find(s))
		check_error(c, "protocol", r->source, p->path,
			"\"" STR_FMT "\" is no protocol of a server; HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, "
			"MYSQL, TCP, TLS are",
			STR_ARG(s));
}

void check_ip(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!host_is_ip(s))
		check_error(c, "ip", r->source, p->path, "\"" STR_FMT "\" is not an IP address", STR_ARG(s));
}

bool cidr_ok(struct str s)
{
	struct str address, length;
	if (!str_cut(s, '/', &address, &length))
		return host_is_ip(s);
	size_t colon;
	uint32_t bits;
	return host_is_ip(address) && str_u32(length, str_find(address, ':', &colon) ? 128 : 32, &bits);
}

void check_cidr(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!cidr_ok(s))
		check_error(c, "cidr", r->source, p->path, "\"" STR_FMT "\" is neither an IP address nor a CIDR block",
			STR_ARG(s));
}

const char *unix_path_problem(struct str path)
{
	if (path.len == 0)
		return "the path of a Unix socket must not be empty";
	if (path.ptr[0] == '@')
		return NULL; /* abstract */
	if (path.ptr[0] != '/' || path.ptr[path.len - 1] == '/')
		return "a Unix socket is named by an absolute path";
	return NULL;
}

void check_bind(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	const char *problem = NULL;
	if (str_starts(s, STR("unix://")))
		problem = unix_path_problem(str_from(s, 7));
	else if (!host_is_ip(s))
		problem = path_at(c, "\"" STR_FMT "\" is not an IP address", STR_ARG(s));
	if (problem)
		check_error(c, "bind", r->source, p->path, "%s", problem);
}

void check_trust_domain(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p), trimmed = s;
	if (trimmed.len > 1 && trimmed.ptr[trimmed.len - 1] == '.')
		trimmed.len--;
	if (!name_is_subdomain(trimmed))
		check_error(c, "trust-domain", r->source, p->path, "\"" STR_FMT "\" is not a trust domain", STR_ARG(s));
}
