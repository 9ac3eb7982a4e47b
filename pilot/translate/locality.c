/*
 * DOC: Istio's `distribute`: shares of traffic from the caller's locality to others. A pattern that covers several localities shares
 * its percentage among them in proportion to their endpoints' weights.
 */
#include "pilot/translate/locality.h"

bool locality_covers(struct str pattern, struct str locality)
{
	struct str want, have;

	while (str_split(&pattern, '/', &want)) {
		if (str_eqc(want, "*"))
			return true;
		if (!str_split(&locality, '/', &have) || !str_eq(want, have))
			return false;
	}
	return true;
}

static struct str text_of(struct arena *a, const Core__Locality *l)
{
	return str_of(arena_printf(a, "%s/%s/%s", l->region, l->zone, l->sub_zone));
}

void distribute_weights(
	struct arena *a, const Cfg__LocalityLoadBalancerSetting__Distribute *d, Eds__ClusterLoadAssignment *out)
{
	uint32_t *given = arena_array(a, out->n_endpoints + 1, sizeof(*given));
	size_t n = 0;

	for (size_t i = 0; i < d->n_to; i++) {
		uint64_t total = 0;
		struct str pattern = str_of(d->to[i]->key);

		for (size_t j = 0; j < out->n_endpoints; j++)
			if (!given[j] && locality_covers(pattern, text_of(a, out->endpoints[j]->locality)))
				total += out->endpoints[j]->load_balancing_weight->value;
		for (size_t j = 0; total && j < out->n_endpoints; j++) {
			Eds__LocalityLbEndpoints *g = out->endpoints[j];

			if (given[j] || !locality_covers(pattern, text_of(a, g->locality)))
				continue;
			given[j] = (uint32_t)((uint64_t)d->to[i]->value * g->load_balancing_weight->value * 100 /
					      total);
		}
	}
	for (size_t j = 0; j < out->n_endpoints; j++)
		if (given[j]) {
			out->endpoints[j]->load_balancing_weight->value = given[j];
			out->endpoints[n++] = out->endpoints[j];
		}
	out->n_endpoints = n;
}
