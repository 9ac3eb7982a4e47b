#include "cfg/networking/destination_rule.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: DestinationRule. The same traffic policy can stand at the top, in a subset and, in part, per port: policy() checks each.
 * Normalising replaces the deprecated spellings: LEAST_CONN, consecutiveErrors, warmupDurationSecs, minimumRingSize. Inheritance
 * from the top to subsets and ports is left to pilot, which knows which level a proxy uses.
 */

static const struct rule policy_rules[] = {
	{"outlierDetection.baseEjectionTime", check_duration, 1, 0, .source = "api: OutlierDetection.baseEjectionTime"},
	{"outlierDetection.interval", check_duration, 1, 0, .source = "api: OutlierDetection.interval"},
	{"outlierDetection.maxEjectionPercent", check_number, 0, 100,
		.source = "api: OutlierDetection.maxEjectionPercent"},
	{"outlierDetection.minHealthPercent", check_number, 0, 100, .source = "api: OutlierDetection.minHealthPercent"},
	{"outlierDetection.outlierDetectionHttpErrorCodes[]", check_number, 100, 599,
		.source = "api: OutlierDetection"},
	{"loadBalancer.warmup.duration", check_duration, 1, 0, true, "api: WarmupConfiguration.duration"},
	{"loadBalancer.warmup.minimumPercent", check_wrapped, 0, 100,
		.source = "api: WarmupConfiguration.minimumPercent"},
	{"loadBalancer.warmup.aggression", check_wrapped, 1e-9, 1e9, .source = "api: WarmupConfiguration.aggression"},
	{"loadBalancer.warmupDurationSecs", check_duration, 1, 0,
		.source = "api: LoadBalancerSettings.warmupDurationSecs"},
	{"loadBalancer.consistentHash.httpCookie.name", NULL, .required = true, .source = "api: HTTPCookie.name"},
	{"loadBalancer.consistentHash.httpCookie.attributes[].name", NULL, .required = true,
		.source = "api: HTTPCookie.attributes"},
	{"loadBalancer.consistentHash.httpHeaderName", check_cors_header,
		.source = "api: ConsistentHashLB.httpHeaderName"},
};

static const struct rule top_rules[] = {
	{"tunnel.targetHost", check_host_or_ip, .required = true, .source = "api: TunnelSettings.targetHost"},
	{"tunnel.targetPort", check_port, .required = true, .source = "api: TunnelSettings.targetPort"},
	{"portLevelSettings[].port", check_port_message, .required = true, .source = "api: PortTrafficPolicy.port"},
	{"retryBudget.percent", check_wrapped, 0, 100, .source = "api: RetryBudget.percent"},
};

/* Envoy wants a prime for Maglev's table, and less than 5000011. */
static bool is_prime(uint64_t x)
{
	if (x < 2 || (x > 2 && x % 2 == 0))
		return false;
	for (uint64_t f = 3; f * f <= x; f += 2)
		if (x % f == 0)
			return false;
	return true;
}

static void cookie(struct check *c, const Cfg__LoadBalancerSettings__ConsistentHashLB__HTTPCookie *k, const char *path)
{
	for (size_t i = 0; i < k->n_attributes; i++)
		for (size_t j = 0; j < i; j++)
			if (streq(k->attributes[i]->name, k->attributes[j]->name))
				check_error(c, "duplicate", "api: HTTPCookie.attributes",
					path_at(c, "%s.attributes[%zu]", path, i), "attribute \"%s\" is there twice",
					k->attributes[i]->name);
}

static void consistent_hash(struct check *c, const Cfg__LoadBalancerSettings__ConsistentHashLB *h, const char *path)
{
	static const char source[] = "api: ConsistentHashLB";
	if (h->hash_key_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY__NOT_SET)
		check_error(c, "hash-key", source, path,
			"needs one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName");
	if (h->hash_key_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_HTTP_COOKIE)
		cookie(c, h->http_cookie, path_at(c, "%s.httpCookie", path));
	bool algorithm = h->hash_algorithm_case !=
			 CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM__NOT_SET;
	if (h->minimum_ring_size && algorithm)
		check_error(
			c, "hash-algorithm", source, path, "minimumRingSize and ringHash or maglev exclude each other");
	if (h->minimum_ring_size)
		check_warn(c, "deprecated", "api: ConsistentHashLB.minimumRingSize",
			path_at(c, "%s.minimumRingSize", path), "is deprecated; use ringHash.minimumRingSize");
	if (h->hash_algorithm_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM_MAGLEV &&
		(h->maglev->table_size >= 5000011 || !is_prime(h->maglev->table_size)))
		check_error(c, "maglev", "api: ConsistentHashLB.MagLev.tableSize",
			path_at(c, "%s.maglev.tableSize", path), "%llu is not a prime below 5000011",
			(unsigned long long)h->maglev->table_size);
}

static bool warms_up(const Cfg__LoadBalancerSettings *lb)
{
	return lb->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY__NOT_SET ||
	       (lb->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_SIMPLE &&
		       lb->simple != CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__RANDOM &&
		       lb->simple != CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__PASSTHROUGH);
}

static void load_balancer(struct check *c, const Cfg__LoadBalancerSettings *lb, bool outlier, const char *path)
{
	if (!lb)
		return;
	if (lb->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH)
		consistent_hash(c, lb->consistent_hash, path_at(c, "%s.consistentHash", path));
	if (lb->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_SIMPLE &&
		lb->simple == CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__LEAST_CONN)
		check_warn(c, "deprecated", "api: LoadBalancerSettings.simple", path_at(c, "%s.simple", path),
			"LEAST_CONN is deprecated; use LEAST_REQUEST");
	if (lb->locality_lb_setting && lb->zone_aware_lb_setting)
		check_error(c, "locality", "api: LoadBalancerSettings", path,
			"localityLbSetting and zoneAwareLbSetting exclude each other");
	if (lb->warmup_duration_secs)
		check_warn(c, "deprecated", "api: LoadBalancerSettings.warmupDurationSecs",
			path_at(c, "%s.warmupDurationSecs", path), "is deprecated; use warmup.duration");
	if (lb->warmup_duration_secs && lb->warmup)
		check_error(c, "warmup", "api: LoadBalancerSettings.warmup", path,
			"warmup and warmupDurationSecs exclude each other");
	if ((lb->warmup_duration_secs || lb->warmup) && !warms_up(lb))
		check_warn(c, "ineffective", "api: LoadBalancerSettings.warmup", path,
			"only ROUND_ROBIN and LEAST_REQUEST warm up");
	check_locality(c, lb->locality_lb_setting, outlier, path_at(c, "%s.localityLbSetting", path));
	check_zone_aware(c, lb->zone_aware_lb_setting, outlier, path_at(c, "%s.zoneAwareLbSetting", path));
}

static void outlier_detection(struct check *c, const Cfg__OutlierDetection *o, const char *path)
{
	if (!o)
		return;
	if (o->consecutive_errors)
		check_warn(c, "deprecated", "api: OutlierDetection.consecutiveErrors",
			path_at(c, "%s.consecutiveErrors", path),
			"is deprecated; use consecutiveGatewayErrors or consecutive5xxErrors");
	if (!o->split_external_local_origin_errors && o->consecutive_local_origin_failures &&
		o->consecutive_local_origin_failures->value)
		check_error(c, "outlier", "api: OutlierDetection.consecutiveLocalOriginFailures",
			path_at(c, "%s.consecutiveLocalOriginFailures", path), "needs splitExternalLocalOriginErrors");
}

static void port_policy(struct check *c, const Cfg__TrafficPolicy__PortTrafficPolicy *p, const char *path)
{
	if (!p->load_balancer && !p->connection_pool && !p->outlier_detection && !p->tls)
		check_error(c, "empty", "api: PortTrafficPolicy", path, "says nothing");
	check_rules(c, p, path, policy_rules, ARRAY_LEN(policy_rules));
	outlier_detection(c, p->outlier_detection, path_at(c, "%s.outlierDetection", path));
	check_connection_pool(c, p->connection_pool, path_at(c, "%s.connectionPool", path));
	load_balancer(c, p->load_balancer, p->outlier_detection != NULL, path_at(c, "%s.loadBalancer", path));
	check_client_tls(c, p->tls, path_at(c, "%s.tls", path));
}

static void policy(struct check *c, const Cfg__TrafficPolicy *p, const char *path)
{
	if (!p)
		return;
	if (!p->load_balancer && !p->connection_pool && !p->outlier_detection && !p->tls && !p->n_port_level_settings &&
		!p->tunnel && !p->proxy_protocol && !p->retry_budget)
		check_error(c, "empty", "api: TrafficPolicy", path, "says nothing");
	if (p->tunnel && p->proxy_protocol)
		check_error(
			c, "tunnel", "api: TrafficPolicy.tunnel", path, "tunnel and proxyProtocol exclude each other");
	if (p->tunnel && !str_empty(p->tunnel->protocol) && !streq(p->tunnel->protocol, "CONNECT") &&
		!streq(p->tunnel->protocol, "POST"))
		check_error(c, "tunnel", "api: TunnelSettings.protocol", path_at(c, "%s.tunnel.protocol", path),
			"\"%s\" is neither CONNECT nor POST", p->tunnel->protocol);
	check_rules(c, p, path, policy_rules, ARRAY_LEN(policy_rules));
	check_rules(c, p, path, top_rules, ARRAY_LEN(top_rules));
	outlier_detection(c, p->outlier_detection, path_at(c, "%s.outlierDetection", path));
	check_connection_pool(c, p->connection_pool, path_at(c, "%s.connectionPool", path));
	load_balancer(c, p->load_balancer, p->outlier_detection != NULL, path_at(c, "%s.loadBalancer", path));
	check_client_tls(c, p->tls, path_at(c, "%s.tls", path));
	for (size_t i = 0; i < p->n_port_level_settings; i++) {
		port_policy(c, p->port_level_settings[i], path_at(c, "%s.portLevelSettings[%zu]", path, i));
		for (size_t k = 0; k < i; k++)
			if (p->port_level_settings[i]->port && p->port_level_settings[k]->port &&
				p->port_level_settings[i]->port->number == p->port_level_settings[k]->port->number)
				check_error(c, "duplicate", "api: TrafficPolicy.portLevelSettings",
					path_at(c, "%s.portLevelSettings[%zu].port", path, i), "port %u is there twice",
					p->port_level_settings[i]->port->number);
	}
}

static void validate(struct check *c, const void *message)
{
	const Cfg__DestinationRule *dr = message;
	char **names = ARENA_ARRAY(c->arena, char *, dr->n_subsets);
	policy(c, dr->traffic_policy, "spec.trafficPolicy");
	for (size_t i = 0; i < dr->n_subsets; i++) {
		const Cfg__Subset *s = dr->subsets[i];
		names[i] = s->name;
		check_labels(c, LABEL_VIEW(s, labels), path_at(c, "spec.subsets[%zu].labels", i), "api: Subset.labels");
		policy(c, s->traffic_policy, path_at(c, "spec.subsets[%zu].trafficPolicy", i));
	}
	check_unique(c, names, dr->n_subsets, "spec.subsets", "duplicate-subset", "api: Subset.name");
	bool selector = dr->workload_selector != NULL;
	if (selector)
		check_selector(c, LABEL_VIEW(dr->workload_selector, match_labels), "spec.workloadSelector.matchLabels",
			"api: DestinationRule.workloadSelector");
	check_export_list(c, dr->export_to, dr->n_export_to, "spec.exportTo", false, selector);
}

static const struct rule rules[] = {
	{"host", check_host, .required = true, .source = "api: DestinationRule.host"},
	{"subsets[].name", check_label, .required = true, .source = "api: Subset.name"},
	{"exportTo[]", check_export_to, .source = "api: DestinationRule.exportTo"},
};

/* ---- normal form */

static void normal_lb(struct normal *n, Cfg__LoadBalancerSettings *lb)
{
	if (!lb)
		return;
	if (lb->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_SIMPLE &&
		lb->simple == CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__LEAST_CONN)
		lb->simple = CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__LEAST_REQUEST;
	if (lb->warmup_duration_secs && !lb->warmup) {
		lb->warmup = PB_NEW(n->arena, Cfg__WarmupConfiguration, cfg__warmup_configuration);
		lb->warmup->duration = lb->warmup_duration_secs;
	}
	lb->warmup_duration_secs = NULL;
	if (lb->lb_policy_case != CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH)
		return;
	Cfg__LoadBalancerSettings__ConsistentHashLB *h = lb->consistent_hash;
	if (h->minimum_ring_size &&
		h->hash_algorithm_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM__NOT_SET) {
		h->hash_algorithm_case = CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM_RING_HASH;
		h->ring_hash = pb_new(
			n->arena, &cfg__load_balancer_settings__consistent_hash_lb__ring_hash__descriptor);
		h->ring_hash->minimum_ring_size = h->minimum_ring_size;
	}
	h->minimum_ring_size = 0;
}

static void normal_outlier(struct normal *n, Cfg__OutlierDetection *o)
{
	if (!o)
		return;
	if (o->consecutive_errors > 0 && !o->consecutive_5xx_errors) {
		o->consecutive_5xx_errors = pb_new(n->arena, &wkt__uint32_value__descriptor);
		o->consecutive_5xx_errors->value = (uint32_t)o->consecutive_errors;
	}
	o->consecutive_errors = 0;
}

static void normal_policy(struct normal *n, Cfg__TrafficPolicy *p)
{
	if (!p)
		return;
	normal_lb(n, p->load_balancer);
	normal_outlier(n, p->outlier_detection);
	for (size_t i = 0; i < p->n_port_level_settings; i++) {
		normal_lb(n, p->port_level_settings[i]->load_balancer);
		normal_outlier(n, p->port_level_settings[i]->outlier_detection);
	}
}

static void normalise(struct normal *n, void *message)
{
	Cfg__DestinationRule *dr = message;
	dr->host = normal_host(n, dr->host);
	normal_policy(n, dr->traffic_policy);
	for (size_t i = 0; i < dr->n_subsets; i++)
		normal_policy(n, dr->subsets[i]->traffic_policy);
	normal_export_to(n, dr->export_to, dr->n_export_to);
}

extern const struct kind_ops destination_rule_ops;
const struct kind_ops destination_rule_ops = {RULES(rules), .validate = validate, .normalise = normalise};
