/*
 * DOC: Namespaces by unshare(2), wiring by iproute2. As an ordinary user the process first becomes root of a new user namespace, in
 * which it may make the others; only its own uid is mapped, which is why traffic capture there tells the proxy by a socket mark.
 */
#include "cli/up/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/io/addr.h"

/*
 * Link addresses follow from the IP addresses. A bridge without one of its own takes the lowest of its ports', so that it changes when a pod
 * comes or goes; and a pod that comes back would have another. Either way the others send to the old one for many seconds.
 */
#define MAC_PREFIX "0a:58"
#define NODE_MAC MAC_PREFIX ":0a:58:00:01"

static bool write_text(const char *path, const char *text, struct err *e)
{
	int fd cleanup(close_p) = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_errno(e, "write %s", path);
	return true;
}

static bool become_root_of_user_namespace(struct err *e)
{
	unsigned uid = geteuid(), gid = getegid();
	if (unshare(CLONE_NEWUSER))
		return err_errno(e, "make a user namespace (is user.max_user_namespaces 0, or unprivileged user "
				    "namespaces switched off?)");
	char map[64];
	(void)snprintf(map, sizeof(map), "0 %u 1\n", uid);
	if (!write_text("/proc/self/uid_map", map, e) || !write_text("/proc/self/setgroups", "deny", e))
		return false;
	(void)snprintf(map, sizeof(map), "0 %u 1\n", gid);
	return write_text("/proc/self/gid_map", map, e);
}

/* Becomes iproute2 with the batch on standard input; never returns. */
static void exec_ip(int in, int netns_fd, bool quiet)
{
	int null = quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET))
		_exit(126);
	(void)dup2(in, 0);
	if (null >= 0)
		(void)dup2(null, 2);
	(void)execlp("ip", "ip", "-batch", "-", (char *)NULL);
	_exit(127);
}

/* Runs iproute2 with the lines as a batch, in another network namespace when one is given; returns its exit status, -1: errno. */
static int run_ip(int netns_fd, const char *lines, bool quiet)
{
	int in[2];
	if (pipe2(in, O_CLOEXEC))
		return -1;
	pid_t pid = fork();
	if (pid == 0)
		exec_ip(in[0], netns_fd, quiet);
	(void)close(in[0]);
	/* Shorter than a pipe's buffer, so this neither blocks nor is cut. A child that has gone already is seen by its status. */
	bool written = write(in[1], lines, strlen(lines)) == (ssize_t)strlen(lines);
	(void)close(in[1]);
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	if (WIFEXITED(status) && (WEXITSTATUS(status) || written))
		return WEXITSTATUS(status);
	return 125;
}

static bool ip_batch(int netns_fd, const char *lines, struct err *e)
{
	int status = run_ip(netns_fd, lines, false);
	if (status < 0)
		return err_errno(e, "run ip");
	if (status == 127)
		return err_set(e, ERR_SYSTEM, "the program `ip` was not found: install iproute2");
	return status == 0 ||
	       err_set(e, ERR_SYSTEM, "`ip -batch` ended with %d (are bridge and veth in the kernel?) for:\n%s", status,
		       lines);
}

static bool private_mounts(struct err *e)
{
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || err_errno(e, "make mounts private");
}

bool netns_enter_node(struct err *e)
{
	if (geteuid() != 0 && !become_root_of_user_namespace(e))
		return false;
	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		return err_errno(e, "make network and mount namespaces");
	if (!private_mounts(e) || !ip_batch(-1,
					  "link set lo up\n"
					  "link add " NODE_BRIDGE " address " NODE_MAC " type bridge\n"
					  "link set " NODE_BRIDGE " up\n"
					  "addr add " NODE_ADDRESS "/" NODE_PREFIX " dev " NODE_BRIDGE "\n",
					  e))
		return false;
	/* A machine may have no IPv6: then pods have none. */
	(void)run_ip(-1, "addr add " NODE_ADDRESS6 "/" NODE_PREFIX6 " dev " NODE_BRIDGE " nodad\n", true);
	return true;
}

static bool of_pods(const uint8_t raw[16], unsigned bits)
{
	static const uint8_t net6[8] = {0xfd, 0x88};
	if (bits == 32)
		return raw[0] == 10 && raw[1] == 88 && (raw[2] || raw[3] > 1);
	return bits == 128 && memcmp(raw, net6, sizeof(net6)) == 0 &&
	       (raw[8] || raw[9] || raw[10] || raw[11] || raw[12] || raw[13] || raw[14] || raw[15] > 1);
}

static bool pod_address(struct str ip, uint8_t raw[16], unsigned *bits, struct err *e)
{
	if (!ip_parse(ip, raw, bits) || !of_pods(raw, *bits))
		return err_set(e, ERR_PEER,
			"pod address " STR_FMT ": machine-local pods have addresses of 10.88.0.0/16 and fd88::/64, not "
			"the node's %s and %s",
			STR_ARG(ip), NODE_ADDRESS, NODE_ADDRESS6);
	return true;
}

/* What sets the addresses, and the last four bytes of the first one, which are the link's. */
static bool address_lines(struct str ips, struct strbuf *out, uint8_t link[4], struct err *e)
{
	struct str ip;
	for (bool first = true; str_split(&ips, ',', &ip); first = false) {
		uint8_t raw[16];
		unsigned bits = 0;
		if (!pod_address(ip, raw, &bits, e))
			return false;
		if (first)
			memcpy(link, raw + (bits == 32 ? 0 : 12), 4);
		strbuf_addf(out, "addr add " STR_FMT "/%s dev eth0%s\n", STR_ARG(ip),
			bits == 32 ? NODE_PREFIX : NODE_PREFIX6, bits == 32 ? "" : " nodad");
		strbuf_addf(out, "route add default via %s\n", bits == 32 ? NODE_ADDRESS : NODE_ADDRESS6);
	}
	return true;
}

static bool bind_over(const char *file, const char *target, struct err *e)
{
	return mount(file, target, NULL, MS_BIND, NULL) == 0 || err_errno(e, "bind %s over %s", file, target);
}

bool netns_enter_pod(const char *ips, const char *hosts_file, const char *resolv_file, struct err *e)
{
	uint8_t raw[4] = {0};
	char lines[256], veth[16];
	struct strbuf addresses cleanup(strbuf_done) = {0};
	if (!address_lines(str_of(ips), &addresses, raw, e))
		return false;
	int node cleanup(close_p) = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (node < 0)
		return err_errno(e, "open the node's network namespace");
	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		return err_errno(e, "make network and mount namespaces");
	if (!private_mounts(e))
		return false;
	/* A machine may have no resolv.conf; one that is there names servers that the pod cannot reach. */
	if (!bind_over(hosts_file, "/etc/hosts", e) ||
		(access("/etc/resolv.conf", F_OK) == 0 && !bind_over(resolv_file, "/etc/resolv.conf", e)))
		return false;
	(void)snprintf(veth, sizeof(veth), "ve%02x%02x%02x%02x", raw[0], raw[1], raw[2], raw[3]);
	/* A predecessor's namespace goes away some time after its last process, and with it this end of the pair. */
	(void)snprintf(lines, sizeof(lines), "link del %s\n", veth);
	(void)run_ip(node, lines, true);
	(void)snprintf(lines, sizeof(lines),
		"link add %s type veth peer name eth0 netns %d\nlink set %s master " NODE_BRIDGE " up\n", veth,
		(int)getpid(), veth);
	if (!ip_batch(node, lines, e))
		return false;
	(void)snprintf(lines, sizeof(lines),
		"link set lo up\nlink set eth0 address " MAC_PREFIX ":%02x:%02x:%02x:%02x\nlink set eth0 up\n", raw[0],
		raw[1], raw[2], raw[3]);
	return ip_batch(-1, lines, e) && ip_batch(-1, addresses.ptr, e);
}
