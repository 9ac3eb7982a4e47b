#include "galley/checks/shared.h"

/*
 * DOC: Locality load balancing. A locality is "region/zone/subzone" with an optional "*" as its last part; two localities of one list
 * must not overlap, or it would depend on their order which one counts.
 */

static bool is_topology_label(const char *key)
{
	return streq(key, "topology.kubernetes.io/region") || streq(key, "topology.kubernetes.io/zone") ||
	       streq(key, "topology.istio.io/subzone");
}

static const char *locality_problem(const char *locality)
{
	struct str s = str_of(locality ? locality : "");
	size_t at, parts = 1;
	if (str_find(s, '*', &at) && at != s.len - 1)
		return "a '*' may only be the last part";
	struct str rest = s, part;
	for (size_t i = 0; str_split(&rest, '/', &part); i++, parts = i)
		if (part.len == 0)
			return "no part of region/zone/subzone may be empty";
		else if (part.len > 1 && str_find(part, '*', &at))
			return "a '*' is a whole part";
	return parts > 3 ? "more than region/zone/subzone" : NULL;
}

/* Without a final star: what it covers is a prefix of parts. */
static struct str covered(const char *locality)
{
	struct str s = str_of(locality ? locality : "");
	if (str_ends(s, STR("/*")))
		s.len -= 2;
	else if (str_eqc(s, "*"))
		s.len = 0;
	return s;
}

static bool covers(struct str x, struct str y)
{
	return x.len == 0 || (str_starts(y, x) && (y.len == x.len || y.ptr[x.len] == '/'));
}

static void check_list(struct check *c, const char *const *items, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++) {
		const char *problem = locality_problem(items[i]);
		if (problem)
			check_error(c, "locality", "api: LocalityLoadBalancerSetting", path, "\"%s\": %s", items[i],
				problem);
		for (size_t k = 0; k < i; k++)
			if (covers(covered(items[i]), covered(items[k])) ||
				covers(covered(items[k]), covered(items[i])))
				check_error(c, "locality", "api: LocalityLoadBalancerSetting", path,
					"\"%s\" overlaps \"%s\"", items[i], items[k]);
	}
}

static void distribute(struct check *c, const Cfg__LocalityLoadBalancerSetting *l, const char *path)
{
	const char **from = ARENA_ARRAY(c->arena, const char *, l->n_distribute);
	for (size_t i = 0; i < l->n_distribute; i++) {
		const Cfg__LocalityLoadBalancerSetting__Distribute *d = l->distribute[i];
		const char *at = path_at(c, "%s.distribute[%zu].to", path, i);
		const char **to = ARENA_ARRAY(c->arena, const char *, d->n_to);
		uint64_t total = 0;
		from[i] = d->from;
		for (size_t k = 0; k < d->n_to; k++) {
			to[k] = d->to[k]->key;
			total += d->to[k]->value;
			if (d->to[k]->value < 1 || d->to[k]->value > 100)
				check_error(c, "range", "api: Distribute.to", at,
					"weight %u of \"%s\" is not in the range 1..100", d->to[k]->value, to[k]);
		}
		if (total != 100)
			check_error(c, "locality-sum", "api: Distribute.to", at, "the weights add up to %llu, not 100",
				(unsigned long long)total);
		check_list(c, to, d->n_to, at);
	}
	check_list(c, from, l->n_distribute, path_at(c, "%s.distribute", path));
}

static void failover_pair(struct check *c, const char *from, const char *to, const char *path)
{
	static const char source[] = "api: LocalityLoadBalancerSetting.failover";
	if (streq(from, to))
		check_error(c, "failover", source, path, "fails over from \"%s\" to itself", from ? from : "");
	if (strpbrk(from ? from : "", "/*") || strpbrk(to ? to : "", "/*"))
		check_error(c, "failover", source, path, "names regions, without '/' and '*'");
}

void check_locality(struct check *c, const Cfg__LocalityLoadBalancerSetting *l, bool outlier, const char *path)
{
	if (!l)
		return;
	if (l->n_distribute && l->n_failover)
		check_error(c, "failover", "api: LocalityLoadBalancerSetting", path,
			"distribute and failover exclude each other");
	for (size_t i = 0; l->n_failover && i < l->n_failover_priority; i++)
		if (is_topology_label(l->failover_priority[i]))
			check_error(c, "failover", "api: LocalityLoadBalancerSetting",
				path_at(c, "%s.failoverPriority[%zu]", path, i),
				"\"%s\" cannot be used together with failover", l->failover_priority[i]);
	distribute(c, l, path);
	if ((l->n_failover || l->n_failover_priority) && !outlier)
		check_warn(c, "failover-outlier", "api: LocalityLoadBalancerSetting.failover", path,
			"without outlierDetection Envoy never fails over");
	for (size_t i = 0; i < l->n_failover; i++)
		failover_pair(c, l->failover[i]->from, l->failover[i]->to, path_at(c, "%s.failover[%zu]", path, i));
}

void check_zone_aware(struct check *c, const Cfg__ZoneAwareLoadBalancerSetting *z, bool outlier, const char *path)
{
	if (!z)
		return;
	for (size_t i = 0; i < z->n_failover_priority; i++)
		if (is_topology_label(z->failover_priority[i]))
			check_error(c, "failover", "api: ZoneAwareLoadBalancerSetting.failoverPriority",
				path_at(c, "%s.failoverPriority[%zu]", path, i),
				"\"%s\" is implied by zone-aware balancing", z->failover_priority[i]);
	if ((z->n_failover || z->n_failover_priority) && !outlier)
		check_warn(c, "failover-outlier", "api: ZoneAwareLoadBalancerSetting.failover", path,
			"without outlierDetection Envoy never fails over");
	for (size_t i = 0; i < z->n_failover; i++)
		failover_pair(c, z->failover[i]->from, z->failover[i]->to, path_at(c, "%s.failover[%zu]", path, i));
}
