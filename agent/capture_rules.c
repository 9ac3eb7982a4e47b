/*
 * DOC: The rules of traffic capture. They are Istio's, as one nftables table of our own:
 *
 * - What comes from outside goes to 15006, the inbound port, but for the ports at which the proxy itself is served. With REDIRECT its destination is rewritten, and
 *   the application sees the proxy as the client. With TPROXY it stays as it is, the proxy accepts it with foreign addresses, and calls the
 *   application in the client's name, with TPROXY_MARK on these packets: the connection remembers the mark, so that the application's answers
 *   have it, too, and a routing rule brings them to the proxy instead of to the client (capture_route.c). An application that listens on the
 *   loopback only could not answer a foreign address; there the client's address becomes 127.0.0.6, or ::6, as with REDIRECT.
 * - What the pod opens is redirected to 15001, the outbound port, unless the proxy opened it (known by its user or group, or by a mark on its sockets where only one
 *   user id is mapped).
 * - On loopback: 127.0.0.6, or ::6, is the proxy's passing-on of what came in; the application calling itself is left alone; the proxy calling the
 *   pod's own address, because a service chose this very endpoint, takes the inbound way, so that its policies hold there too.
 *
 * The script replaces the table in one transaction: a second run gives the same table, and there is no moment without rules.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/capture.h"

#define TABLE "inet fairlead_capture"
#define MARK "1337"
_Static_assert(TPROXY_MARK == 1337, "one number, as text and as number");
/* The proxy's and the agent's own: HBONE, status, health, Prometheus. */
#define PROXY_PORTS "15008, 15020, 15021, 15090"

struct script {
	struct strbuf *b;
	const struct capture_settings *s;
	char *proxy[2]; /* what matches the proxy's packets; the second may be NULL */
	char *other; /* what matches all others */
	char loopback[INET_ADDRSTRLEN + 4];
	char to_outbound[24], to_inbound[24]; /* verdicts */
};

static const struct capture_list *list(const struct script *x, enum capture_setting s)
{
	return &x->s->of[s];
}

/* ---- lines */

static void rule(const struct script *x, const char *match, const char *verdict)
{
	strbuf_addf(x->b, "\t\t%s%s%s\n", match, *match ? " " : "", verdict);
}

static void begin(const struct script *x, const char *name, const char *hook)
{
	strbuf_addf(x->b, "\tchain %s {\n\t\ttype %s; policy accept;\n", name, hook);
}

static void end(const struct script *x)
{
	strbuf_adds(x->b, "\t}\n");
}

/* "1337" or "{ 1, 2 }"; the caller frees it. */
static char *numbers(const struct capture_list *l)
{
	struct strbuf out = {0};
	for (size_t i = 0; i < l->items.len; i++)
		strbuf_addf(&out, "%s%u", i ? ", " : "", l->items.items[i].number);
	if (l->items.len == 1)
		return strbuf_take(&out);
	char *set = xasprintf("{ %s }", out.ptr);
	strbuf_done(&out);
	return set;
}

static void number_rule(const struct script *x, const char *key, enum capture_setting s, const char *verdict)
{
	if (!list(x, s)->items.len)
		return;
	char *set cleanup(free_p) = numbers(list(x, s));
	strbuf_addf(x->b, "\t\t%s %s %s\n", key, set, verdict);
}

static void range_text(const struct capture_item *r, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "";
	(void)inet_ntop(r->bits == 32 ? AF_INET : AF_INET6, r->ip, text, sizeof(text));
	if (r->prefix == r->bits)
		(void)snprintf(out, size, "%s", text);
	else
		(void)snprintf(out, size, "%s/%u", text, r->prefix);
}

static void range_rules(const struct script *x, const char *match, enum capture_setting s, const char *verdict)
{
	for (size_t i = 0; i < list(x, s)->items.len; i++) {
		const struct capture_item *r = &list(x, s)->items.items[i];
		char text[INET6_ADDRSTRLEN + 4];
		range_text(r, text, sizeof(text));
		strbuf_addf(x->b, "\t\t%s %s daddr %s %s\n", match, r->bits == 32 ? "ip" : "ip6", text, verdict);
	}
}

static void interface_rules(const struct script *x, const char *key, enum capture_setting s)
{
	for (size_t i = 0; i < list(x, s)->items.len; i++)
		strbuf_addf(x->b, "\t\t%s \"%s\" return\n", key, list(x, s)->items.items[i].interface);
}

/* ---- chains */

static void invalid_chain(const struct script *x)
{
	begin(x, "invalid", "filter hook prerouting priority -151");
	rule(x, "iifname != \"lo\" meta l4proto tcp ct state invalid", "drop");
	end(x);
}

/* From a machine behind the pod: what it opens is outbound traffic. */
static void virtual_chain(const struct script *x)
{
	begin(x, "virtual", "nat hook prerouting priority -101");
	for (size_t i = 0; i < list(x, VIRTUAL_INTERFACES)->items.len; i++) {
		const char *name = list(x, VIRTUAL_INTERFACES)->items.items[i].interface;
		char *from cleanup(free_p) = xasprintf("iifname \"%s\" meta l4proto tcp", name);
		if (list(x, INCLUDE_OUTBOUND_RANGES)->all)
			rule(x, from, x->to_outbound);
		range_rules(x, from, INCLUDE_OUTBOUND_RANGES, x->to_outbound);
	}
	end(x);
}

static void inbound_chain(const struct script *x)
{
	bool transparent = x->s->mode == CAPTURE_TPROXY;
	char tproxy[64];
	(void)snprintf(tproxy, sizeof(tproxy), "tproxy to :%u meta mark set " MARK " accept", x->s->inbound_port);
	const char *capture = transparent ? tproxy : x->to_inbound;
	begin(x, "inbound",
		transparent ? "filter hook prerouting priority mangle" : "nat hook prerouting priority dstnat");
	rule(x, "meta l4proto != tcp", "return");
	if (transparent) {
		rule(x, "iifname \"lo\"", "return");
		rule(x, "ct direction reply", "return");
	}
	interface_rules(x, "iifname", EXCLUDE_INTERFACES);
	interface_rules(x, "iifname", VIRTUAL_INTERFACES);
	/* The two capture ports refuse what is sent to them. */
	strbuf_addf(
		x->b, "\t\ttcp dport { %u, %u, " PROXY_PORTS " } return\n", x->s->outbound_port, x->s->inbound_port);
	if (list(x, INCLUDE_INBOUND_PORTS)->all) {
		number_rule(x, "tcp dport", EXCLUDE_INBOUND_PORTS, "return");
		rule(x, "meta l4proto tcp", capture);
	}
	number_rule(x, "tcp dport", INCLUDE_INBOUND_PORTS, capture);
	end(x);
}

/*
 * What the proxy sends in a client's name, and the application's answers. In a zone of its own it is not taken for the client's own connection, should
 * that have the same port; and the answers are of the common zone, so that one of the two then gets another port. A chain of type route routes
 * again what it has marked.
 */
static void answer_chains(const struct script *x)
{
	begin(x, "names", "filter hook output priority raw");
	rule(x, "meta l4proto tcp meta mark " MARK, "ct original zone set " MARK);
	end(x);
	begin(x, "answers", "route hook output priority mangle");
	rule(x, "meta l4proto != tcp", "return");
	rule(x, "meta mark " MARK, "ct mark set meta mark");
	rule(x, "ct mark " MARK, "meta mark set ct mark");
	end(x);
	begin(x, "loopback", "nat hook postrouting priority srcnat");
	rule(x, "meta mark " MARK " meta l4proto tcp ip daddr 127.0.0.0/8", "snat ip to 127.0.0.6");
	rule(x, "meta mark " MARK " meta l4proto tcp ip6 daddr ::1", "snat ip6 to ::6");
	end(x);
}

static bool has_loopback(const struct capture_list *ranges)
{
	static const uint8_t one[16] = {[15] = 1};
	for (size_t i = 0; i < ranges->items.len; i++) {
		const struct capture_item *r = &ranges->items.items[i];
		if (r->bits == 32 ? r->ip[0] == 127 : !memcmp(r->ip, one, sizeof(one)))
			return true;
	}
	return false;
}

static void loopback_rules(const struct script *x)
{
	for (size_t i = 0; i < ARRAY_LEN(x->proxy) && x->proxy[i]; i++) {
		char *self4 cleanup(free_p) = xasprintf(
			"oifname \"lo\" %s ip daddr != %s tcp dport != 15008", x->proxy[i], x->loopback);
		char *self6 cleanup(free_p) = xasprintf(
			"oifname \"lo\" %s ip6 daddr != ::1 tcp dport != 15008", x->proxy[i]);
		rule(x, self4, x->to_inbound);
		rule(x, self6, x->to_inbound);
	}
	if (!has_loopback(list(x, INCLUDE_OUTBOUND_RANGES))) {
		char *application cleanup(free_p) = xasprintf("oifname \"lo\" %s", x->other);
		rule(x, application, "return");
	}
	for (size_t i = 0; i < ARRAY_LEN(x->proxy) && x->proxy[i]; i++)
		rule(x, x->proxy[i], "return");
}

static void outbound_chain(const struct script *x)
{
	char *loopback cleanup(free_p) = xasprintf("ip daddr %s", x->loopback);
	/* As a number: nftables knows the name dstnat at this hook only in newer versions. */
	begin(x, "outbound", "nat hook output priority -100");
	rule(x, "meta l4proto != tcp", "return");
	interface_rules(x, "oifname", EXCLUDE_INTERFACES);
	if (x->s->mode == CAPTURE_TPROXY)
		rule(x, "meta mark " MARK, "return");
	rule(x, "oifname \"lo\" ip saddr 127.0.0.6", "return");
	rule(x, "oifname \"lo\" ip6 saddr ::6", "return");
	number_rule(x, "tcp dport", EXCLUDE_OUTBOUND_PORTS, "return");
	loopback_rules(x);
	if (list(x, INCLUDE_OUTBOUND_GROUPS)->all)
		number_rule(x, "meta skgid", EXCLUDE_OUTBOUND_GROUPS, "return");
	else if (list(x, INCLUDE_OUTBOUND_GROUPS)->items.len)
		number_rule(x, "meta skgid !=", INCLUDE_OUTBOUND_GROUPS, "return");
	else
		rule(x, "meta l4proto tcp", "return"); /* of no group */
	rule(x, loopback, "return");
	rule(x, "ip6 daddr ::1", "return");
	range_rules(x, "meta l4proto tcp", EXCLUDE_OUTBOUND_RANGES, "return");
	number_rule(x, "tcp dport", INCLUDE_OUTBOUND_PORTS, x->to_outbound);
	range_rules(x, "meta l4proto tcp", INCLUDE_OUTBOUND_RANGES, x->to_outbound);
	if (list(x, INCLUDE_OUTBOUND_RANGES)->all)
		rule(x, "meta l4proto tcp", x->to_outbound);
	end(x);
}

/* ---- all */

static void know_proxy(struct script *x)
{
	if (x->s->proxy_mark) {
		x->proxy[0] = xasprintf("meta mark %u", x->s->proxy_mark);
		x->other = xasprintf("meta mark != %u", x->s->proxy_mark);
		return;
	}
	char *users cleanup(free_p) = numbers(list(x, PROXY_UIDS));
	char *groups cleanup(free_p) = numbers(list(x, PROXY_GIDS));
	x->proxy[0] = xasprintf("meta skuid %s", users);
	x->proxy[1] = xasprintf("meta skgid %s", groups);
	x->other = xasprintf("meta skuid != %s meta skgid != %s", users, groups);
}

static void write_table(const struct capture_settings *s, struct strbuf *b)
{
	struct script x = {.b = b, .s = s};
	know_proxy(&x);
	range_text(&s->of[LOOPBACK_RANGE].items.items[0], x.loopback, sizeof(x.loopback));
	(void)snprintf(x.to_outbound, sizeof(x.to_outbound), "redirect to :%u", s->outbound_port);
	(void)snprintf(x.to_inbound, sizeof(x.to_inbound), "redirect to :%u", s->inbound_port);
	strbuf_adds(b, "table " TABLE " {\n");
	if (s->drop_invalid)
		invalid_chain(&x);
	if (s->of[VIRTUAL_INTERFACES].items.len)
		virtual_chain(&x);
	inbound_chain(&x);
	if (s->mode == CAPTURE_TPROXY)
		answer_chains(&x);
	outbound_chain(&x);
	strbuf_adds(b, "}\n");
	free(x.proxy[0]);
	free(x.proxy[1]);
	free(x.other);
}

char *capture_rules(const struct capture_settings *s)
{
	struct strbuf b = {0};
	/* To delete what is not there is an error, to add what is there is none. */
	strbuf_adds(&b, "add table " TABLE "\ndelete table " TABLE "\n");
	if (s->mode != CAPTURE_NONE)
		write_table(s, &b);
	return strbuf_take(&b);
}

bool capture_script(const struct capture_config *c, char **out, struct err *e)
{
	struct capture_settings s cleanup(capture_settings_done) = {0};
	if (!capture_settings_parse(c, &s, e))
		return false;
	*out = capture_rules(&s);
	return true;
}
