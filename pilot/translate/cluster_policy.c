/*
 * DOC: Connection pools, outlier detection and load balancers of destination rules. Defaults are Istio's: least request, no
 * circuit breaker limits (4294967295 each), connect timeout of the mesh (10 s).
 */
#include "pilot/translate/cluster_policy.h"

#include "pilot/translate/connection_manager.h"

#include "xds/proxy_protocol_upstream.pb-c.h"
#include "xds/upstream_http.pb-c.h"

bool cluster_is_by_name(const Cds__Cluster *c)
{
	return c->cluster_discovery_type_case == CDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE;
}

/* The settings of a port do not inherit from the level they stand in: what they leave out is the default. */
static void overlay(struct traffic_policy *out, const Cfg__TrafficPolicy *p, uint32_t port)
{
	if (!p)
		return;
	out->balancer = p->load_balancer ? p->load_balancer : out->balancer;
	out->pool = p->connection_pool ? p->connection_pool : out->pool;
	out->outlier = p->outlier_detection ? p->outlier_detection : out->outlier;
	out->tls = p->tls ? p->tls : out->tls;
	out->tunnel = p->tunnel ? p->tunnel : out->tunnel;
	out->proxy_protocol = p->proxy_protocol ? p->proxy_protocol : out->proxy_protocol;
	out->retry_budget = p->retry_budget ? p->retry_budget : out->retry_budget;
	for (size_t i = 0; i < p->n_port_level_settings; i++) {
		const Cfg__TrafficPolicy__PortTrafficPolicy *s = p->port_level_settings[i];

		if (!s->port || s->port->number != port)
			continue;
		out->balancer = s->load_balancer;
		out->pool = s->connection_pool;
		out->outlier = s->outlier_detection;
		out->tls = s->tls;
		return;
	}
}

struct traffic_policy policy_resolve(
	const Mesh__MeshConfig *mesh, const Cfg__TrafficPolicy *rule, const Cfg__Subset *subset, uint32_t port)
{
	const Mesh__MeshConfig__DefaultTrafficPolicy *defaults = mesh->default_traffic_policy;
	struct traffic_policy out = {0};

	overlay(&out, rule, port);
	overlay(&out, subset ? subset->traffic_policy : NULL, port);
	if (defaults && !out.pool)
		out.pool = defaults->connection_pool;
	if (defaults && !out.outlier)
		out.outlier = defaults->outlier_detection;
	return out;
}

/* Failover to other localities needs a way to see that the own one fails; between zones Envoy's own balancing does. */
struct places policy_places(const struct traffic_policy *p, const Mesh__MeshConfig *mesh)
{
	const Cfg__LoadBalancerSettings *b = p->balancer;
	bool own = b && (b->zone_aware_lb_setting || b->locality_lb_setting);
	struct places out = {.zones = own ? b->zone_aware_lb_setting : mesh->zone_aware_lb_setting};

	if (out.zones) {
		out.failover = bool_or(out.zones->enabled, true);
		return out;
	}
	out.locality = own ? b->locality_lb_setting : mesh->locality_lb_setting;
	if (out.locality && !bool_or(out.locality->enabled, true))
		return (struct places){0};
	out.weights = out.locality && out.locality->n_distribute;
	out.failover = p->outlier && !out.weights;
	return out;
}

/* ---- circuit breakers */
static Wkt__UInt32Value *limit(struct arena *a, int32_t value)
{
	return build_u32(a, value > 0 ? (uint32_t)value : UINT32_MAX);
}

static void apply_limits(struct arena *a, const Cfg__ConnectionPoolSettings *pool, Cds__Cluster *c)
{
	const Cfg__ConnectionPoolSettings__TCPSettings *tcp = pool ? pool->tcp : NULL;
	const Cfg__ConnectionPoolSettings__HTTPSettings *http = pool ? pool->http : NULL;
	Cds__CircuitBreakers__Thresholds *t = PB_NEW(
		a, Cds__CircuitBreakers__Thresholds, cds__circuit_breakers__thresholds);

	t->max_connections = limit(a, tcp ? tcp->max_connections : 0);
	t->max_pending_requests = limit(a, http ? http->http1_max_pending_requests : 0);
	t->max_requests = limit(a, http ? http->http2_max_requests : 0);
	t->max_retries = limit(a, http ? http->max_retries : 0);
	t->track_remaining = true;
	c->circuit_breakers = PB_NEW(a, Cds__CircuitBreakers, cds__circuit_breakers);
	pb_add(a, c->circuit_breakers, thresholds, t);
}

/* Retries as a share of requests, instead of a fixed number of them. Istio's defaults: 20 %, at least 3. */
static void apply_retry_budget(
	struct arena *a, const Cfg__TrafficPolicy__RetryBudget *b, Cds__CircuitBreakers__Thresholds *t)
{
	Cds__CircuitBreakers__Thresholds__RetryBudget *out = PB_NEW(
		a, Cds__CircuitBreakers__Thresholds__RetryBudget, cds__circuit_breakers__thresholds__retry_budget);

	out->budget_percent = PB_NEW(a, Type__Percent, type__percent);
	out->budget_percent->value = b->percent ? b->percent->value : 20;
	out->min_retry_concurrency = build_u32(a, b->min_retry_concurrency ? b->min_retry_concurrency : 3);
	out->budget_interval = build_duration(a, b->budget_interval);
	t->retry_budget = out;
	t->max_retries = NULL;
}

void cluster_no_limits(struct arena *a, Cds__Cluster *c)
{
	apply_limits(a, NULL, c);
}

static void apply_tcp(struct arena *a, const Cfg__ConnectionPoolSettings__TCPSettings *tcp,
	const Mesh__MeshConfig *mesh, Cds__Cluster *c)
{
	const Cfg__ConnectionPoolSettings__TCPSettings__TcpKeepalive *k = tcp && tcp->tcp_keepalive
										  ? tcp->tcp_keepalive
										  : mesh->tcp_keepalive;
	Core__TcpKeepalive *out;

	c->connect_timeout = tcp && tcp->connect_timeout ? build_duration(a, tcp->connect_timeout)
			     : mesh->connect_timeout     ? build_duration(a, mesh->connect_timeout)
							 : build_ms(a, 10000);
	if (!k)
		return;
	out = PB_NEW(a, Core__TcpKeepalive, core__tcp_keepalive);
	out->keepalive_probes = k->probes ? build_u32(a, k->probes) : NULL;
	out->keepalive_time = k->time ? build_u32(a, (uint32_t)k->time->seconds) : NULL;
	out->keepalive_interval = k->interval ? build_u32(a, (uint32_t)k->interval->seconds) : NULL;
	c->upstream_connection_options = PB_NEW(a, Cds__UpstreamConnectionOptions, cds__upstream_connection_options);
	c->upstream_connection_options->tcp_keepalive = out;
}

/* ---- outlier detection */
static Wkt__UInt32Value *copy_u32(struct arena *a, const Wkt__UInt32Value *v)
{
	return v ? build_u32(a, v->value) : NULL;
}

static void apply_outlier(struct arena *a, const Cfg__OutlierDetection *o, Cds__Cluster *c)
{
	Cds__OutlierDetection *out = PB_NEW(a, Cds__OutlierDetection, cds__outlier_detection);

	out->interval = build_duration(a, o->interval);
	out->base_ejection_time = build_duration(a, o->base_ejection_time);
	out->enforcing_success_rate = build_u32(a, 0);
	if (o->consecutive_5xx_errors) {
		out->consecutive_5xx = copy_u32(a, o->consecutive_5xx_errors);
		out->enforcing_consecutive_5xx = build_u32(a, o->consecutive_5xx_errors->value ? 100 : 0);
	}
	if (o->consecutive_gateway_errors) {
		out->consecutive_gateway_failure = copy_u32(a, o->consecutive_gateway_errors);
		out->enforcing_consecutive_gateway_failure = build_u32(
			a, o->consecutive_gateway_errors->value ? 100 : 0);
	}
	if (o->max_ejection_percent > 0)
		out->max_ejection_percent = build_u32(a, (uint32_t)o->max_ejection_percent);
	if (o->split_external_local_origin_errors) {
		out->split_external_local_origin_errors = true;
		if (o->consecutive_local_origin_failures && o->consecutive_local_origin_failures->value) {
			out->consecutive_local_origin_failure = copy_u32(a, o->consecutive_local_origin_failures);
			out->enforcing_consecutive_local_origin_failure = build_u32(a, 100);
		}
		out->enforcing_local_origin_success_rate = build_u32(a, 0);
	}
	if (c->common_lb_config->healthy_panic_threshold)
		c->common_lb_config->healthy_panic_threshold->value = o->min_health_percent;
	c->outlier_detection = out;
}

/* ---- load balancers */
static void apply_hash(struct arena *a, const Cfg__LoadBalancerSettings__ConsistentHashLB *h, Cds__Cluster *c)
{
	bool maglev = h->hash_algorithm_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM_MAGLEV;
	bool ring = h->hash_algorithm_case == CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_ALGORITHM_RING_HASH;
	uint64_t size = ring && h->ring_hash->minimum_ring_size ? h->ring_hash->minimum_ring_size
								: h->minimum_ring_size;

	if (maglev) {
		c->lb_policy = CDS__CLUSTER__LB_POLICY__MAGLEV;
		if (!h->maglev->table_size)
			return;
		c->maglev_lb_config = PB_NEW(a, Cds__Cluster__MaglevLbConfig, cds__cluster__maglev_lb_config);
		c->maglev_lb_config->table_size = build_u64(a, h->maglev->table_size);
		c->lb_config_case = CDS__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG;
		return;
	}
	c->lb_policy = CDS__CLUSTER__LB_POLICY__RING_HASH;
	c->ring_hash_lb_config = PB_NEW(a, Cds__Cluster__RingHashLbConfig, cds__cluster__ring_hash_lb_config);
	c->ring_hash_lb_config->minimum_ring_size = build_u64(a, size ? size : 1024);
	c->lb_config_case = CDS__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG;
}

static Cds__Cluster__SlowStartConfig *slow_start(struct arena *a, const Cfg__LoadBalancerSettings *b)
{
	const Cfg__WarmupConfiguration *w = b->warmup;
	const Wkt__Duration *window = w && w->duration ? w->duration : b->warmup_duration_secs;
	Cds__Cluster__SlowStartConfig *s;

	if (!window)
		return NULL;
	s = PB_NEW(a, Cds__Cluster__SlowStartConfig, cds__cluster__slow_start_config);
	s->slow_start_window = build_duration(a, window);
	if (w && w->aggression) {
		s->aggression = PB_NEW(a, Core__RuntimeDouble, core__runtime_double);
		s->aggression->default_value = w->aggression->value;
		s->aggression->runtime_key = arena_strdup(a, "upstream.slow_start.aggression");
	}
	if (w && w->minimum_percent) {
		s->min_weight_percent = PB_NEW(a, Type__Percent, type__percent);
		s->min_weight_percent->value = w->minimum_percent->value;
	}
	return s;
}

static void apply_simple(struct arena *a, const Cfg__LoadBalancerSettings *b, Cds__Cluster *c)
{
	Cds__Cluster__SlowStartConfig *warm = b ? slow_start(a, b) : NULL;
	Cfg__LoadBalancerSettings__SimpleLB simple =
		b && b->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_SIMPLE
			? b->simple
			: CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__UNSPECIFIED;

	if (simple == CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__RANDOM) {
		c->lb_policy = CDS__CLUSTER__LB_POLICY__RANDOM;
	} else if (simple == CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__ROUND_ROBIN) {
		c->lb_policy = CDS__CLUSTER__LB_POLICY__ROUND_ROBIN;
		if (warm) {
			c->round_robin_lb_config = PB_NEW(
				a, Cds__Cluster__RoundRobinLbConfig, cds__cluster__round_robin_lb_config);
			c->round_robin_lb_config->slow_start_config = warm;
			c->lb_config_case = CDS__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG;
		}
	} else {
		c->lb_policy = CDS__CLUSTER__LB_POLICY__LEAST_REQUEST;
		if (warm) {
			c->least_request_lb_config = PB_NEW(
				a, Cds__Cluster__LeastRequestLbConfig, cds__cluster__least_request_lb_config);
			c->least_request_lb_config->slow_start_config = warm;
			c->lb_config_case = CDS__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG;
		}
	}
}

static void apply_zones(struct arena *a, const struct places *where, Cds__Cluster__CommonLbConfig *c)
{
	Cds__Cluster__CommonLbConfig__ZoneAwareLbConfig *z = PB_NEW(a, Cds__Cluster__CommonLbConfig__ZoneAwareLbConfig,
		cds__cluster__common_lb_config__zone_aware_lb_config);

	if (!where->failover) /* Envoy would balance by zone on its own account */
		z->routing_enabled = PB_NEW(a, Type__Percent, type__percent);
	if (where->zones->min_cluster_size)
		z->min_cluster_size = build_u64(a, where->zones->min_cluster_size->value);
	c->zone_aware_lb_config = z;
	c->locality_config_specifier_case =
		CDS__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG;
}

/* Weights of localities stand above the balancer, so they are left out where nobody asked for them. */
static void apply_places(struct arena *a, const struct places *where, Cds__Cluster__CommonLbConfig *c)
{
	const Cfg__LocalityLoadBalancerSetting *s = where->locality;

	if (where->zones) {
		apply_zones(a, where, c);
	} else if (where->weights || (where->failover && s && (s->n_failover || s->n_failover_priority))) {
		c->locality_weighted_lb_config = PB_NEW(a, Cds__Cluster__CommonLbConfig__LocalityWeightedLbConfig,
			cds__cluster__common_lb_config__locality_weighted_lb_config);
		c->locality_config_specifier_case =
			CDS__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG;
	}
}

static void apply_balancer(
	struct arena *a, const struct traffic_policy *p, const Mesh__MeshConfig *mesh, Cds__Cluster *c)
{
	const Cfg__LoadBalancerSettings *b = p->balancer;
	const struct places where = policy_places(p, mesh);

	c->common_lb_config = PB_NEW(a, Cds__Cluster__CommonLbConfig, cds__cluster__common_lb_config);
	if (!cluster_is_by_name(c) && b && b->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_SIMPLE &&
		b->simple == CFG__LOAD_BALANCER_SETTINGS__SIMPLE_LB__PASSTHROUGH) {
		c->type = CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST;
		c->eds_cluster_config = NULL;
	}
	if (c->type == CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST || cluster_is_by_name(c)) {
		c->lb_policy = CDS__CLUSTER__LB_POLICY__CLUSTER_PROVIDED;
		return;
	}
	/* Unready and draining endpoints are sent, too: Envoy must not fall back to them when they are the majority. */
	c->common_lb_config->healthy_panic_threshold = PB_NEW(a, Type__Percent, type__percent);
	if (b && b->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH)
		apply_hash(a, b->consistent_hash, c);
	else
		apply_simple(a, b, c);
	apply_places(a, &where, c->common_lb_config);
}

void policy_apply(struct arena *a, const struct traffic_policy *p, const Mesh__MeshConfig *mesh, Cds__Cluster *c)
{
	apply_balancer(a, p, mesh, c);
	apply_tcp(a, p->pool ? p->pool->tcp : NULL, mesh, c);
	apply_limits(a, p->pool, c);
	if (p->retry_budget)
		apply_retry_budget(a, p->retry_budget, c->circuit_breakers->thresholds[0]);
	if (p->outlier)
		apply_outlier(a, p->outlier, c);
}

/* ---- PROXY protocol */
static Core__TransportSocket *with_header(struct arena *a, const struct traffic_policy *p, Core__TransportSocket *inner)
{
	ProxyUp__ProxyProtocolUpstreamTransport *t = PB_NEW(
		a, ProxyUp__ProxyProtocolUpstreamTransport, proxy_up__proxy_protocol_upstream_transport);

	t->config = PB_NEW(a, Core__ProxyProtocolConfig, core__proxy_protocol_config);
	if (p->proxy_protocol->version == CFG__TRAFFIC_POLICY__PROXY_PROTOCOL__VERSION__V2)
		t->config->version = CORE__PROXY_PROTOCOL_CONFIG__VERSION__V2;
	t->transport_socket = inner;
	return build_transport_socket(a, "envoy.transport_sockets.upstream_proxy_protocol", t);
}

void policy_proxy_protocol(struct arena *a, const struct traffic_policy *p, Cds__Cluster *c)
{
	if (!p->proxy_protocol)
		return;
	for (size_t i = 0; i < c->n_transport_socket_matches; i++)
		c->transport_socket_matches[i]->transport_socket = with_header(
			a, p, c->transport_socket_matches[i]->transport_socket);
	if (!c->n_transport_socket_matches)
		c->transport_socket = with_header(a, p, c->transport_socket ? c->transport_socket : tls_raw_buffer(a));
}

/* ---- HTTP options */
/* Which answers outlier detection counts as errors. */
static Uhttp__HttpProtocolOptions__OutlierDetection *error_codes(struct arena *a, const Cfg__OutlierDetection *o)
{
	Uhttp__HttpProtocolOptions__OutlierDetection *out;
	Cmatch__MatchPredicate *any;

	if (!o || !o->n_outlier_detection_http_error_codes)
		return NULL;
	out = PB_NEW(a, Uhttp__HttpProtocolOptions__OutlierDetection, uhttp__http_protocol_options__outlier_detection);
	any = PB_NEW(a, Cmatch__MatchPredicate, cmatch__match_predicate);
	any->or_match = PB_NEW(a, Cmatch__MatchPredicate__MatchSet, cmatch__match_predicate__match_set);
	any->rule_case = CMATCH__MATCH_PREDICATE__RULE_OR_MATCH;
	for (size_t i = 0; i < o->n_outlier_detection_http_error_codes; i++) {
		Cmatch__MatchPredicate *one = PB_NEW(a, Cmatch__MatchPredicate, cmatch__match_predicate);
		Rds__HeaderMatcher *h = PB_NEW(a, Rds__HeaderMatcher, rds__header_matcher);

		h->name = arena_strdup(a, ":status");
		h->string_match = build_exact(a, arena_printf(a, "%u", o->outlier_detection_http_error_codes[i]));
		h->header_match_specifier_case = RDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH;
		one->http_response_headers_match = PB_NEW(a, Cmatch__HttpHeadersMatch, cmatch__http_headers_match);
		one->rule_case = CMATCH__MATCH_PREDICATE__RULE_HTTP_RESPONSE_HEADERS_MATCH;
		pb_add(a, one->http_response_headers_match, headers, h);
		pb_add(a, any->or_match, rules, one);
	}
	/* A set needs two: Envoy's rule. */
	out->error_matcher = any->or_match->n_rules > 1 ? any : any->or_match->rules[0];
	return out;
}

/* The idle time of HTTP comes before that of TCP, which holds for both. */
static Core__HttpProtocolOptions *common_http(struct arena *a, const Cfg__ConnectionPoolSettings *pool)
{
	static const Cfg__ConnectionPoolSettings__HTTPSettings no_http =
		CFG__CONNECTION_POOL_SETTINGS__HTTPSETTINGS__INIT;
	static const Cfg__ConnectionPoolSettings__TCPSettings no_tcp = CFG__CONNECTION_POOL_SETTINGS__TCPSETTINGS__INIT;
	const Cfg__ConnectionPoolSettings__HTTPSettings *http = pool && pool->http ? pool->http : &no_http;
	const Cfg__ConnectionPoolSettings__TCPSettings *tcp = pool && pool->tcp ? pool->tcp : &no_tcp;
	const Wkt__Duration *idle = http->idle_timeout ? http->idle_timeout : tcp->idle_timeout;
	Core__HttpProtocolOptions *o;

	if (!tcp->max_connection_duration && !idle && http->max_requests_per_connection <= 0)
		return NULL;
	o = PB_NEW(a, Core__HttpProtocolOptions, core__http_protocol_options);
	o->max_connection_duration = build_duration(a, tcp->max_connection_duration);
	o->idle_timeout = build_duration(a, idle);
	if (http->max_requests_per_connection > 0)
		o->max_requests_per_connection = build_u32(a, (uint32_t)http->max_requests_per_connection);
	return o;
}

/* Of clusters whose hosts have names of their own, and where the rule names no server. */
static Core__UpstreamHttpProtocolOptions *names_by_host(
	struct arena *a, const Cds__Cluster *c, const struct traffic_policy *p)
{
	struct tls_by_host by_host = p ? p->by_host : (struct tls_by_host){0};
	Core__UpstreamHttpProtocolOptions *o;

	if (cluster_is_by_name(c))
		by_host = (struct tls_by_host){true, !(p && p->tls && bool_or(p->tls->insecure_skip_verify, false))};
	if (!by_host.sni && !by_host.san)
		return NULL;
	o = PB_NEW(a, Core__UpstreamHttpProtocolOptions, core__upstream_http_protocol_options);
	o->auto_sni = by_host.sni;
	o->auto_san_validation = by_host.san;
	return o;
}

static Core__Http2ProtocolOptions *http2_options(struct arena *a, const Cfg__ConnectionPoolSettings *pool)
{
	const Cfg__ConnectionPoolSettings__HTTPSettings *http = pool ? pool->http : NULL;
	Core__Http2ProtocolOptions *o = PB_NEW(a, Core__Http2ProtocolOptions, core__http2_protocol_options);

	if (http && http->max_concurrent_streams > 0)
		o->max_concurrent_streams = build_u32(a, (uint32_t)http->max_concurrent_streams);
	if (http && http->http2_keep_alive) {
		o->connection_keepalive = PB_NEW(a, Core__KeepaliveSettings, core__keepalive_settings);
		o->connection_keepalive->interval = build_duration(a, http->http2_keep_alive->interval);
		o->connection_keepalive->timeout = build_duration(a, http->http2_keep_alive->timeout);
	}
	return o;
}

void cluster_http_options(
	struct view *v, struct arena *a, Cds__Cluster *c, enum upstream_http http, const struct traffic_policy *p)
{
	const Cfg__ConnectionPoolSettings *pool = p ? p->pool : NULL;
	Core__HttpProtocolOptions *common = common_http(a, pool);
	Core__UpstreamHttpProtocolOptions *names = names_by_host(a, c, p);
	Cds__Cluster__TypedExtensionProtocolOptionsEntry *e;
	Uhttp__HttpProtocolOptions *o;

	Uhttp__HttpProtocolOptions__OutlierDetection *errors = error_codes(a, p ? p->outlier : NULL);
	Core__Http1ProtocolOptions *http1 = http1_settings(v, a);

	if (http == UPSTREAM_DEFAULT && !common && !names && !errors && !http1->header_key_format)
		return;
	o = PB_NEW(a, Uhttp__HttpProtocolOptions, uhttp__http_protocol_options);
	o->common_http_protocol_options = common;
	o->outlier_detection = errors;
	o->upstream_http_protocol_options = names;
	if (http == UPSTREAM_AS_DOWNSTREAM) {
		o->use_downstream_protocol_config = PB_NEW(a, Uhttp__HttpProtocolOptions__UseDownstreamHttpConfig,
			uhttp__http_protocol_options__use_downstream_http_config);
		o->use_downstream_protocol_config->http_protocol_options = http1;
		o->use_downstream_protocol_config->http2_protocol_options = http2_options(a, pool);
		o->upstream_protocol_options_case =
			UHTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG;
	} else {
		Uhttp__HttpProtocolOptions__ExplicitHttpConfig *x = PB_NEW(a,
			Uhttp__HttpProtocolOptions__ExplicitHttpConfig,
			uhttp__http_protocol_options__explicit_http_config);

		if (http == UPSTREAM_HTTP2) {
			x->http2_protocol_options = http2_options(a, pool);
			x->protocol_config_case =
				UHTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS;
		} else {
			x->http_protocol_options = http1;
			x->protocol_config_case =
				UHTTP__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS;
		}
		o->explicit_http_config = x;
		o->upstream_protocol_options_case =
			UHTTP__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG;
	}
	e = PB_NEW(a, Cds__Cluster__TypedExtensionProtocolOptionsEntry,
		cds__cluster__typed_extension_protocol_options_entry);
	e->key = arena_strdup(a, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
	e->value = pb_any(a, o);
	pb_add(a, c, typed_extension_protocol_options, e);
}
