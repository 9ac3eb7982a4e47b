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

/* Runs iproute2 with the lines as a batch. */
static bool ip_batch(const char *const *prefix, const char *lines, struct err *e)
{
	const char *argv[8] = {0};
	size_t n = 0;
	for (size_t i = 0; prefix && prefix[i]; i++)
		argv[n++] = prefix[i];
	argv[n++] = "ip";
	argv[n++] = "-batch";
	argv[n++] = "-";
	int in[2];
	if (pipe2(in, O_CLOEXEC))
		return err_errno(e, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		(void)dup2(in[0], 0);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	(void)close(in[0]);
	bool written = write(in[1], lines, strlen(lines)) == (ssize_t)strlen(lines);
	(void)close(in[1]);
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_errno(e, "run ip");
	if (!written || !WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, ERR_SYSTEM, "`ip -batch` failed (is iproute2 installed?) for:\n%s", lines);
	return true;
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
	return private_mounts(e) && ip_batch(NULL,
					    "link set lo up\n"
					    "link add " NODE_BRIDGE " type bridge\n"
					    "link set " NODE_BRIDGE " up\n"
					    "addr add " NODE_ADDRESS "/" NODE_PREFIX " dev " NODE_BRIDGE "\n",
					    e);
}

bool netns_enter_pod(int node_pid, const char *ip, const char *hosts_file, struct err *e)
{
	uint8_t raw[16];
	unsigned bits = 0;
	if (!ip_parse(str_of(ip), raw, &bits) || bits != 32 || raw[0] != 10 || raw[1] != 88 ||
		(raw[2] == 0 && raw[3] <= 1))
		return err_set(e, ERR_PEER,
			"pod address %s: machine-local pods have addresses of 10.88.0.0/16, not the node's %s", ip,
			NODE_ADDRESS);
	char net[64], lines[512], veth[16];
	(void)snprintf(net, sizeof(net), "--net=/proc/%d/ns/net", node_pid);
	(void)snprintf(veth, sizeof(veth), "ve%02x%02x%02x%02x", raw[0], raw[1], raw[2], raw[3]);
	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		return err_errno(e, "make network and mount namespaces");
	if (!private_mounts(e))
		return false;
	if (hosts_file && mount(hosts_file, "/etc/hosts", NULL, MS_BIND, NULL))
		return err_errno(e, "bind %s over /etc/hosts", hosts_file);
	(void)snprintf(lines, sizeof(lines),
		"link set lo up\nlink add eth0 type veth peer name %s netns %d\naddr add %s/%s dev eth0\n"
		"link set eth0 up\nroute add default via %s\n",
		veth, node_pid, ip, NODE_PREFIX, NODE_ADDRESS);
	if (!ip_batch(NULL, lines, e))
		return false;
	(void)snprintf(lines, sizeof(lines), "link set %s master %s up\n", veth, NODE_BRIDGE);
	return ip_batch((const char *[]){"nsenter", net, NULL}, lines, e);
}
