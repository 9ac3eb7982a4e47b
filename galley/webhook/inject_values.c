/*
 * DOC: What annotations may say. A table of Istio's annotations with the form of their values: a value that is wrong would be found by an agent
 * that does not start, or not at all; here the user who creates the pod is told. Those of traffic capture have the rules of `agent capture`.
 */
#include <ctype.h>
#include <stdlib.h>

#include "common/io/addr.h"
#include "common/mesh/interception.h"
#include "galley/webhook/inject_internal.h"

#define TRAFFIC "traffic.sidecar.istio.io/"
#define READINESS "readiness.status.sidecar.istio.io/"

bool value_bool(const char *text, bool *out)
{
	static const char *const words[2][6] = {
		{"0", "f", "F", "false", "FALSE", "False"}, {"1", "t", "T", "true", "TRUE", "True"}};
	for (size_t v = 0; v < 2; v++)
		for (size_t i = 0; i < ARRAY_LEN(words[v]); i++)
			if (streq(text, words[v][i])) {
				*out = v == 1;
				return true;
			}
	return false;
}

bool value_quantity(const char *text, double *out)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = {{"", 1}, {"n", 1e-9}, {"u", 1e-6}, {"m", 1e-3}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
		{"P", 1e15}, {"E", 1e18}, {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0},
		{"Ti", 1099511627776.0}, {"Pi", 1125899906842624.0}, {"Ei", 1152921504606846976.0}};
	size_t digits = strspn(text, "0123456789.");
	struct str rest = str_of(text + digits);
	double value;
	if (digits && (*rest.ptr == 'e' || *rest.ptr == 'E') && rest.len > 1 && rest.ptr[1] != 'i') {
		digits = strlen(text);
		rest = STR("");
	}
	if (!digits || !isdigit((unsigned char)text[0]) || !str_double(str_n(text, digits), &value))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (str_eqc(rest, units[i].suffix)) {
			*out = value * units[i].factor;
			return true;
		}
	return false;
}

/* ---- checks: true, or why not */

static bool check_any(const char *text, struct err *e)
{
	(void)text;
	(void)e;
	return true;
}

static bool check_bool(const char *text, struct err *e)
{
	bool value;
	return value_bool(text, &value) || err_set(e, ERR_PEER, "\"%.60s\" is neither true nor false", text);
}

static bool check_quantity(const char *text, struct err *e)
{
	double value;
	return value_quantity(text, &value) ||
	       err_set(e, ERR_PEER, "\"%.60s\" is not a quantity such as 100m or 128Mi", text);
}

static bool check_u32(const char *text, struct err *e)
{
	uint32_t value;
	return str_u32(str_of(text), INT32_MAX, &value) ||
	       err_set(e, ERR_PEER, "\"%.60s\" is not a number of 0..2147483647", text);
}

static bool check_one(const char *text, uint32_t most, const char *rule, struct err *e)
{
	uint32_t value;
	return (str_u32(str_of(text), most, &value) && value > 0) || err_set(e, ERR_PEER, "\"%.60s\" %s", text, rule);
}

static bool check_positive(const char *text, struct err *e)
{
	return check_one(text, INT32_MAX, "is not a number of 1..2147483647", e);
}

static bool check_port(const char *text, struct err *e)
{
	uint32_t value;
	return str_u32(str_of(text), 65535, &value) || err_set(e, ERR_PEER, "\"%.60s\" is not 0..65535", text);
}

static bool is_word(struct str text, const char *also, size_t most)
{
	bool ok = text.len > 0 && text.len <= most;
	for (size_t i = 0; ok && i < text.len; i++)
		ok = isalnum((unsigned char)text.ptr[i]) || (text.ptr[i] && strchr(also, text.ptr[i]));
	return ok;
}

static bool check_port_item(struct str item, struct err *e)
{
	uint32_t port;
	return (str_u32(item, 65535, &port) && port > 0) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not a port of 1..65535", STR_ARG(str_sub(item, 0, 60)));
}

static bool check_range_item(struct str item, struct err *e)
{
	uint8_t ip[16];
	unsigned bits, prefix;
	return (str_find(item, '/', &(size_t){0}) && cidr_parse(item, ip, &bits, &prefix)) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an address range like 10.0.0.0/8",
		       STR_ARG(str_sub(item, 0, 60)));
}

static bool check_interface_item(struct str item, struct err *e)
{
	return is_word(item, "-_.@", 15) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an interface's name", STR_ARG(str_sub(item, 0, 60)));
}

static bool check_level_item(struct str item, struct err *e)
{
	static const char *const levels[] = {"none", "error", "warn", "info", "debug", "fatal"};
	struct str scope, level;
	if (!str_cut(item, ':', &scope, &level))
		level = item;
	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (str_eqc(level, levels[i]) && scope.len > 0)
			return true;
	return err_set(e, ERR_PEER, "\"" STR_FMT "\" is not scope:level with none, error, warn, info, debug or fatal",
		STR_ARG(str_sub(item, 0, 60)));
}

static bool is_envoy_level(struct str level)
{
	static const char *const levels[] = {"trace", "debug", "info", "warning", "warn", "error", "critical", "off"};
	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (str_eqc(level, levels[i]))
			return true;
	return false;
}

static bool check_component_item(struct str item, struct err *e)
{
	struct str name, level;
	return (str_cut(item, ':', &name, &level) && is_word(name, "_-", 60) && is_envoy_level(level)) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not component:level with one of Envoy's levels",
		       STR_ARG(str_sub(item, 0, 60)));
}

static bool check_list(const char *text, bool star, bool (*item)(struct str item, struct err *e), struct err *e)
{
	struct str rest = str_trim(str_of(text)), part;
	if (!rest.len || (star && str_eqc(rest, "*")))
		return true;
	while (str_split(&rest, ',', &part))
		if (!item(str_trim(part), e))
			return false;
	return true;
}

static bool check_ports(const char *text, struct err *e)
{
	return check_list(text, false, check_port_item, e);
}

static bool check_ports_or_all(const char *text, struct err *e)
{
	return check_list(text, true, check_port_item, e);
}

static bool check_ranges(const char *text, struct err *e)
{
	return check_list(text, false, check_range_item, e);
}

static bool check_ranges_or_all(const char *text, struct err *e)
{
	return check_list(text, true, check_range_item, e);
}

static bool check_interfaces(const char *text, struct err *e)
{
	return check_list(text, false, check_interface_item, e);
}

static bool check_agent_level(const char *text, struct err *e)
{
	return check_list(text, false, check_level_item, e);
}

static bool check_component_levels(const char *text, struct err *e)
{
	return check_list(text, false, check_component_item, e);
}

static bool check_envoy_level(const char *text, struct err *e)
{
	return is_envoy_level(str_of(text)) ||
	       err_set(e, ERR_PEER,
		       "\"%.60s\" is not one of Envoy's levels: trace, debug, info, warning, error, critical, off",
		       text);
}

static bool check_group_item(struct str item, struct err *e)
{
	uint32_t id;
	return str_u32(item, UINT32_MAX - 1, &id) ||
	       (is_word(item, "_-.", 32) && !isdigit((unsigned char)item.ptr[0])) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is neither a group's id nor its name",
		       STR_ARG(str_sub(item, 0, 60)));
}

static bool check_groups(const char *text, struct err *e)
{
	return check_list(text, false, check_group_item, e);
}

static bool check_groups_or_all(const char *text, struct err *e)
{
	return check_list(text, true, check_group_item, e);
}

static bool check_loopback(const char *text, struct err *e)
{
	uint8_t ip[16];
	unsigned bits, prefix;
	return (cidr_parse(str_of(text), ip, &bits, &prefix) && bits == 32 && ip[0] == 127 && prefix >= 8) ||
	       err_set(e, ERR_PEER, "\"%.60s\" is not a range of 127.0.0.0/8", text);
}

static bool check_image(const char *text, struct err *e)
{
	return is_word(str_of(text), "-_./:@", 500) || err_set(e, ERR_PEER, "\"%.60s\" is not an image", text);
}

static bool check_name(const char *text, struct err *e)
{
	return is_word(str_of(text), "-.", 253) || err_set(e, ERR_PEER, "\"%.60s\" is not a ConfigMap's name", text);
}

static bool check_image_type(const char *text, struct err *e)
{
	return is_word(str_of(text), "-_.", 60) || err_set(e, ERR_PEER, "\"%.60s\" is not a type of image", text);
}

static bool check_json(const char *text, struct err *e)
{
	json_error_t error;
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &error), *item;
	bool ok = json_is_object(j) || json_is_array(j);
	const char *key;
	size_t at;
	json_object_foreach(j, key, item) ok = ok && json_is_object(item);
	json_array_foreach(j, at, item) ok = ok && json_string_value(json_object_get(item, "name"));
	json_decref(j);
	return ok ||
	       err_set(e, ERR_PEER, "%s",
		       j ? "a JSON object with an object for each name is expected, or a list of objects with names"
			 : error.text);
}

/* What has no effect here may say anything: it becomes a warning. */
static bool check_ignored(const char *text, struct err *e)
{
	return check_any(text, e);
}

/* ---- the table */

static const struct row {
	const char *name;
	bool (*check)(const char *text, struct err *e);
} rows[] = {
	{"sidecar.istio.io/inject", check_any},
	{STATUS_ANNOTATION, check_any},
	{"sidecar.istio.io/rewriteAppHTTPProbers", check_bool},
	{"sidecar.istio.io/interceptionMode", interception_mode_check},
	{"sidecar.istio.io/proxyImage", check_image},
	{"sidecar.istio.io/proxyImageType", check_image_type},
	{"sidecar.istio.io/proxyCPU", check_quantity},
	{"sidecar.istio.io/proxyCPULimit", check_quantity},
	{"sidecar.istio.io/proxyMemory", check_quantity},
	{"sidecar.istio.io/proxyMemoryLimit", check_quantity},
	{"sidecar.istio.io/logLevel", check_envoy_level},
	{"sidecar.istio.io/componentLogLevel", check_component_levels},
	{"sidecar.istio.io/agentLogLevel", check_agent_level},
	{"sidecar.istio.io/nativeSidecar", check_bool},
	{"sidecar.istio.io/capNetBindService", check_bool},
	{"sidecar.istio.io/userVolume", check_json},
	{"sidecar.istio.io/userVolumeMount", check_json},
	{"sidecar.istio.io/statsInclusionPrefixes", check_any},
	{"sidecar.istio.io/statsInclusionSuffixes", check_any},
	{"sidecar.istio.io/statsInclusionRegexps", check_any},
	{"sidecar.istio.io/extraStatTags", check_ignored},
	{"sidecar.istio.io/statsHistogramBuckets", check_ignored},
	{"sidecar.istio.io/statsCompression", check_ignored},
	{BOOTSTRAP_ANNOTATION, check_name},
	{"sidecar.istio.io/discoveryAddress", check_ignored},
	{"sidecar.istio.io/controlPlaneAuthPolicy", check_ignored},
	{"status.sidecar.istio.io/port", check_port},
	{READINESS "initialDelaySeconds", check_u32},
	{READINESS "periodSeconds", check_positive},
	{READINESS "failureThreshold", check_positive},
	{READINESS "applicationPorts", check_ignored},
	{TRAFFIC "includeInboundPorts", check_ports_or_all},
	{TRAFFIC "excludeInboundPorts", check_ports},
	{TRAFFIC "includeOutboundIPRanges", check_ranges_or_all},
	{TRAFFIC "excludeOutboundIPRanges", check_ranges},
	{TRAFFIC "includeOutboundPorts", check_ports},
	{TRAFFIC "excludeOutboundPorts", check_ports},
	{TRAFFIC "excludeInterfaces", check_interfaces},
	{TRAFFIC "kubevirtInterfaces", check_interfaces},
	{"istio.io/reroute-virtual-interfaces", check_interfaces},
	{"prometheus.istio.io/merge-metrics", check_bool},
};

static const struct row *row_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (streq(rows[i].name, name))
			return &rows[i];
	return NULL;
}

static bool is_ours(const char *name)
{
	return str_starts(str_of(name), STR("sidecar.istio.io/")) || str_starts(str_of(name), STR(READINESS)) ||
	       str_starts(str_of(name), STR(TRAFFIC));
}

bool annotations_check(json_t *annotations, struct diags *warnings, struct err *e)
{
	const char *name;
	json_t *value;
	json_object_foreach(annotations, name, value)
	{
		const struct row *row = row_of(name);
		if (!json_is_string(value))
			return err_set(e, ERR_PEER, "annotation %.200s: a string is expected", name);
		if (!row && str_starts(str_of(name), STR(TRAFFIC)))
			return err_set(e, ERR_PEER, "annotation %.200s is not known", name);
		if (row && !row->check(json_string_value(value), e))
			return err_in(e, "annotation %s", name);
		char *path cleanup(free_p) = xasprintf("metadata.annotations[%.200s]", name);
		if (row && row->check == check_ignored)
			(void)diag_add(warnings, DIAG_WARNING, "no-effect", path, "has no effect here");
		else if (!row && is_ours(name))
			(void)diag_add(warnings, DIAG_WARNING, "unknown-annotation", path, "is not known");
	}
	return true;
}

bool annotation_is_setting(const char *name)
{
	const struct row *row = row_of(name);
	return row && row->check != check_any && row->check != check_ignored;
}

bool capture_metadata_check(const json_t *config, struct diags *warnings, struct err *e)
{
	static const struct row variables[] = {{"ISTIO_OUTBOUND_OWNER_GROUPS", check_groups_or_all},
		{"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", check_groups},
		{"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", check_loopback}, {"INVALID_DROP", check_bool}};
	const json_t *metadata = json_object_get(config, "proxyMetadata");
	const char *dns = json_string_value(json_object_get(metadata, "ISTIO_META_DNS_CAPTURE"));
	for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
		const char *text = json_string_value(json_object_get(metadata, variables[i].name));
		if (text && !variables[i].check(text, e))
			return err_in(e, "proxyMetadata: %s", variables[i].name);
	}
	bool captured = false;
	if (dns && value_bool(dns, &captured) && captured)
		(void)diag_add(warnings, DIAG_WARNING, "no-effect", "proxyMetadata.ISTIO_META_DNS_CAPTURE",
			"has no effect here: the agent answers no DNS queries");
	return true;
}

const char *annotation_of(const struct injection *i, const char *name, const char *fallback)
{
	const char *value = json_string_value(json_object_get(i->annotations, name));
	return value ? value : fallback;
}
