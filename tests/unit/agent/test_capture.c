/*
 * DOC: The nftables script as text: whole for the default, by its lines for each option and annotation; what is not understood is refused with
 * its name and rule. That the rules do what they say is tests/daemons/test_capture.py's to show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/capture.h"
#include "common/base/limits.h"

#define HEAD "add table inet fairlead_capture\ndelete table inet fairlead_capture\n"
#define PREFIX "traffic.sidecar.istio.io/"

static struct capture_config defaults(void)
{
	return (struct capture_config){.mode = "REDIRECT",
		.outbound_port = 15001,
		.inbound_port = 15006,
		.proxy_uid = "1337",
		.proxy_gid = "1337",
		.include_inbound_ports = "*",
		.include_outbound_ranges = "*",
		.include_outbound_groups = "*",
		.loopback_range = "127.0.0.1/32"};
}

static const char default_script[] = HEAD
	"table inet fairlead_capture {\n"
	"\tchain inbound {\n"
	"\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
	"\t\tmeta l4proto != tcp return\n"
	"\t\ttcp dport { 15001, 15006, 15008, 15020, 15021, 15090 } return\n"
	"\t\tmeta l4proto tcp redirect to :15006\n"
	"\t}\n"
	"\tchain outbound {\n"
	"\t\ttype nat hook output priority -100; policy accept;\n"
	"\t\tmeta l4proto != tcp return\n"
	"\t\toifname \"lo\" ip saddr 127.0.0.6 return\n"
	"\t\toifname \"lo\" ip6 saddr ::6 return\n"
	"\t\toifname \"lo\" meta skuid 1337 ip daddr != 127.0.0.1 tcp dport != 15008 redirect to :15006\n"
	"\t\toifname \"lo\" meta skuid 1337 ip6 daddr != ::1 tcp dport != 15008 redirect to :15006\n"
	"\t\toifname \"lo\" meta skgid 1337 ip daddr != 127.0.0.1 tcp dport != 15008 redirect to :15006\n"
	"\t\toifname \"lo\" meta skgid 1337 ip6 daddr != ::1 tcp dport != 15008 redirect to :15006\n"
	"\t\toifname \"lo\" meta skuid != 1337 meta skgid != 1337 return\n"
	"\t\tmeta skuid 1337 return\n"
	"\t\tmeta skgid 1337 return\n"
	"\t\tip daddr 127.0.0.1 return\n"
	"\t\tip6 daddr ::1 return\n"
	"\t\tmeta l4proto tcp redirect to :15001\n"
	"\t}\n"
	"}\n";

static char *script(const struct capture_config *c)
{
	char *out = NULL;
	struct err e = {0};
	if (!capture_script(c, &out, &e))
		fail_msg("refused: %s", e.text);
	return out;
}

static void A16_script_of_the_defaults(void **state)
{
	struct capture_config c = defaults();
	char *text = script(&c);
	assert_string_equal(text, default_script);
	free(text);
	c.annotations = "{}";
	text = script(&c);
	assert_string_equal(text, default_script);
	free(text);
}

static void A16_proxy_known_by_its_mark(void **state)
{
	struct capture_config c = defaults();
	c.proxy_mark = 4000000000u;
	char *text = script(&c);
	assert_non_null(strstr(text, "\toifname \"lo\" meta mark != 4000000000 return\n"));
	assert_non_null(strstr(text, "\tmeta mark 4000000000 return\n"));
	assert_null(strstr(text, "skuid"));
	assert_null(strstr(text, "skgid"));
	free(text);
}

static void A16_removal_needs_nothing_to_be_there(void **state)
{
	struct capture_config c = defaults();
	c.remove = true;
	char *text = script(&c);
	assert_string_equal(text, HEAD);
	free(text);
}

/* One annotation in place of one option; both must have the same effect. */
static const struct {
	const char *annotation;
	size_t offset;
	const char *value;
	const char *has, *has_not; /* a line, with its ends */
} accepted[] = {
#define ROW(annotation, field, ...) \
	{ \
		annotation, offsetof(struct capture_config, field), __VA_ARGS__ \
	}
	ROW("includeInboundPorts", include_inbound_ports, "8080, 80", "\ttcp dport { 80, 8080 } redirect to :15006\n",
		"\tmeta l4proto tcp redirect to :15006\n"),
	ROW("includeInboundPorts", include_inbound_ports, "*", "\tmeta l4proto tcp redirect to :15006\n", NULL),
	ROW("includeInboundPorts", include_inbound_ports, "", "\tmeta l4proto tcp redirect to :15001\n",
		"\tmeta l4proto tcp redirect to :15006\n"),
	ROW("excludeInboundPorts", exclude_inbound_ports, "22,1,65535,22", "\ttcp dport { 1, 22, 65535 } return\n",
		NULL),
	ROW("includeOutboundIPRanges", include_outbound_ranges, "10.0.0.0/8,fd00::/8",
		"\tmeta l4proto tcp ip daddr 10.0.0.0/8 redirect to :15001\n"
		"\t\tmeta l4proto tcp ip6 daddr fd00::/8 redirect to :15001\n",
		"\tmeta l4proto tcp redirect to :15001\n"),
	ROW("includeOutboundIPRanges", include_outbound_ranges, "*", "\tmeta l4proto tcp redirect to :15001\n", NULL),
	ROW("includeOutboundIPRanges", include_outbound_ranges, " ", "\tmeta l4proto tcp redirect to :15006\n",
		"redirect to :15001"),
	ROW("excludeOutboundIPRanges", exclude_outbound_ranges, "169.254.169.254/32",
		"\tmeta l4proto tcp ip daddr 169.254.169.254 return\n", NULL),
	/* Bits behind the prefix are cleared. */
	ROW("excludeOutboundIPRanges", exclude_outbound_ranges, "10.255.255.255/9,2001:db8::1/31",
		"\tmeta l4proto tcp ip daddr 10.128.0.0/9 return\n"
		"\t\tmeta l4proto tcp ip6 daddr 2001:db8::/31 return\n",
		NULL),
	ROW("excludeOutboundIPRanges", exclude_outbound_ranges, "1.2.3.4/0",
		"\tmeta l4proto tcp ip daddr 0.0.0.0/0 return\n", NULL),
	ROW("includeOutboundPorts", include_outbound_ports, "443", "\ttcp dport 443 redirect to :15001\n", NULL),
	ROW("excludeOutboundPorts", exclude_outbound_ports, "25,15010", "\ttcp dport { 25, 15010 } return\n", NULL),
	ROW("excludeInterfaces", exclude_interfaces, "eth1,veth-a.1", "\tiifname \"eth1\" return\n", NULL),
	ROW("kubevirtInterfaces", virtual_interfaces, "net1",
		"\tiifname \"net1\" meta l4proto tcp redirect to :15001\n", NULL),
	ROW("kubevirtInterfaces", virtual_interfaces, "net1", "\tiifname \"net1\" return\n", NULL),
	ROW("excludeInterfaces", exclude_interfaces, "eth1,veth-a.1", "\toifname \"veth-a.1\" return\n", NULL),
};

static void set_field(struct capture_config *c, size_t offset, const char *value)
{
	memcpy((char *)c + offset, &value, sizeof(value));
}

static void A16_every_option_and_annotation(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
		struct capture_config by_option = defaults(), by_annotation = defaults();
		char *json = xasprintf("{\"" PREFIX "%s\":\"%s\"}", accepted[i].annotation, accepted[i].value);
		set_field(&by_option, accepted[i].offset, accepted[i].value);
		set_field(&by_annotation, accepted[i].offset, "overridden by the annotation");
		by_annotation.annotations = json;
		char *text = script(&by_option), *again = script(&by_annotation);
		assert_string_equal(text, again);
		if (!strstr(text, accepted[i].has))
			fail_msg("%s=%s has no %s in\n%s", accepted[i].annotation, accepted[i].value, accepted[i].has,
				text);
		if (accepted[i].has_not && strstr(text, accepted[i].has_not))
			fail_msg("%s=%s has %s in\n%s", accepted[i].annotation, accepted[i].value, accepted[i].has_not,
				text);
		free(text);
		free(again);
		free(json);
	}
}

static const struct {
	const char *json, *why;
} refused[] = {
	{"{\"" PREFIX "includeInboundPorts\":\"80-90\"}",
		"annotation " PREFIX "includeInboundPorts: \"80-90\" is not a port 1..65535"},
	{"{\"" PREFIX "includeInboundPorts\":\"*,80\"}", "\"*\" stands alone"},
	{"{\"" PREFIX "excludeInboundPorts\":\"*\"}", "excludeInboundPorts: \"*\" is not allowed"},
	{"{\"" PREFIX "excludeInboundPorts\":\"0\"}", "\"0\" is not a port"},
	{"{\"" PREFIX "excludeInboundPorts\":\"22,\"}", "\"\" is not a port"},
	{"{\"" PREFIX "includeOutboundPorts\":\"65536\"}", "includeOutboundPorts: \"65536\" is not a port"},
	{"{\"" PREFIX "excludeOutboundPorts\":\"http\"}", "excludeOutboundPorts: \"http\" is not a port"},
	{"{\"" PREFIX "includeOutboundIPRanges\":\"10.0.0.1\"}",
		"includeOutboundIPRanges: \"10.0.0.1\" is not an address range"},
	{"{\"" PREFIX "includeOutboundIPRanges\":\"10.0.0.0/33\"}", "is not an address range"},
	{"{\"" PREFIX "excludeOutboundIPRanges\":\"0.0.0.0/0 } accept; ip daddr { 1.2.3.4/8\"}",
		"excludeOutboundIPRanges: "},
	{"{\"" PREFIX "excludeInterfaces\":\"eth0\\\" accept\"}", "is not an interface's name"},
	{"{\"" PREFIX "excludeInterfaces\":\"an-interface-too-long\"}", "is not an interface's name"},
	{"{\"" PREFIX "kubevirtInterfaces\":\"net1;\"}",
		"annotation " PREFIX "kubevirtInterfaces: \"net1;\" is not an interface's name"},
	{"{\"istio.io/reroute-virtual-interfaces\":\"\\\"\"}",
		"annotation istio.io/reroute-virtual-interfaces: \"\"\" is not an interface's name"},
	{"{\"sidecar.istio.io/interceptionMode\":\"redirect\"}",
		"annotation sidecar.istio.io/interceptionMode: \"redirect\" is not REDIRECT, TPROXY or NONE"},
	{"{\"" PREFIX "includeInboundPort\":\"80\"}", "is not known"},
	{"{\"" PREFIX "includeInboundPorts\":80}", "includeInboundPorts: a string is expected"},
	{"[]", "--annotations: a JSON object is expected"},
	{"{", "--annotations: line 1"},
};

/* One option without an annotation. */
static const struct {
	size_t offset;
	const char *value;
	const char *has, *has_not;
} options[] = {
#define OPTION(field, ...) \
	{ \
		offsetof(struct capture_config, field), __VA_ARGS__ \
	}
	OPTION(proxy_uid, "1000, 7", "\tmeta skuid { 7, 1000 } return\n", "skuid 1337"),
	OPTION(proxy_uid, "1000, 7", "\toifname \"lo\" meta skuid != { 7, 1000 } meta skgid != 1337 return\n", NULL),
	OPTION(proxy_gid, "12", "\tmeta skgid 12 return\n", "skgid 1337"),
	OPTION(exclude_outbound_groups, "20,3,20", "\tmeta skgid { 3, 20 } return\n", NULL),
	OPTION(include_outbound_groups, "3", "\tmeta skgid != 3 return\n", NULL),
	OPTION(include_outbound_groups, "", "\tmeta l4proto tcp return\n", NULL),
	OPTION(loopback_range, "127.0.0.0/8", "\tip daddr 127.0.0.0/8 return\n", "daddr 127.0.0.1 "),
	OPTION(loopback_range, "127.0.0.0/8", "skuid 1337 ip daddr != 127.0.0.0/8 tcp", NULL),
	/* A range of the loopback that is asked for is captured. */
	OPTION(include_outbound_ranges, "127.1.0.0/16", "\tmeta l4proto tcp ip daddr 127.1.0.0/16 redirect to :15001\n",
		"\toifname \"lo\" meta skuid !="),
	OPTION(include_outbound_ranges, "::1/128", "\tmeta l4proto tcp ip6 daddr ::1 redirect to :15001\n",
		"\toifname \"lo\" meta skuid !="),
	OPTION(mode, "TPROXY", "\tmeta l4proto tcp tproxy to :15006 meta mark set 1337 accept\n",
		"\tmeta l4proto tcp redirect to :15006\n"),
	OPTION(mode, "TPROXY", "\tct mark 1337 meta mark set ct mark\n", NULL),
	OPTION(mode, "TPROXY", "\tmeta mark 1337 return\n", NULL),
	OPTION(mode, "NONE", HEAD, "table inet fairlead_capture {"),
};

static void A16_every_other_option(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		struct capture_config c = defaults();
		set_field(&c, options[i].offset, options[i].value);
		char *text = script(&c);
		if (!strstr(text, options[i].has))
			fail_msg("%zu: %s: has no %s in\n%s", i, options[i].value, options[i].has, text);
		if (options[i].has_not && strstr(text, options[i].has_not))
			fail_msg("%zu: %s: has %s in\n%s", i, options[i].value, options[i].has_not, text);
		free(text);
	}
}

static void A16_exclusions_count_where_all_is_captured(void **state)
{
	struct capture_config c = defaults();
	c.include_inbound_ports = "80,8080";
	c.exclude_inbound_ports = "8080";
	c.include_outbound_groups = "5";
	c.exclude_outbound_groups = "5";
	char *text = script(&c);
	assert_non_null(strstr(text, "\ttcp dport { 80, 8080 } redirect to :15006\n"));
	assert_null(strstr(text, "\ttcp dport 8080 return\n"));
	assert_null(strstr(text, "\tmeta skgid 5 return\n"));
	free(text);
}

static void A16_invalid_packets_are_dropped_when_asked_for(void **state)
{
	struct capture_config c = defaults();
	c.drop_invalid = true;
	char *text = script(&c);
	assert_non_null(strstr(text, "\ttype filter hook prerouting priority -151; policy accept;\n"
				     "\t\tiifname != \"lo\" meta l4proto tcp ct state invalid drop\n"));
	free(text);
}

static const struct {
	size_t offset;
	const char *value, *why;
} refused_options[] = {
	OPTION(proxy_uid, "", "--proxy-uid: is needed"),
	OPTION(proxy_uid, "istio-proxy", "--proxy-uid: \"istio-proxy\" is not an id 0..4294967294"),
	OPTION(proxy_gid, "4294967295", "--proxy-gid: \"4294967295\" is not an id"),
	OPTION(include_outbound_groups, "no-such-group", "--include-outbound-groups: \"no-such-group\" is neither"),
	OPTION(exclude_outbound_groups, "*", "--exclude-outbound-groups: \"*\" is not allowed here"),
	OPTION(loopback_range, "10.0.0.0/8", "--loopback-range: \"10.0.0.0/8\" is not a range of 127.0.0.0/8"),
	OPTION(loopback_range, "127.0.0.0/7", "--loopback-range: \"127.0.0.0/7\" is not a range"),
	OPTION(loopback_range, "127.0.0.1/32,127.0.0.2/32", "--loopback-range: one range is expected"),
	OPTION(mode, "", "--interception-mode: \"\" is not REDIRECT, TPROXY or NONE"),
};

static void A16_every_option_is_refused_by_its_name(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused_options); i++) {
		struct capture_config c = defaults();
		struct err e = {0};
		char *out = NULL;
		set_field(&c, refused_options[i].offset, refused_options[i].value);
		assert_false(capture_script(&c, &out, &e));
		if (!strstr(e.text, refused_options[i].why))
			fail_msg("\"%s\" does not say \"%s\"", e.text, refused_options[i].why);
	}
}

static void A16_ports_of_the_proxy(void **state)
{
	struct capture_config c = defaults();
	struct err e = {0};
	c.outbound_port = 15101;
	c.inbound_port = 15106;
	char *text = script(&c), *none = NULL;
	assert_non_null(strstr(text, "\ttcp dport { 15101, 15106, 15008, 15020, 15021, 15090 } return\n"));
	assert_non_null(strstr(text, "\tmeta l4proto tcp redirect to :15106\n"));
	assert_non_null(strstr(text, "\tmeta l4proto tcp redirect to :15101\n"));
	assert_null(strstr(text, "15001"));
	assert_null(strstr(text, "15006"));
	free(text);
	c.mode = "TPROXY";
	text = script(&c);
	assert_non_null(strstr(text, "tproxy to :15106 meta mark set 1337 accept\n"));
	free(text);
	c.inbound_port = 15101;
	assert_false(capture_script(&c, &none, &e));
	assert_string_equal(e.text, "--inbound-capture-port: 15101 is the port of what goes out");
}

static void A16_the_proxys_mark_is_not_that_of_tproxy(void **state)
{
	struct capture_config c = defaults();
	struct err e = {0};
	char *out = NULL;
	c.proxy_mark = TPROXY_MARK;
	free(script(&c));
	c.mode = "TPROXY";
	assert_false(capture_script(&c, &out, &e));
	assert_string_equal(e.text, "--proxy-mark: 1337 is TPROXY's own mark, of what goes to the application");
}

static void A16_what_is_not_understood_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct capture_config c = defaults();
		struct err e = {0};
		char *out = NULL;
		c.annotations = refused[i].json;
		assert_false(capture_script(&c, &out, &e));
		assert_null(out);
		if (!strstr(e.text, refused[i].why))
			fail_msg("%s: \"%s\" does not say \"%s\"", refused[i].json, e.text, refused[i].why);
	}
}

static void A16_an_option_is_named_too(void **state)
{
	struct capture_config c = defaults();
	struct err e = {0};
	char *out = NULL;
	c.exclude_outbound_ranges = "10/8";
	assert_false(capture_script(&c, &out, &e));
	assert_string_equal(e.text, "--exclude-outbound-ranges: \"10/8\" is not an address range like 10.0.0.0/8");
	/* Other annotations are none of capture's business. */
	c = defaults();
	c.annotations = "{\"sidecar.istio.io/inject\":\"true\",\"x\":1}";
	out = script(&c);
	assert_string_equal(out, default_script);
	free(out);
}

static void A16_lists_are_limited(void **state)
{
	struct capture_config c = defaults();
	struct strbuf ports = {0};
	struct err e = {0};
	char *out = NULL;
	for (unsigned i = 0; i < LIMIT_CAPTURE_ITEMS; i++)
		strbuf_addf(&ports, "%s%u", i ? "," : "", i + 1);
	c.exclude_outbound_ports = ports.ptr;
	out = script(&c);
	free(out);
	strbuf_adds(&ports, ",2000");
	c.exclude_outbound_ports = ports.ptr;
	out = NULL;
	assert_false(capture_script(&c, &out, &e));
	assert_int_equal(e.kind, ERR_LIMIT);
	assert_string_equal(e.text, "--exclude-outbound-ports: more than 1024 items");
	strbuf_done(&ports);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A16_script_of_the_defaults),
		cmocka_unit_test(A16_proxy_known_by_its_mark),
		cmocka_unit_test(A16_removal_needs_nothing_to_be_there),
		cmocka_unit_test(A16_every_option_and_annotation),
		cmocka_unit_test(A16_every_other_option),
		cmocka_unit_test(A16_exclusions_count_where_all_is_captured),
		cmocka_unit_test(A16_invalid_packets_are_dropped_when_asked_for),
		cmocka_unit_test(A16_every_option_is_refused_by_its_name),
		cmocka_unit_test(A16_ports_of_the_proxy),
		cmocka_unit_test(A16_the_proxys_mark_is_not_that_of_tproxy),
		cmocka_unit_test(A16_what_is_not_understood_is_refused),
		cmocka_unit_test(A16_an_option_is_named_too),
		cmocka_unit_test(A16_lists_are_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
