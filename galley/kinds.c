#include "galley/kind.h"

#include "common/mesh/host.h"
#include "galley/checks/names.h"
#include "galley/checks/values.h"

/*
 * DOC: The table of all kinds, expanded from protos/kinds.def, and the steps of normalisation that several kinds share. Row ids are
 * upper case and C has no macro for lower case, so each row has one line here that names its ops; a row without the line does not
 * compile, and a line without the file does not link.
 */

#define OPS_MESH_CONFIG mesh_config_ops
#define OPS_MESH_NETWORKS mesh_networks_ops
#define OPS_NAMESPACE namespace_ops
#define OPS_SERVICE service_ops
#define OPS_ENDPOINT_SLICE endpoint_slice_ops
#define OPS_POD pod_ops
#define OPS_NODE node_ops
#define OPS_SERVICE_ACCOUNT service_account_ops
#define OPS_SECRET secret_ops
#define OPS_CONFIG_MAP config_map_ops
#define OPS_SERVICE_ENTRY service_entry_ops
#define OPS_WORKLOAD_ENTRY workload_entry_ops
#define OPS_WORKLOAD_GROUP workload_group_ops
#define OPS_VIRTUAL_SERVICE virtual_service_ops
#define OPS_DESTINATION_RULE destination_rule_ops
#define OPS_GATEWAY gateway_ops
#define OPS_SIDECAR sidecar_ops
#define OPS_ENVOY_FILTER envoy_filter_ops
#define OPS_PROXY_CONFIG proxy_config_ops
#define OPS_PEER_AUTHN peer_authn_ops
#define OPS_REQUEST_AUTHN request_authn_ops
#define OPS_AUTHORIZATION_POLICY authorization_policy_ops
#define OPS_TELEMETRY telemetry_ops
#define OPS_WASM_PLUGIN wasm_plugin_ops
#define OPS_TRAFFIC_EXTENSION traffic_extension_ops

#define KIND(id, ...) extern const struct kind_ops OPS_##id;
#include "protos/kinds.def"
#undef KIND

static const struct kind_ops *const all_ops[] = {
#define KIND(id, ...) [KIND_##id] = &OPS_##id,
#include "protos/kinds.def"
#undef KIND
};

const struct kind_ops *kind_ops(enum kind_id id)
{
	assert(id < KIND_COUNT);
	return all_ops[id];
}

static char *lower(struct arena *a, struct str s)
{
	char *out = arena_cstr(a, s);
	for (char *p = out; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	return out;
}

char *normal_lower(struct normal *n, const char *s)
{
	return lower(n->arena, str_of(s ? s : ""));
}

char *normal_host(struct normal *n, const char *host)
{
	struct str s = str_of(host ? host : "");
	size_t at;
	if (s.len > 1 && s.ptr[s.len - 1] == '.')
		s.len--;
	if (s.len == 0 || host_is_ip(s) || str_find(s, '*', &at) || str_find(s, '.', &at))
		return lower(n->arena, s);
	return lower(n->arena, host_resolve(n->arena, s, n->ns, n->suffix));
}

void normal_export_to(struct normal *n, char **items, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (streq(items[i], "."))
			items[i] = arena_cstr(n->arena, n->ns);
}

char *normal_upper_protocol(struct normal *n, const char *protocol)
{
	return arena_strdup(n->arena, protocol_canonical(str_of(protocol ? protocol : "")));
}
