/*
 * DOC: Traffic capture: which TCP connections of a pod go through its Envoy. The rules are Istio's, as one nftables table of our own:
 *
 * - What comes from outside is redirected to 15006, but for the ports at which the proxy itself is served.
 * - What the pod opens is redirected to 15001, unless the proxy opened it (known by its user id, or by a mark on its sockets where
 *   only one user id is mapped).
 * - On loopback: 127.0.0.6, or ::6, is the proxy's passing-on of what came in; the application calling itself is left alone; the proxy calling the
 *   pod's own address, because a service chose this very endpoint, takes the inbound way, so that its policies hold there too.
 *
 * The script replaces the table in one transaction: a second run gives the same table, and there is no moment without rules. Every word
 * in it is ours or was parsed and printed again, so no option can smuggle in a rule.
 */
#include "agent/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "common/base/limits.h"
#include "common/base/vec.h"
#include "common/daemon/option.h"
#include "common/io/addr.h"

#define TABLE "inet fairlead_capture"
#define ANNOTATION_PREFIX "traffic.sidecar.istio.io/"
#define INBOUND_PORT "15006"
#define OUTBOUND_PORT "15001"
/* The proxy's and the agent's own: HBONE, status, health, Prometheus; and the two capture ports, which refuse what is sent to them. */
#define PROXY_PORTS "15001, 15006, 15008, 15020, 15021, 15090"

/* ---- the settings */

enum setting_kind { SETTING_PORTS, SETTING_RANGES, SETTING_INTERFACES };

enum setting {
	INCLUDE_INBOUND_PORTS,
	EXCLUDE_INBOUND_PORTS,
	INCLUDE_OUTBOUND_RANGES,
	EXCLUDE_OUTBOUND_RANGES,
	INCLUDE_OUTBOUND_PORTS,
	EXCLUDE_OUTBOUND_PORTS,
	EXCLUDE_INTERFACES,
	SETTING_COUNT
};

static const struct {
	const char *option;
	const char *annotation; /* behind the prefix */
	enum setting_kind kind;
	bool wildcard; /* "*" is allowed */
	size_t offset;
} settings[SETTING_COUNT] = {
	[INCLUDE_INBOUND_PORTS] = {"include-inbound-ports", "includeInboundPorts", SETTING_PORTS, true,
		offsetof(struct capture_config, include_inbound_ports)},
	[EXCLUDE_INBOUND_PORTS] = {"exclude-inbound-ports", "excludeInboundPorts", SETTING_PORTS, false,
		offsetof(struct capture_config, exclude_inbound_ports)},
	[INCLUDE_OUTBOUND_RANGES] = {"include-outbound-ranges", "includeOutboundIPRanges", SETTING_RANGES, true,
		offsetof(struct capture_config, include_outbound_ranges)},
	[EXCLUDE_OUTBOUND_RANGES] = {"exclude-outbound-ranges", "excludeOutboundIPRanges", SETTING_RANGES, false,
		offsetof(struct capture_config, exclude_outbound_ranges)},
	[INCLUDE_OUTBOUND_PORTS] = {"include-outbound-ports", "includeOutboundPorts", SETTING_PORTS, false,
		offsetof(struct capture_config, include_outbound_ports)},
	[EXCLUDE_OUTBOUND_PORTS] = {"exclude-outbound-ports", "excludeOutboundPorts", SETTING_PORTS, false,
		offsetof(struct capture_config, exclude_outbound_ports)},
	[EXCLUDE_INTERFACES] = {"exclude-interfaces", "excludeInterfaces", SETTING_INTERFACES, false,
		offsetof(struct capture_config, exclude_interfaces)},
};

struct item {
	uint8_t ip[16]; /* a range's first address */
	unsigned bits, prefix;
	uint16_t port;
	struct str interface;
};

struct list {
	bool all;
	VEC(struct item) items;
};

struct lists {
	struct list of[SETTING_COUNT];
};

static void lists_done(struct lists *l)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		vec_done(&l->of[i].items);
}

/* ---- reading them */

static bool parse_port(struct str text, struct item *out, struct err *e)
{
	uint32_t port;
	if (!str_u32(text, 65535, &port) || !port)
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is not a port 1..65535", STR_ARG(text));
	out->port = (uint16_t)port;
	return true;
}

/* Bits behind the prefix do not count, as with the usual tools: they are cleared, so that the script has one spelling. */
static bool parse_range(struct str text, struct item *out, struct err *e)
{
	if (!str_find(text, '/', &(size_t){0}) || !cidr_parse(text, out->ip, &out->bits, &out->prefix))
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an address range like 10.0.0.0/8", STR_ARG(text));
	for (unsigned bit = out->prefix; bit < out->bits; bit++)
		out->ip[bit / 8] = (uint8_t)(out->ip[bit / 8] & ~(0x80u >> (bit % 8)));
	return true;
}

static bool parse_interface(struct str text, struct item *out, struct err *e)
{
	static const char also[] = "-_.@";
	bool ok = text.len > 0 && text.len < 16;
	for (size_t i = 0; ok && i < text.len; i++) {
		char c = text.ptr[i];
		ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		     (c && strchr(also, c));
	}
	if (!ok)
		return err_set(e, ERR_PEER,
			"\"" STR_FMT "\" is not an interface's name (up to 15 of A-Z a-z 0-9 - _ . @)", STR_ARG(text));
	out->interface = text;
	return true;
}

static bool parse_list(enum setting s, const char *text, struct list *out, struct err *e)
{
	static bool (*const parse[])(struct str text, struct item * out, struct err * e) = {
		[SETTING_PORTS] = parse_port, [SETTING_RANGES] = parse_range, [SETTING_INTERFACES] = parse_interface};
	struct str rest = str_trim(str_of(text)), part;
	if (str_eq(rest, STR("*"))) {
		out->all = settings[s].wildcard;
		return out->all || err_set(e, ERR_PEER, "\"*\" is not allowed here");
	}
	bool empty = rest.len == 0;
	while (!empty && str_split(&rest, ',', &part)) {
		struct item item = {0};
		if (str_eq(str_trim(part), STR("*")))
			return err_set(e, ERR_PEER, "\"*\" stands alone or not at all");
		if (!parse[settings[s].kind](str_trim(part), &item, e))
			return false;
		if (out->items.len >= LIMIT_CAPTURE_ITEMS)
			return err_set(e, ERR_LIMIT, "more than %u items", LIMIT_CAPTURE_ITEMS);
		vec_push(&out->items, item);
	}
	return true;
}

/* An annotation that is meant for capture and not understood would leave traffic outside the mesh, or inside: refused. */
static bool check_annotations(json_t *annotations, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach(annotations, key, value)
	{
		bool known = !str_starts(str_of(key), STR(ANNOTATION_PREFIX));
		for (size_t i = 0; !known && i < SETTING_COUNT; i++)
			known = streq(key + sizeof(ANNOTATION_PREFIX) - 1, settings[i].annotation);
		if (!known)
			return err_set(e, ERR_PEER, "annotation %s is not known or not supported", key);
		if (str_starts(str_of(key), STR(ANNOTATION_PREFIX)) && !json_is_string(value))
			return err_set(e, ERR_PEER, "annotation %s: a string is expected", key);
	}
	return true;
}

static bool parse_settings(const struct capture_config *c, json_t *annotations, struct lists *out, struct err *e)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		char *key cleanup(free_p) = xasprintf(ANNOTATION_PREFIX "%s", settings[i].annotation);
		const char *annotated = json_string_value(json_object_get(annotations, key));
		const char *option = *(const char *const *)(const void *)((const char *)c + settings[i].offset);
		if (parse_list((enum setting)i, annotated ? annotated : option, &out->of[i], e))
			continue;
		return annotated ? err_in(e, "annotation %s", key) : err_in(e, "--%s", settings[i].option);
	}
	return true;
}

static json_t *parse_annotations(const char *text, struct err *e)
{
	json_error_t error;
	json_t *j = str_empty(text) ? json_object() : json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (!j)
		(void)err_set(e, ERR_PEER, "--annotations: line %d: %s", error.line, error.text);
	else if (!json_is_object(j))
		(void)err_set(e, ERR_PEER, "--annotations: a JSON object is expected");
	else if (check_annotations(j, e))
		return j;
	json_decref(j);
	return NULL;
}

/* ---- writing the script */

static void rule(struct strbuf *b, const char *match, const char *verdict)
{
	strbuf_addf(b, "\t\t%s%s%s\n", match, *match ? " " : "", verdict);
}

static int port_cmp(const void *x, const void *y)
{
	return (int)((const struct item *)x)->port - (int)((const struct item *)y)->port;
}

static void port_rule(struct strbuf *b, struct list *l, const char *verdict)
{
	if (!l->items.len)
		return;
	qsort(l->items.items, l->items.len, sizeof(*l->items.items), port_cmp);
	strbuf_adds(b, "\t\ttcp dport { ");
	for (size_t i = 0; i < l->items.len; i++)
		if (!i || l->items.items[i].port != l->items.items[i - 1].port)
			strbuf_addf(b, "%s%u", i ? ", " : "", l->items.items[i].port);
	strbuf_addf(b, " } %s\n", verdict);
}

static void range_rules(struct strbuf *b, const struct list *l, const char *verdict)
{
	for (size_t i = 0; i < l->items.len; i++) {
		const struct item *r = &l->items.items[i];
		char text[INET6_ADDRSTRLEN] = "";
		(void)inet_ntop(r->bits == 32 ? AF_INET : AF_INET6, r->ip, text, sizeof(text));
		strbuf_addf(b, "\t\tmeta l4proto tcp %s daddr %s/%u %s\n", r->bits == 32 ? "ip" : "ip6", text,
			r->prefix, verdict);
	}
}

static void interface_rules(struct strbuf *b, const struct list *l, const char *key)
{
	for (size_t i = 0; i < l->items.len; i++)
		strbuf_addf(b, "\t\t%s \"" STR_FMT "\" return\n", key, STR_ARG(l->items.items[i].interface));
}

static void inbound_chain(struct strbuf *b, struct lists *l)
{
	strbuf_adds(b, "\tchain inbound {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
	rule(b, "meta l4proto != tcp", "return");
	interface_rules(b, &l->of[EXCLUDE_INTERFACES], "iifname");
	rule(b, "tcp dport { " PROXY_PORTS " }", "return");
	port_rule(b, &l->of[EXCLUDE_INBOUND_PORTS], "return");
	port_rule(b, &l->of[INCLUDE_INBOUND_PORTS], "redirect to :" INBOUND_PORT);
	if (l->of[INCLUDE_INBOUND_PORTS].all)
		rule(b, "meta l4proto tcp", "redirect to :" INBOUND_PORT);
	strbuf_adds(b, "\t}\n");
}

static void loopback_rules(struct strbuf *b, const char *proxy, const char *other)
{
	char *self4 cleanup(free_p) = xasprintf("oifname \"lo\" %s ip daddr != 127.0.0.1 tcp dport != 15008", proxy);
	char *self6 cleanup(free_p) = xasprintf("oifname \"lo\" %s ip6 daddr != ::1 tcp dport != 15008", proxy);
	char *application cleanup(free_p) = xasprintf("oifname \"lo\" %s", other);
	rule(b, self4, "redirect to :" INBOUND_PORT);
	rule(b, self6, "redirect to :" INBOUND_PORT);
	rule(b, application, "return");
}

static void outbound_chain(struct strbuf *b, struct lists *l, const char *proxy, const char *other)
{
	/* As a number: nftables knows the name dstnat at this hook only in newer versions. */
	strbuf_adds(b, "\tchain outbound {\n\t\ttype nat hook output priority -100; policy accept;\n");
	rule(b, "meta l4proto != tcp", "return");
	interface_rules(b, &l->of[EXCLUDE_INTERFACES], "oifname");
	rule(b, "oifname \"lo\" ip saddr 127.0.0.6", "return");
	rule(b, "oifname \"lo\" ip6 saddr ::6", "return");
	port_rule(b, &l->of[EXCLUDE_OUTBOUND_PORTS], "return");
	loopback_rules(b, proxy, other);
	rule(b, proxy, "return");
	rule(b, "ip daddr 127.0.0.1", "return");
	rule(b, "ip6 daddr ::1", "return");
	range_rules(b, &l->of[EXCLUDE_OUTBOUND_RANGES], "return");
	port_rule(b, &l->of[INCLUDE_OUTBOUND_PORTS], "redirect to :" OUTBOUND_PORT);
	range_rules(b, &l->of[INCLUDE_OUTBOUND_RANGES], "redirect to :" OUTBOUND_PORT);
	if (l->of[INCLUDE_OUTBOUND_RANGES].all)
		rule(b, "meta l4proto tcp", "redirect to :" OUTBOUND_PORT);
	strbuf_adds(b, "\t}\n");
}

bool capture_script(const struct capture_config *c, char **out, struct err *e)
{
	struct lists lists cleanup(lists_done) = {0};
	json_t *annotations = parse_annotations(c->annotations, e);
	if (!annotations || !parse_settings(c, annotations, &lists, e)) {
		json_decref(annotations);
		return false;
	}
	const char *what = c->proxy_mark ? "meta mark" : "meta skuid";
	uint32_t who = c->proxy_mark ? c->proxy_mark : c->proxy_uid;
	char *proxy cleanup(free_p) = xasprintf("%s %u", what, who);
	char *other cleanup(free_p) = xasprintf("%s != %u", what, who);
	struct strbuf b = {0};
	/* To delete what is not there is an error, to add what is there is none. */
	strbuf_adds(&b, "add table " TABLE "\ndelete table " TABLE "\n");
	if (!c->remove) {
		strbuf_adds(&b, "table " TABLE " {\n");
		inbound_chain(&b, &lists);
		outbound_chain(&b, &lists, proxy, other);
		strbuf_adds(&b, "}\n");
	}
	json_decref(annotations);
	*out = strbuf_take(&b);
	return true;
}

/* ---- the command */

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
	{.name = "proxy-uid",
		OPT_U32(struct command, c.proxy_uid, "1337", 0, 0, "the user that the proxy and the agent run as")},
	{.name = "proxy-mark",
		OPT_U32(struct command, c.proxy_mark, "0", 0, 0,
			"the mark on the proxy's sockets, by which it is known instead of by its user; 0: none")},
	{.name = "include-inbound-ports",
		OPT_STR(struct command, c.include_inbound_ports, "*", "ports to capture, or * for all")},
	{.name = "exclude-inbound-ports", OPT_STR(struct command, c.exclude_inbound_ports, "", "ports to leave alone")},
	{.name = "include-outbound-ranges",
		OPT_STR(struct command, c.include_outbound_ranges, "*", "address ranges to capture, or * for all")},
	{.name = "exclude-outbound-ranges",
		OPT_STR(struct command, c.exclude_outbound_ranges, "", "address ranges to leave alone")},
	{.name = "include-outbound-ports",
		OPT_STR(struct command, c.include_outbound_ports, "", "ports to capture whatever the address")},
	{.name = "exclude-outbound-ports",
		OPT_STR(struct command, c.exclude_outbound_ports, "", "ports to leave alone")},
	{.name = "exclude-interfaces",
		OPT_STR(struct command, c.exclude_interfaces, "", "interfaces whose traffic is left alone")},
	{.name = "annotations",
		OPT_STR(struct command, c.annotations, "",
			"the pod's annotations as a JSON object; " ANNOTATION_PREFIX "... override the options")},
	{.name = "dry-run", OPT_BOOL(struct command, c.dry_run, "print the nftables script and change nothing")},
	{.name = "remove", OPT_BOOL(struct command, c.remove, "take the rules away again")},
	{.name = "help", OPT_BOOL(struct command, help, "print this text and end")},
};

int capture_main(int argc, char **argv)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct command c = {0};
	const char *const *rest = NULL;
	char *script cleanup(free_p) = NULL;
	struct err e = {0};
	if (!options_parse(a, "agent-capture", rows, ARRAY_LEN(rows), argc, argv, &c, &rest, &e)) {
		(void)fprintf(stderr, "agent capture: %s\n", e.text);
		return 2;
	}
	if (c.help) {
		struct strbuf out cleanup(strbuf_done) = {0};
		options_help("agent capture", "redirects a pod's traffic to its proxy", rows, ARRAY_LEN(rows), &out);
		(void)fputs(out.ptr, stdout);
		return 0;
	}
	bool ok = capture_script(&c.c, &script, &e);
	if (ok && c.c.dry_run)
		(void)fputs(script, stdout);
	else
		ok = ok && apply(script, &e) && (c.c.remove || add_source(&e));
	if (!ok)
		(void)fprintf(stderr, "agent capture: %s\n", e.text);
	return ok ? 0 : 1;
}
