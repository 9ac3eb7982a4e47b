/*
 * DOC: The ProxyConfig that holds for the proxies of a scope, as far as it decides about what they are sent: what the proxy itself said
 * (PROXY_CONFIG of its node, which annotations end up in) over the mesh's defaultConfig, member by member.
 */
#include "pilot/model/query.h"

static const Mesh__ProxyConfig *mesh_default(struct view *v)
{
	static const Mesh__ProxyConfig none = MESH__PROXY_CONFIG__INIT;
	const Mesh__ProxyConfig *c = view_mesh(v)->default_config;

	/* Envoy may refuse what a user wrote there. */
	if (c && (c->gateway_topology || c->proxy_headers || c->connection_settings))
		(void)view_mesh_named(v);
	return c ? c : &none;
}

const Mesh__ProxyConfig *view_proxy_config(struct view *v)
{
	const Mesh__ProxyConfig *own = v->scope->attributes->config, *mesh = mesh_default(v);
	Mesh__ProxyConfig *out;

	if (!own)
		return mesh;
	out = arena_array(v->scratch, 1, sizeof(*out));
	*out = *mesh;
	if (own->gateway_topology)
		out->gateway_topology = own->gateway_topology;
	if (own->proxy_headers)
		out->proxy_headers = own->proxy_headers;
	if (own->connection_settings)
		out->connection_settings = own->connection_settings;
	return out;
}
