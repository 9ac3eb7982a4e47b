/*
 * DOC: Where publishers listen. For ipc we make the listening sockets ourselves and hand them to ZeroMQ, for two
 * reasons: a stale file is replaced by rename(2), so that there is never a moment without a socket, and ZeroMQ leaves
 * the file alone when it closes, which it does later on its own thread, possibly after a successor has put its own
 * socket there.
 */
#include "common/bus/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/io/addr.h"
#include "common/io/file.h"

static char *fill_role(const char *address, const char *role)
{
	struct strbuf out = {0};
	const char *at = NULL;
	while ((at = strstr(address, "{role}"))) {
		strbuf_add(&out, str_n(address, (size_t)(at - address)));
		strbuf_adds(&out, role);
		address = at + strlen("{role}");
	}
	strbuf_adds(&out, address);
	return strbuf_take(&out);
}

static bool parse_ipc(const char *filled, struct bus_address *out, struct err *e)
{
	const size_t scheme = strlen("ipc://");
	int n = snprintf(out->snap, sizeof(out->snap), "%s-snap", filled);
	(void)snprintf(out->live, sizeof(out->live), "%s-live", filled);
	if ((size_t)n - scheme >= sizeof(((struct sockaddr_un *)NULL)->sun_path) - 8)
		return err_set(e, ERR_LIMIT, "the path of a Unix socket has at most 99 bytes");
	if (filled[scheme] != '/')
		return err_set(e, ERR_PEER, "the path after ipc:// is not absolute");
	out->ipc = true;
	out->snap_path = out->snap + scheme;
	out->live_path = out->live + scheme;
	return true;
}

static bool parse_tcp(const char *filled, struct bus_address *out, struct err *e)
{
	const struct str rest = str_from(str_of(filled), strlen("tcp://"));
	struct str host = {0};
	uint16_t port = 0;
	if (!addr_split(rest, &host, &port, e))
		return err_in(e, "after tcp://");
	if (port == 0 || port == 65535)
		return err_set(e, ERR_PEER, "port %u is not 1..65534 (the next one is used, too)", port);
	if (rest.len >= sizeof(out->snap) - 16)
		return err_set(e, ERR_LIMIT, "host name too long");
	uint8_t ip[16];
	unsigned bits = 0;
	size_t at;
	const bool brackets = str_find(host, ':', &at);
	const char *open = brackets ? "[" : "", *shut = brackets ? "]" : "";
	out->named = !str_eqc(host, "*") && !ip_parse(host, ip, &bits);
	(void)snprintf(out->host, sizeof(out->host), STR_FMT, STR_ARG(host));
	out->port = port;
	(void)snprintf(out->snap, sizeof(out->snap), "tcp://%s" STR_FMT "%s:%u", open, STR_ARG(host), shut, port);
	(void)snprintf(out->live, sizeof(out->live), "tcp://%s" STR_FMT "%s:%u", open, STR_ARG(host), shut, port + 1);
	return true;
}

bool bus_address_parse(const char *address, const char *role, struct bus_address *out, struct err *e)
{
	*out = (struct bus_address){0};
	cleanup(free_p) char *filled = fill_role(address, role);
	bool ok = false;
	if (str_starts(str_of(filled), STR("ipc://")))
		ok = parse_ipc(filled, out, e);
	else if (str_starts(str_of(filled), STR("tcp://")))
		ok = parse_tcp(filled, out, e);
	else
		(void)err_set(e, ERR_PEER, "neither ipc:// nor tcp://");
	return ok || err_in(e, "bus address \"%s\"", filled);
}

/* The path fits: bus_address_parse() saw to it. */
static int unix_socket(const char *path, struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, path, strnlen(path, sizeof(addr->sun_path) - 1));
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool answers(const char *path)
{
	struct sockaddr_un addr;
	cleanup(close_p) int fd = unix_socket(path, &addr);
	return fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
}

static bool make_directory(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	if (slash == path)
		return true;
	cleanup(free_p) char *dir = xstrndup(path, (size_t)(slash - path));
	return file_mkdirs(dir, 0700, e);
}

static uint64_t inode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void bus_ipc_unlink(const char *path, uint64_t inode)
{
	if (inode && inode_of(path) == inode)
		(void)unlink(path);
}

bool bus_ipc_listen(const char *path, int *out_fd, uint64_t *out_inode, struct err *e)
{
	if (!make_directory(path, e))
		return false;
	if (answers(path))
		return err_set(e, ERR_SYSTEM, "%s: another publisher listens there", path);
	char fresh[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	(void)snprintf(fresh, sizeof(fresh), "%s.%d", path, (int)getpid() % 100000);
	struct sockaddr_un addr;
	cleanup(close_p) int fd = unix_socket(fresh, &addr);
	(void)unlink(fresh);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
		return err_errno(e, "binding %s", fresh);
	if (chmod(fresh, 0600) != 0 || listen(fd, 128) != 0 || rename(fresh, path) != 0) {
		(void)err_errno(e, "listening on %s", path);
		(void)unlink(fresh);
		return false;
	}
	*out_inode = inode_of(path);
	*out_fd = fd;
	fd = -1;
	return true;
}
