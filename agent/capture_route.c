/*
 * DOC: The routes of TPROXY: `ip rule add fwmark 1337 lookup 133` and `ip route add local default dev lo table 133`, for IPv4 and IPv6. What carries
 * the mark is delivered in this network namespace, whatever its address. A namespace without IPv6 gets those of IPv4 alone.
 */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/capture.h"

#define PRIORITY 32765 /* what `ip` takes for a first rule; without one the kernel would add the same rule again */
#define RULES_MOST 64 /* equal ones that somebody else may have added */

struct request {
	struct nlmsghdr head;
	union {
		struct fib_rule_hdr rule;
		struct rtmsg route;
	};
	char attributes[64];
};

/* Both headers are 12 bytes long. */
_Static_assert(sizeof(struct fib_rule_hdr) == sizeof(struct rtmsg), "attributes begin at one place");

static void add_u32(struct request *r, unsigned short type, uint32_t value)
{
	const struct {
		struct rtattr head;
		uint32_t value;
	} attribute = {{.rta_len = sizeof(attribute), .rta_type = type}, value};
	memcpy((char *)r + r->head.nlmsg_len, &attribute, sizeof(attribute));
	r->head.nlmsg_len += (uint32_t)sizeof(attribute);
}

static struct request new_request(unsigned short type, unsigned char family)
{
	bool adds = type == RTM_NEWRULE || type == RTM_NEWROUTE;
	struct request r = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = type}};
	r.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	if (adds)
		r.head.nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
	r.route.rtm_family = family; /* the first byte of both */
	return r;
}

static struct request rule_request(unsigned short type, unsigned char family)
{
	struct request r = new_request(type, family);
	r.rule.action = FR_ACT_TO_TBL;
	r.rule.table = TPROXY_TABLE;
	if (type == RTM_NEWRULE)
		add_u32(&r, FRA_PRIORITY, PRIORITY);
	add_u32(&r, FRA_FWMARK, TPROXY_MARK);
	add_u32(&r, FRA_TABLE, TPROXY_TABLE);
	return r;
}

static struct request route_request(unsigned short type, unsigned char family)
{
	struct request r = new_request(type, family);
	r.route.rtm_table = TPROXY_TABLE;
	r.route.rtm_type = RTN_LOCAL;
	r.route.rtm_scope = RT_SCOPE_HOST;
	r.route.rtm_protocol = RTPROT_BOOT;
	add_u32(&r, RTA_OIF, if_nametoindex("lo"));
	return r;
}

/* The kernel's answer: 0 or an errno. */
static int ask(int fd, const struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[1024]; /* of the request, and what the kernel has to say about it */
	} answer;
	if (send(fd, r, r->head.nlmsg_len, 0) < 0)
		return errno;
	ssize_t n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return errno;
	if ((size_t)n < sizeof(answer.head) + sizeof(answer.error) || answer.head.nlmsg_type != NLMSG_ERROR)
		return EPROTO;
	return -answer.error.error;
}

/* EACCES: IPv6 is switched off on the loopback; the others: the kernel has none. */
static bool is_no_ipv6(unsigned char family, int error)
{
	return family == AF_INET6 && (error == EAFNOSUPPORT || error == EOPNOTSUPP || error == EACCES);
}

static bool failed(const char *what, unsigned char family, int error, struct err *e)
{
	errno = error;
	return err_errno(e, "%s of IPv%d (CAP_NET_ADMIN is needed)", what, family == AF_INET ? 4 : 6);
}

static bool add(int fd, unsigned char family, struct err *e)
{
	struct request rule = rule_request(RTM_NEWRULE, family), route = route_request(RTM_NEWROUTE, family);
	int error = ask(fd, &route);
	if (is_no_ipv6(family, error))
		return true;
	if (error && error != EEXIST)
		return failed("add the route for TPROXY", family, error, e);
	error = ask(fd, &rule);
	return !error || error == EEXIST || failed("add the routing rule for TPROXY", family, error, e);
}

static bool take_away(int fd, unsigned char family, struct err *e)
{
	struct request rule = rule_request(RTM_DELRULE, family), route = route_request(RTM_DELROUTE, family);
	int error = 0;
	for (unsigned i = 0; !error && i < RULES_MOST; i++)
		error = ask(fd, &rule);
	if (error && error != ENOENT && !is_no_ipv6(family, error))
		return failed("remove the routing rule of TPROXY", family, error, e);
	error = ask(fd, &route);
	return !error || error == ESRCH || error == ENOENT || is_no_ipv6(family, error) ||
	       failed("remove the route of TPROXY", family, error, e);
}

static bool for_families(bool (*change)(int fd, unsigned char family, struct err *e), struct err *e)
{
	int fd cleanup(close_p) = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return err_errno(e, "open a netlink socket");
	return change(fd, AF_INET, e) && change(fd, AF_INET6, e);
}

bool capture_routes_add(struct err *e)
{
	return for_families(add, e);
}

bool capture_routes_remove(struct err *e)
{
	return for_families(take_away, e);
}
