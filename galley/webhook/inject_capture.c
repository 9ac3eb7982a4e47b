/*
 * DOC: The container that sets up a pod's traffic capture and ends: istio-init. Where a CNI plugin does that (inject-cni), istio-validation only tries
 * whether it was done, so that an application never runs without its proxy in between; it ends with 126, which Istio's CNI repair looks for. What
 * the annotations and proxyMetadata say about capture is here made into arguments of `agent capture`.
 */
#include <stdlib.h>

#include "galley/webhook/inject_internal.h"

#define TRAFFIC "traffic.sidecar.istio.io/"

static void add_argument(json_t *args, const char *option, const char *value)
{
	char *text cleanup(free_p) = env_literal(value);
	char *arg cleanup(free_p) = xasprintf("--%s=%s", option, text);
	(void)json_array_append_new(args, json_string(arg));
}

static void add_port(json_t *args, const char *option, uint32_t port, uint32_t usual)
{
	char *text cleanup(free_p) = xasprintf("%u", port);
	if (port && port != usual)
		add_argument(args, option, text);
}

static void add_ports(const struct injection *i, json_t *args)
{
	add_port(args, "envoy-port", i->o->outbound_port, 15001);
	add_port(args, "inbound-capture-port", i->o->inbound_port, 15006);
}

/* Of several annotations with one meaning the last counts. */
static void add_annotations(const struct injection *i, json_t *args)
{
	static const struct {
		const char *annotation, *option;
	} rows[] = {{TRAFFIC "includeInboundPorts", "include-inbound-ports"},
		{TRAFFIC "includeOutboundIPRanges", "include-outbound-ranges"},
		{TRAFFIC "excludeOutboundIPRanges", "exclude-outbound-ranges"},
		{TRAFFIC "includeOutboundPorts", "include-outbound-ports"},
		{TRAFFIC "excludeOutboundPorts", "exclude-outbound-ports"},
		{TRAFFIC "excludeInterfaces", "exclude-interfaces"},
		{TRAFFIC "kubevirtInterfaces", "virtual-interfaces"},
		{"istio.io/reroute-virtual-interfaces", "virtual-interfaces"}};
	for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
		const char *value = annotation_of(i, rows[k].annotation, NULL);
		if (value)
			add_argument(args, rows[k].option, value);
	}
}

/* Istio's init container has these in its environment. */
static void add_metadata(const struct injection *i, json_t *args)
{
	static const struct {
		const char *variable, *option;
	} rows[] = {{"ISTIO_OUTBOUND_OWNER_GROUPS", "include-outbound-groups"},
		{"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "exclude-outbound-groups"},
		{"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "loopback-range"}};
	const json_t *metadata = json_object_get(i->config, "proxyMetadata");
	bool drop = false;
	for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
		const char *value = json_string_value(json_object_get(metadata, rows[k].variable));
		if (value)
			add_argument(args, rows[k].option, value);
	}
	(void)value_bool(json_string_value(json_object_get(metadata, "INVALID_DROP")), &drop);
	if (drop)
		(void)json_array_append_new(args, json_string("--drop-invalid"));
}

/* The status port is the agent's, whichever it is; the usual one is never captured. */
static char *excluded_ports(const struct injection *i)
{
	const char *own = annotation_of(i, TRAFFIC "excludeInboundPorts", "");
	return i->status_port && i->status_port != STATUS_PORT
		       ? xasprintf("%u%s%s", i->status_port, *own ? "," : "", own)
		       : xstrdup(own);
}

static json_t *init_container(const struct injection *i)
{
	json_t *args = json_pack("[s]", "capture");
	char *excluded cleanup(free_p) = excluded_ports(i);
	if (i->transparent)
		add_argument(args, "interception-mode", "TPROXY");
	add_ports(i, args);
	add_annotations(i, args);
	if (*excluded)
		add_argument(args, "exclude-inbound-ports", excluded);
	add_metadata(i, args);
	return helper_container(i, INIT_NAME, args, container_rights(json_pack("[s]", "NET_ADMIN"), 0, 0));
}

/* It calls as the proxy does: with TPROXY that is known by its group alone. */
static json_t *validation_container(const struct injection *i)
{
	json_t *args = json_pack("[s, s, s]", "capture", "--skip-rule-apply", "--run-validation");
	add_ports(i, args);
	uint32_t user = i->transparent ? PROXY_USER : i->user, group = i->transparent ? PROXY_USER : i->group;
	return helper_container(i, VALIDATION_NAME, args, container_rights(NULL, user, group));
}

json_t *capture_container(const struct injection *i)
{
	return i->o->cni ? validation_container(i) : init_container(i);
}

/* ---- who may pass */

static bool names_proxy(const json_t *args)
{
	for (size_t k = 0; k < json_array_size(args); k++) {
		struct str arg = str_of(json_string_value(json_array_get(args, k)));
		if (str_starts(arg, STR("--proxy-uid")) || str_starts(arg, STR("--proxy-gid")))
			return true;
	}
	return false;
}

/* The init containers of the pod run without the proxy, so rules come after them; but where they are there already, nothing runs before it is tried. */
bool capture_is_first(const struct injection *i)
{
	return i->native || i->o->cni;
}

static void set_id(json_t *rights, const json_t *proxys, const char *key)
{
	json_t *id = json_object_get(proxys, key);
	if (json_is_integer(id) && json_integer_value(id) > 0)
		(void)json_object_set(rights, key, id);
}

/* What tries the capture has to be who the proxy is. */
static void set_validation_user(const struct injection *i, const json_t *rights)
{
	const json_t *validation = list_named(json_object_get(i->spec, "initContainers"), VALIDATION_NAME, NULL);
	json_t *own = json_object_get(validation, "securityContext");
	if (!own || i->transparent)
		return;
	set_id(own, rights, "runAsUser");
	set_id(own, rights, "runAsGroup");
}

void capture_set_user(const struct injection *i)
{
	const json_t *init = list_named(json_object_get(i->spec, "initContainers"), INIT_NAME, NULL);
	const json_t *rights = json_object_get(find_proxy(i->spec), "securityContext");
	const json_t *id = json_object_get(rights, i->transparent ? "runAsGroup" : "runAsUser");
	json_t *args = json_object_get(init, "args");
	bool ours = streq(json_string_value(json_array_get(args, 0)), "capture");
	set_validation_user(i, rights);
	if (!ours || !json_is_integer(id) || json_integer_value(id) == PROXY_USER || names_proxy(args))
		return;
	char *text cleanup(free_p) = xasprintf("%lld", (long long)json_integer_value(id));
	add_argument(args, i->transparent ? "proxy-gid" : "proxy-uid", text);
}

/* ---- for the plugin */

void capture_annotations(const struct injection *i, json_t *annotations)
{
	if (!i->capture || !i->o->cni)
		return;
	char *excluded cleanup(free_p) = excluded_ports(i);
	(void)json_object_set_new(
		annotations, "sidecar.istio.io/interceptionMode", json_string(i->transparent ? "TPROXY" : "REDIRECT"));
	if (*excluded)
		(void)json_object_set_new(annotations, TRAFFIC "excludeInboundPorts", json_string(excluded));
}
