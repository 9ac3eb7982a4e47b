/*
 * DOC: Socket addresses and IP literals. Only inet_pton(3) and inet_ntop(3) decide what an address is, so shortened forms
 * ("10.1") that other parsers take are refused. "unix:/path" and, as gRPC writes it, "unix:///path"; "unix:@name" is Linux's
 * abstract namespace.
 */
#include "common/io/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

static bool parse_unix(struct str path, struct addr *out, struct err *e)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->sa;
	if (str_starts(path, STR("///")))
		path = str_from(path, 2);
	if (!path.len)
		return err_set(e, ERR_PEER, "address \"unix:\" has no path");
	if (path.len >= sizeof(un->sun_path))
		return err_set(e, ERR_LIMIT,
			"address \"unix:" STR_FMT "\": the path has %zu bytes, the kernel takes %zu", STR_ARG(path),
			path.len, sizeof(un->sun_path) - 1);
	if (memchr(path.ptr, 0, path.len))
		return err_set(e, ERR_PEER, "address \"unix:...\" contains a NUL byte");
	memset(out, 0, sizeof(*out));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path.ptr, path.len);
	bool abstract = path.ptr[0] == '@';
	if (abstract)
		un->sun_path[0] = 0;
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + (abstract ? 0 : 1));
	return true;
}

bool addr_split(struct str text, struct str *host, uint16_t *port, struct err *e)
{
	size_t at;
	if (!str_rfind(text, ':', &at))
		return err_set(e, ERR_PEER, "address \"" STR_FMT "\" has no port (want host:port)", STR_ARG(text));
	struct str h = str_sub(text, 0, at);
	struct str p = str_from(text, at + 1);
	uint32_t number;
	if (!str_u32(p, 65535, &number))
		return err_set(e, ERR_PEER, "address \"" STR_FMT "\": port \"" STR_FMT "\" is not 0..65535",
			STR_ARG(text), STR_ARG(p));
	bool brackets = h.len >= 2 && h.ptr[0] == '[' && h.ptr[h.len - 1] == ']';
	if (brackets)
		h = str_sub(h, 1, h.len - 2);
	else if (str_find(h, ':', &at))
		return err_set(
			e, ERR_PEER, "address \"" STR_FMT "\": IPv6 needs brackets (\"[::1]:80\")", STR_ARG(text));
	if (!h.len)
		return err_set(e, ERR_PEER, "address \"" STR_FMT "\" has no host", STR_ARG(text));
	*host = h;
	*port = (uint16_t)number;
	return true;
}

bool addr_parse(struct str text, struct addr *out, struct err *e)
{
	if (str_starts(text, STR("unix:")))
		return parse_unix(str_from(text, 5), out, e);
	struct str host;
	uint16_t port;
	if (!addr_split(text, &host, &port, e))
		return false;
	uint8_t ip[16] = {0};
	unsigned bits = 128;
	if (!str_eqc(host, "*") && !ip_parse(host, ip, &bits))
		return err_set(e, ERR_PEER, "address \"" STR_FMT "\": \"" STR_FMT "\" is not an IP address",
			STR_ARG(text), STR_ARG(host));
	memset(out, 0, sizeof(*out));
	if (bits == 32) {
		struct sockaddr_in *in = (struct sockaddr_in *)&out->sa;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, ip, 4);
		out->len = sizeof(*in);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->sa;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, ip, 16);
		out->len = sizeof(*in6);
	}
	return true;
}

static void format_unix(const struct addr *a, char out[128])
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&a->sa;
	size_t head = offsetof(struct sockaddr_un, sun_path);
	size_t len = a->len > head ? a->len - head : 0;
	if (!len)
		(void)snprintf(out, 128, "unix");
	else if (!un->sun_path[0])
		(void)snprintf(out, 128, "unix:@%.*s", (int)len - 1, un->sun_path + 1);
	else
		(void)snprintf(out, 128, "unix:%.*s", (int)strnlen(un->sun_path, len), un->sun_path);
}

void addr_format(const struct addr *a, char out[128])
{
	char ip[INET6_ADDRSTRLEN] = "";
	if (a->sa.ss_family == AF_UNIX) {
		format_unix(a, out);
	} else if (a->sa.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&a->sa;
		(void)inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
		(void)snprintf(out, 128, "%s:%u", ip, ntohs(in->sin_port));
	} else if (a->sa.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->sa;
		const bool v4 = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr); /* who came by IPv4 to a socket of both */
		const uint8_t *bytes = in6->sin6_addr.s6_addr;
		(void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? bytes + 12 : bytes, ip, sizeof(ip));
		(void)snprintf(out, 128, v4 ? "%s:%u" : "[%s]:%u", ip, ntohs(in6->sin6_port));
	} else {
		(void)snprintf(out, 128, "unknown");
	}
}

bool addr_is_unix(const struct addr *a)
{
	return a->sa.ss_family == AF_UNIX;
}
