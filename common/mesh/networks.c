/* DOC: Which network a workload is in that does not say so: one question for galley, of endpoints, and for pilot, of proxies. */
#include "common/mesh/networks.h"

#include "common/base/ip.h"

bool network_gateway_port(const char *label, uint32_t *port)
{
	*port = 15443;
	return !label || str_u32(str_of(label), 65535, port);
}

static bool has_cluster(const Fl__Network *n, struct str cluster)
{
	for (size_t i = 0; i < n->n_registries; i++)
		if (str_eqc(cluster, n->registries[i]))
			return true;
	return false;
}

static const char *of_cluster(const struct network_list *list, struct str cluster)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->items[i]->is_default)
			return list->items[i]->name;
	for (size_t i = 0; i < list->n; i++)
		if (has_cluster(list->items[i], cluster))
			return list->items[i]->name;
	return NULL;
}

static const char *of_address(const struct network_list *list, struct str address)
{
	const char *best = NULL;
	unsigned longest = 0, prefix;

	for (size_t i = 0; i < list->n; i++)
		for (size_t k = 0; k < list->items[i]->n_cidrs; k++)
			if (cidr_covers(str_of(list->items[i]->cidrs[k]), address, &prefix) &&
				(!best || prefix > longest)) {
				best = list->items[i]->name;
				longest = prefix;
			}
	return best;
}

const char *network_find(const struct network_list *list, struct str cluster, struct str address)
{
	const char *found = list && list->n && cluster.len ? of_cluster(list, cluster) : NULL;

	return found || !list ? found : of_address(list, address);
}
