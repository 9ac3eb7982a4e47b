/*
 * DOC: Whether traffic capture is there, for a pod whose rules somebody else has made (a CNI plugin): Istio's probe. This process listens on
 * the proxy's two ports on loopback and, as the proxy's user, calls 127.0.0.6, or ::6, at a port where nobody listens. With capture the
 * call arrives here, and its original destination is still known; without, it is refused, and is tried again until the time is over.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netfilter_ipv4.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include "agent/capture.h"
#include "common/base/clock.h"

#define PROBE_PORT 15002
#define AGAIN_MS 200
#define IP6T_ORIGINAL_DST 80 /* netfilter's name for it is in a header that clashes with libc's */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct probe {
	int family;
	int listeners[2];
};

static union address address_of(int family, unsigned last, uint16_t port)
{
	union address a = {.any.sa_family = (sa_family_t)family};
	if (family == AF_INET) {
		a.v4.sin_addr.s_addr = htonl(0x7f000000u + last);
		a.v4.sin_port = htons(port);
	} else {
		a.v6.sin6_addr.s6_addr[15] = (uint8_t)last;
		a.v6.sin6_port = htons(port);
	}
	return a;
}

static socklen_t size_of(int family)
{
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int listen_at(int family, uint16_t port)
{
	union address a = address_of(family, 1, port);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (fd >= 0 && bind(fd, &a.any, size_of(family)) == 0 && listen(fd, 4) == 0)
		return fd;
	int error = errno;
	if (fd >= 0)
		(void)close(fd);
	errno = error;
	return -1;
}

static void call(int family, int *fd)
{
	union address from = address_of(family, 1, 0), to = address_of(family, 6, PROBE_PORT);
	if (*fd >= 0)
		(void)close(*fd);
	*fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd >= 0 && bind(*fd, &from.any, size_of(family)) == 0)
		(void)connect(*fd, &to.any, size_of(family));
}

/* One connection that waits at a listener: ours by its original destination, or somebody's. */
static bool take_one(int family, int listener)
{
	union address to = {0};
	socklen_t len = sizeof(to);
	int fd cleanup(close_p) = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return false;
	if (family == AF_INET)
		return getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &to, &len) == 0 && ntohs(to.v4.sin_port) == PROBE_PORT;
	return getsockopt(fd, SOL_IPV6, IP6T_ORIGINAL_DST, &to, &len) == 0 && ntohs(to.v6.sin6_port) == PROBE_PORT;
}

static bool arrives(const struct probe *p, int timeout_ms)
{
	struct pollfd waiting[2] = {
		{.fd = p->listeners[0], .events = POLLIN}, {.fd = p->listeners[1], .events = POLLIN}};
	if (poll(waiting, 2, timeout_ms) <= 0)
		return false;
	for (size_t i = 0; i < 2; i++)
		if (waiting[i].revents & POLLIN && take_one(p->family, p->listeners[i]))
			return true;
	return false;
}

static bool run(const struct probe *p, uint64_t timeout_ms, struct err *e)
{
	uint64_t start = clock_mono_ms(), next = start;
	int fd = -1;
	bool arrived = false;
	while (!arrived && clock_mono_ms() < start + timeout_ms) {
		if (clock_mono_ms() >= next) {
			call(p->family, &fd);
			next = clock_mono_ms() + AGAIN_MS;
		}
		arrived = arrives(p, AGAIN_MS / 4);
	}
	if (fd >= 0)
		(void)close(fd);
	return arrived ||
	       err_set(e, ERR_SYSTEM,
		       "no connection was redirected to the proxy's ports within %llu ms: traffic capture is "
		       "not set up in this pod",
		       (unsigned long long)timeout_ms);
}

static bool try_family(int family, const struct capture_config *c, struct err *e)
{
	struct probe p = {.family = family, .listeners = {listen_at(family, (uint16_t)c->outbound_port), -1}};
	bool ok = p.listeners[0] >= 0;
	if (ok) {
		p.listeners[1] = listen_at(family, (uint16_t)c->inbound_port);
		ok = p.listeners[1] >= 0;
	}
	if (!ok)
		(void)err_errno(e, "listen on the proxy's ports %u and %u", c->outbound_port, c->inbound_port);
	ok = ok && run(&p, c->probe_timeout_ms, e);
	for (size_t i = 0; i < 2; i++)
		if (p.listeners[i] >= 0)
			(void)close(p.listeners[i]);
	return ok;
}

/* Of the pod's first address. */
static int family_of_pod(void)
{
	struct ifaddrs *all = NULL;
	int family = 0;
	if (getifaddrs(&all))
		return AF_INET;
	for (const struct ifaddrs *i = all; i && !family; i = i->ifa_next) {
		const struct sockaddr_in *v4 = (const void *)i->ifa_addr;
		const struct sockaddr_in6 *v6 = (const void *)i->ifa_addr;
		if (i->ifa_addr && v4->sin_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 != 127)
			family = AF_INET;
		else if (i->ifa_addr && v6->sin6_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) &&
			 !(i->ifa_flags & IFF_LOOPBACK))
			family = AF_INET6;
	}
	freeifaddrs(all);
	return family ? family : AF_INET;
}

bool capture_validate(const struct capture_config *c, struct err *e)
{
	return try_family(family_of_pod(), c, e);
}
