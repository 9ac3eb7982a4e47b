/*
 * DOC: Istio's `distribute`: shares of traffic from the caller's locality to others. A pattern that covers several localities shares
 * its percentage among them in proportion to their endpoints' weights.
 */
#include "common/mesh/labels.h"
#include "common/mesh/networks.h"
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

struct str locality_part(struct str locality, size_t index)
{
	struct str out = {0};

	for (size_t i = 0; i <= index; i++)
		if (!str_split(&locality, '/', &out))
			return (struct str){0};
	return out;
}

/* Labels that follow from the locality where nobody set them. */
static struct str topology(struct str key, struct str locality, const char *network)
{
	static const char *const keys[] = {
		"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (str_eqc(key, keys[i]))
			return locality_part(locality, i);
	return str_eqc(key, LABEL_NETWORK) ? str_of(network) : (struct str){0};
}

static struct str label_of(struct arena *a, const Fl__Endpoint *ep, struct str key)
{
	const char *value = label_get(LABELS(ep, labels), arena_cstr(a, key));

	return value ? str_of(value) : topology(key, str_of(ep->locality), ep->network);
}

static struct str own_label(struct view *v, struct str key)
{
	const struct proxy *p = v->scope->attributes;
	const struct str *value = proxy_label(p, key);

	return value ? *value : topology(key, p->locality, arena_cstr(v->scratch, p->network));
}

/*
 * failoverPriority: how many labels of the list, from its end, an endpoint lacks; 0 is best. "key" means the caller's own value, "key=value"
 * this one. The first label that does not fit ends the comparison, but for the network in the first place: other networks come after
 * everything of the own one, and are compared among themselves.
 */
static uint32_t failover_rank(struct view *v, char *const *labels, size_t n, const Fl__Endpoint *ep)
{
	uint32_t behind = 0;

	for (size_t i = 0; i < n; i++) {
		struct str text = str_of(labels[i]), key = text, value;

		if (!str_cut(text, '=', &key, &value)) {
			key = text;
			value = own_label(v, key);
		}
		if (str_eq(label_of(v->scratch, ep, key), value))
			continue;
		if (i || !streq(labels[i], LABEL_NETWORK))
			return behind + (uint32_t)(n - i);
		behind = (uint32_t)n;
	}
	return behind;
}

/* Istio's order: same sub-zone, zone, region, then the failover region, then all others. */
static uint32_t locality_distance(struct str own, struct str other, const Cfg__LocalityLoadBalancerSetting *s)
{
	uint32_t same = 0;

	while (same < 3 && str_eq(locality_part(own, same), locality_part(other, same)))
		same++;
	if (same)
		return 3 - same;
	for (size_t i = 0; s && i < s->n_failover; i++)
		if (str_eqc(locality_part(own, 0), s->failover[i]->from))
			return str_eqc(locality_part(other, 0), s->failover[i]->to) ? 3 : 4;
	return 3;
}

/* Zones of a region are for Envoy to balance: the own region, then its failover region, then all others. */
static uint32_t region_distance(struct str own, struct str other, const Cfg__ZoneAwareLoadBalancerSetting *s)
{
	struct str region = locality_part(own, 0);

	if (str_eq(region, locality_part(other, 0)))
		return 0;
	for (size_t i = 0; i < s->n_failover; i++)
		if (str_eqc(region, s->failover[i]->from))
			return str_eqc(locality_part(other, 0), s->failover[i]->to) ? 1 : 2;
	return 2;
}

uint32_t locality_priority(struct view *v, const struct places *where, const Fl__Endpoint *ep)
{
	struct str own = v->scope->attributes->locality, other = str_of(ep->locality);
	const Cfg__LocalityLoadBalancerSetting *s = where->locality;
	uint32_t rank, distance;

	if (where->zones)
		return 3 * failover_rank(v, where->zones->failover_priority, where->zones->n_failover_priority, ep) +
		       region_distance(own, other, where->zones);
	rank = s ? failover_rank(v, s->failover_priority, s->n_failover_priority, ep) : 0;
	distance = own.len && !(s && s->n_failover_priority && !s->n_failover) ? locality_distance(own, other, s) : 0;
	return 5 * rank + distance;
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
