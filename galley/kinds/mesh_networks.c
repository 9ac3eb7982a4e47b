#include "cfg/mesh_network.pb-c.h"
#include "common/base/ip.h"
#include "common/mesh/host.h"
#include "galley/checks/names.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: MeshNetworks. There is one, named "default". Which blocks of addresses and which clusters are in which network, and by which gateways
 * other networks reach it. Blocks of different networks must not overlap, and a cluster is in one network: where they do, the object stays in
 * force, since traffic goes on, and its author is warned which network it is.
 */

#define API "api: MeshNetworks."

typedef const Mesh__Network__NetworkEndpoints endpoints_t;

static void gateway(struct check *c, const Mesh__Network__IstioNetworkGateway *g, const char *at)
{
	const char *problem = NULL;
	if (g->gw_case == MESH__NETWORK__ISTIO_NETWORK_GATEWAY__GW__NOT_SET)
		check_error(c, "required", API "gateways", at, "a gateway needs an address or a registryServiceName");
	else if (g->gw_case == MESH__NETWORK__ISTIO_NETWORK_GATEWAY__GW_ADDRESS)
		problem = host_is_ip(str_of(g->address)) ? NULL : fqdn_problem(c->arena, str_of(g->address));
	if (problem)
		check_error(c, "host", API "gateways.address", path_at(c, "%s.address", at),
			"\"%s\" is neither an IP address nor a host name: %s", g->address, problem);
}

static void network(struct check *c, const char *name, const Mesh__Network *n)
{
	const char *at = path_at(c, "spec.networks[\"%s\"]", name);
	if (str_empty(name))
		check_error(c, "required", API "networks", "spec.networks", "a network needs a name");
	for (size_t i = 0; i < n->n_endpoints; i++)
		if (n->endpoints[i]->ne_case == MESH__NETWORK__NETWORK_ENDPOINTS__NE__NOT_SET)
			check_error(c, "required", API "endpoints", path_at(c, "%s.endpoints[%zu]", at, i),
				"a fromCidr or a fromRegistry is required");
	for (size_t i = 0; i < n->n_gateways; i++)
		gateway(c, n->gateways[i], path_at(c, "%s.gateways[%zu]", at, i));
}

/* ---- two networks for one workload */

static const char *cidr_of(endpoints_t *e)
{
	return e->ne_case == MESH__NETWORK__NETWORK_ENDPOINTS__NE_FROM_CIDR ? e->from_cidr : "";
}

static const char *registry_of(endpoints_t *e)
{
	return e->ne_case == MESH__NETWORK__NETWORK_ENDPOINTS__NE_FROM_REGISTRY ? e->from_registry : "";
}

/* One of two blocks that overlap has the first address of the other. */
static bool overlap(const char *x, const char *y)
{
	struct str a = str_of(x), b = str_of(y), rest;
	unsigned prefix;
	(void)str_cut(str_of(x), '/', &a, &rest);
	(void)str_cut(str_of(y), '/', &b, &rest);
	return cidr_covers(str_of(x), b, &prefix) || cidr_covers(str_of(y), a, &prefix);
}

static void pair(struct check *c, endpoints_t *x, endpoints_t *y, const char *first, const char *at)
{
	const char *registry = registry_of(y);
	if (overlap(cidr_of(x), cidr_of(y)))
		check_warn(c, "network-overlap", API "endpoints.fromCidr", path_at(c, "%s.fromCidr", at),
			"%s overlaps with %s of network \"%s\": addresses are in the network with the longer prefix",
			cidr_of(y), cidr_of(x), first);
	if (*registry && streq(registry_of(x), registry))
		check_warn(c, "network-overlap", API "endpoints.fromRegistry", path_at(c, "%s.fromRegistry", at),
			"cluster \"%s\" is in network \"%s\" already, and stays there", registry, first);
}

static void overlaps(struct check *c, const Mesh__MeshNetworks *m)
{
	for (size_t i = 0; i < m->n_networks; i++)
		for (size_t k = i + 1; k < m->n_networks; k++)
			for (size_t x = 0; x < m->networks[i]->value->n_endpoints; x++)
				for (size_t y = 0; y < m->networks[k]->value->n_endpoints; y++)
					pair(c, m->networks[i]->value->endpoints[x],
						m->networks[k]->value->endpoints[y], m->networks[i]->key,
						path_at(c, "spec.networks[\"%s\"].endpoints[%zu]", m->networks[k]->key,
							y));
}

static void validate(struct check *c, const void *message)
{
	const Mesh__MeshNetworks *m = message;
	if (!streq(c->name, "default"))
		check_error(c, "mesh-name", "docs: the mesh has one MeshNetworks", "metadata.name",
			"\"%s\": the MeshNetworks is named \"default\"", c->name);
	for (size_t i = 0; i < m->n_networks; i++)
		network(c, m->networks[i]->key, m->networks[i]->value);
	overlaps(c, m);
}

/* Names of clusters are DNS labels of either case: the default one is "Kubernetes". */
static void check_cluster(struct check *c, const struct rule *r, const struct pb_place *p)
{
	if (!name_is_label(host_lower(c->arena, place_str(p))))
		check_error(c, "cluster-name", r->source, p->path,
			"\"" STR_FMT "\" is not a cluster's name (letters, digits and '-', at most 63)",
			STR_ARG(place_str(p)));
}

static const struct rule rules[] = {
	{"networks{}.endpoints[].fromCidr", check_cidr, .source = API "endpoints.fromCidr"},
	{"networks{}.endpoints[].fromRegistry", check_cluster, .source = API "endpoints.fromRegistry"},
	{"networks{}.gateways[].registryServiceName", check_fqdn, .source = API "gateways.registryServiceName"},
	{"networks{}.gateways[].port", check_port, .required = true, .source = API "gateways.port"},
};

extern const struct kind_ops mesh_networks_ops;
const struct kind_ops mesh_networks_ops = {RULES(rules), .validate = validate};
