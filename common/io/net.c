/*
 * DOC: Sockets. Plaintext goes out with one writev(2) for up to 64 pieces; over TLS pieces are gathered into records of up to
 * 16 KiB, because a record per small HTTP/2 frame would double its size on the wire.
 */
#include "common/io/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define IOV_PIECES 64
#define TLS_RECORD 16384u

enum net_result net_read(struct net *n, uint8_t *buf, size_t cap, size_t *got, struct err *e)
{
	if (n->tls)
		return tls_conn_read(n->tls, buf, cap, got, e);
	ssize_t r;
	do
		r = recv(n->fd, buf, cap, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return NET_AGAIN;
	if (r < 0) {
		(void)err_errno(e, "read");
		return NET_FAILED;
	}
	*got = (size_t)r;
	return r ? NET_OK : NET_EOF;
}

static enum net_result write_plain(struct net *n, struct outq *q, size_t *written, struct err *e)
{
	while (q->bytes) {
		struct iovec iov[IOV_PIECES];
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = outq_iov(q, iov, IOV_PIECES)};
		ssize_t r = sendmsg(n->fd, &msg, MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return NET_AGAIN;
		if (r < 0) {
			(void)err_errno(e, "write");
			return NET_FAILED;
		}
		outq_consume(q, (size_t)r);
		*written += (size_t)r;
	}
	return NET_OK;
}

static enum net_result write_tls(struct net *n, struct outq *q, size_t *written, struct err *e)
{
	while (q->bytes) {
		uint8_t record[TLS_RECORD];
		struct iovec iov[IOV_PIECES];
		size_t pieces = outq_iov(q, iov, IOV_PIECES), len = 0, done = 0;
		for (size_t i = 0; i < pieces && len < sizeof(record); i++) {
			size_t part = min_size(iov[i].iov_len, sizeof(record) - len);
			memcpy(record + len, iov[i].iov_base, part);
			len += part;
		}
		enum net_result r = tls_conn_write(n->tls, record, len, &done, e);
		outq_consume(q, done);
		*written += done;
		if (r != NET_OK)
			return r;
	}
	return NET_OK;
}

enum net_result net_write(struct net *n, struct outq *q, size_t *written, struct err *e)
{
	return n->tls ? write_tls(n, q, written, e) : write_plain(n, q, written, e);
}

void net_close(struct net *n)
{
	if (n->tls)
		tls_conn_bye(n->tls);
	tls_conn_free(n->tls);
	n->tls = NULL;
	if (n->fd >= 0)
		(void)close(n->fd);
	n->fd = -1;
}

/* A socket file that nobody listens on is what a killed process left. */
static bool remove_stale(const struct addr *a, struct err *e)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&a->sa;
	struct stat st;
	if (!un->sun_path[0] || lstat(un->sun_path, &st))
		return true;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_SYSTEM, "exists and is not a socket");
	cleanup(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, "socket");
	if (!connect(fd, (const struct sockaddr *)&a->sa, a->len) || errno == EAGAIN)
		return err_set(e, ERR_SYSTEM, "another process listens there");
	if (unlink(un->sun_path))
		return err_errno(e, "remove the old socket");
	return true;
}

static bool bound_port_of(int fd, uint16_t *port, struct err *e)
{
	struct addr a = {.len = sizeof(a.sa)};
	if (getsockname(fd, (struct sockaddr *)&a.sa, &a.len))
		return err_errno(e, "getsockname");
	if (a.sa.ss_family == AF_INET)
		*port = ntohs(((struct sockaddr_in *)&a.sa)->sin_port);
	else if (a.sa.ss_family == AF_INET6)
		*port = ntohs(((struct sockaddr_in6 *)&a.sa)->sin6_port);
	else
		*port = 0;
	return true;
}

static bool is_any_v6(const struct addr *a)
{
	return a->sa.ss_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
}

/* A machine without IPv6 has IPv4's half of "every address". */
static void settle_for_v4(struct addr *a)
{
	const in_port_t port = ((const struct sockaddr_in6 *)&a->sa)->sin6_port;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port, .sin_addr = {htonl(INADDR_ANY)}};
	*a = (struct addr){.len = sizeof(in)};
	memcpy(&a->sa, &in, sizeof(in));
}

bool net_listen(const struct addr *wanted, int *out_fd, uint16_t *bound_port, struct err *e)
{
	const int on = 1, off = 0;
	struct addr at = *wanted, *a = &at;
	if (addr_is_unix(a) && !remove_stale(a, e))
		return false;
	cleanup(close_p) int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && is_any_v6(a)) {
		settle_for_v4(a);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd < 0)
		return err_errno(e, "socket");
	if (!addr_is_unix(a) && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		return err_errno(e, "SO_REUSEADDR");
	if (is_any_v6(a) && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)))
		return err_errno(e, "IPV6_V6ONLY");
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len))
		return err_errno(e, "bind");
	if (listen(fd, 1024))
		return err_errno(e, "listen");
	uint16_t port = 0;
	if (!bound_port_of(fd, &port, e))
		return false;
	if (bound_port)
		*bound_port = port;
	*out_fd = fd;
	fd = -1;
	return true;
}

bool net_connect(const struct addr *a, const struct addr *source, int *out_fd, struct err *e)
{
	cleanup(close_p) int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, "socket");
	if (source && bind(fd, (const struct sockaddr *)&source->sa, source->len))
		return err_errno(e, "bind");
	/* A Unix socket whose backlog is full says EAGAIN; there is nothing to wait for, so it counts as a failure. */
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) && errno != EINPROGRESS)
		return err_errno(e, "connect");
	*out_fd = fd;
	fd = -1;
	return true;
}

bool net_connected(int fd, struct err *e)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		return err_errno(e, "connect");
	errno = error;
	return error ? err_errno(e, "connect") : true;
}

void net_tune(int fd)
{
	const int on = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not a TCP socket: no harm */
}

void net_peer_address(int fd, char out[128])
{
	struct addr a = {.len = sizeof(a.sa)};
	if (getpeername(fd, (struct sockaddr *)&a.sa, &a.len))
		memcpy(out, "unknown", sizeof("unknown"));
	else if (addr_is_unix(&a))
		memcpy(out, "unix", sizeof("unix"));
	else
		addr_format(&a, out);
}
