/*
 * DOC: `agent capture`: sets up traffic capture in the network namespace that it runs in, changes it to what is asked for now, takes it away, or tries
 * whether it is there. Routes come before the rules that need them, and go after them.
 */
#include "agent/capture.h"

#include <errno.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "agent/subcommand.h"

#define EXIT_NOT_CAPTURED 126 /* Istio's, which its CNI repair looks for */

static void nft_free(struct nft_ctx **n)
{
	if (*n)
		nft_ctx_free(*n);
}

static bool apply(const char *script, struct err *e)
{
	struct nft_ctx *n cleanup(nft_free) = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!n || nft_ctx_buffer_error(n))
		return err_set(e, ERR_LIBRARY, "libnftables does not start");
	if (nft_run_cmd_from_buffer(n, script) == 0)
		return true;
	const char *text = nft_ctx_get_error_buffer(n);
	return err_set(e, ERR_SYSTEM, "nftables refused the rules (CAP_NET_ADMIN is needed): " STR_FMT,
		STR_ARG(str_trim(str_of(text))));
}

/*
 * What came in by IPv6 is passed on from ::6, which the loopback does not have by itself, as it has 127.0.0.6. Where there is no IPv6 there is
 * nothing to pass on.
 */
static bool add_source(struct err *e)
{
	const struct in6_ifreq address = {
		.ifr6_addr = {.s6_addr = {[15] = 6}}, .ifr6_prefixlen = 128, .ifr6_ifindex = (int)if_nametoindex("lo")};
	int fd cleanup(close_p) = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT)
		return true;
	if (fd >= 0 && (ioctl(fd, SIOCSIFADDR, &address) == 0 || errno == EEXIST || errno == EACCES))
		return true;
	return err_errno(e, "give the loopback the address ::6 (CAP_NET_ADMIN is needed)");
}

struct command {
	struct capture_config c;
	bool help;
};

static const struct option_row rows[] = {
#define STR_ROW(field, def, help_) OPT_STR(struct command, c.field, def, help_)
	{.name = "interception-mode",
		STR_ROW(mode, "REDIRECT",
			"how connections that come in reach the proxy: REDIRECT, TPROXY (the application sees the "
			"client's "
			"address), or NONE: not at all")},
	{.name = "envoy-port",
		OPT_U32(struct command, c.outbound_port, "15001", 1, 65535,
			"where the proxy takes what goes out: the mesh config's proxyListenPort")},
	{.name = "inbound-capture-port",
		OPT_U32(struct command, c.inbound_port, "15006", 1, 65535,
			"where it takes what comes in: proxyInboundListenPort")},
	{.name = "proxy-uid", STR_ROW(proxy_uid, "1337", "the users that the proxy and the agent run as")},
	{.name = "proxy-gid", STR_ROW(proxy_gid, "1337", "the groups that the proxy and the agent run as")},
	{.name = "proxy-mark",
		OPT_U32(struct command, c.proxy_mark, "0", 0, 0,
			"the mark on the proxy's sockets, by which it is known instead of by its user; 0: none")},
	{.name = "include-inbound-ports", STR_ROW(include_inbound_ports, "*", "ports to capture, or * for all")},
	{.name = "exclude-inbound-ports",
		STR_ROW(exclude_inbound_ports, "", "ports to leave alone where all are captured")},
	{.name = "include-outbound-ranges",
		STR_ROW(include_outbound_ranges, "*", "address ranges to capture, or * for all")},
	{.name = "exclude-outbound-ranges", STR_ROW(exclude_outbound_ranges, "", "address ranges to leave alone")},
	{.name = "include-outbound-ports",
		STR_ROW(include_outbound_ports, "", "ports to capture whatever the address")},
	{.name = "exclude-outbound-ports", STR_ROW(exclude_outbound_ports, "", "ports to leave alone")},
	{.name = "include-outbound-groups",
		STR_ROW(include_outbound_groups, "*", "groups whose connections are captured, or * for all")},
	{.name = "exclude-outbound-groups",
		STR_ROW(exclude_outbound_groups, "", "groups to leave alone where all are captured")},
	{.name = "exclude-interfaces", STR_ROW(exclude_interfaces, "", "interfaces whose traffic is left alone")},
	{.name = "virtual-interfaces",
		STR_ROW(virtual_interfaces, "",
			"interfaces of machines behind this pod: what comes in there is outbound traffic")},
	{.name = "loopback-range",
		STR_ROW(loopback_range, "127.0.0.1/32", "where applications reach their own pod without the proxy")},
	{.name = "annotations",
		STR_ROW(annotations, "",
			"the pod's annotations as a JSON object; traffic.sidecar.istio.io/... override the options")},
	{.name = "drop-invalid",
		OPT_BOOL(struct command, c.drop_invalid,
			"drop packets that belong to no connection, instead of having them answered with a reset")},
	{.name = "dry-run", OPT_BOOL(struct command, c.dry_run, "print what would be done and change nothing")},
	{.name = "remove", OPT_BOOL(struct command, c.remove, "take the rules away again")},
	{.name = "skip-rule-apply", OPT_BOOL(struct command, c.skip_rule_apply, "change nothing: somebody else did")},
	{.name = "run-validation",
		OPT_BOOL(struct command, c.run_validation,
			"afterwards try whether a connection of this user is redirected; end with 126 when it is not")},
	{.name = "probe-timeout", OPT_MS(struct command, c.probe_timeout_ms, "5s", 100, 600000, "how long to try")},
	{.name = "help", OPT_BOOL(struct command, help, "print this text and end")},
};

/* Commands, so that they can be read, and run, beside the script. */
static void print(const struct capture_settings *s, const char *script)
{
	const char *families[] = {"", "-6 "};
	(void)fputs(script, stdout);
	for (size_t i = 0; i < ARRAY_LEN(families) && s->mode == CAPTURE_TPROXY; i++)
		(void)printf("# ip %sroute add local default dev lo table %d\n# ip %srule add fwmark %u lookup %d\n",
			families[i], TPROXY_TABLE, families[i], TPROXY_MARK, TPROXY_TABLE);
}

static bool change(const struct capture_config *c, struct err *e)
{
	struct capture_settings s cleanup(capture_settings_done) = {0};
	if (!capture_settings_parse(c, &s, e))
		return false;
	char *script cleanup(free_p) = capture_rules(&s);
	if (c->dry_run) {
		print(&s, script);
		return true;
	}
	if (c->skip_rule_apply)
		return true;
	if (s.mode == CAPTURE_TPROXY)
		return capture_routes_add(e) && apply(script, e) && add_source(e);
	return apply(script, e) && capture_routes_remove(e) && (s.mode == CAPTURE_NONE || add_source(e));
}

static int run(const void *config)
{
	const struct capture_config *c = &((const struct command *)config)->c;
	struct err e = {0};
	if (!change(c, &e)) {
		(void)fprintf(stderr, "agent capture: %s\n", e.text);
		return 1;
	}
	if (!c->run_validation || c->dry_run || capture_validate(c, &e))
		return 0;
	(void)fprintf(stderr, "agent capture: %s\n", e.text);
	return EXIT_NOT_CAPTURED;
}

int capture_main(int argc, char **argv)
{
	static const struct subcommand s = {"capture", "directs a pod's traffic to its proxy", rows, ARRAY_LEN(rows),
		offsetof(struct command, help), run};
	struct command c = {0};
	return subcommand_main(&s, argc, argv, &c);
}
