/*
 * DOC: Network filters: the HTTP connection manager and the TCP proxy, with their settings (connection_manager.c) and the features' hooks. Everything
 * that proxies of a namespace share must not differ between them, so what describes the local workload comes from the proxy's
 * environment (%ENVIRONMENT(...)%), never from here.
 */
#include "pilot/translate/connection_manager.h"

void hcm_add_filter(struct arena *a, Hcm__HttpConnectionManager *hcm, const char *name, const void *config)
{
	Hcm__HttpFilter *f = PB_NEW(a, Hcm__HttpFilter, hcm__http_filter);

	f->name = arena_strdup(a, name);
	f->typed_config = pb_any(a, config);
	f->config_type_case = HCM__HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG;
	pb_add(a, hcm, http_filters, f);
}

Al__AccessLog *build_access_log(struct arena *a, const char *name, const void *config)
{
	Al__AccessLog *l = PB_NEW(a, Al__AccessLog, al__access_log);

	l->name = arena_strdup(a, name);
	l->typed_config = pb_any(a, config);
	l->config_type_case = AL__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG;
	return l;
}

void access_log_only(struct arena *a, Al__AccessLog *log, AlData__AccessLogType type)
{
	Al__AccessLogFilter *f = PB_NEW(a, Al__AccessLogFilter, al__access_log_filter);

	f->log_type_filter = PB_NEW(a, Al__LogTypeFilter, al__log_type_filter);
	pb_add(a, f->log_type_filter, types, type);
	f->filter_specifier_case = AL__ACCESS_LOG_FILTER__FILTER_SPECIFIER_LOG_TYPE_FILTER;
	log->filter = f;
}

void access_log_unmatched(struct arena *a, Al__AccessLog *log)
{
	Al__AccessLogFilter *f = PB_NEW(a, Al__AccessLogFilter, al__access_log_filter);

	f->response_flag_filter = PB_NEW(a, Al__ResponseFlagFilter, al__response_flag_filter);
	pb_add(a, f->response_flag_filter, flags, arena_strdup(a, "NR"));
	f->filter_specifier_case = AL__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RESPONSE_FLAG_FILTER;
	log->filter = f;
}

static Lds__Filter *network_filter(struct arena *a, const char *name, const void *config)
{
	Lds__Filter *f = PB_NEW(a, Lds__Filter, lds__filter);

	f->name = arena_strdup(a, name);
	f->typed_config = pb_any(a, config);
	f->config_type_case = LDS__FILTER__CONFIG_TYPE_TYPED_CONFIG;
	return f;
}

static void set_routes(const struct chain *c, Hcm__HttpConnectionManager *hcm, Rds__RouteConfiguration *inline_routes,
	const char *rds_name)
{
	if (inline_routes) {
		hcm->route_config = inline_routes;
		hcm->route_specifier_case = HCM__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG;
		return;
	}
	hcm->rds = PB_NEW(c->a, Hcm__Rds, hcm__rds);
	hcm->rds->config_source = build_ads_source(c->a);
	hcm->rds->route_config_name = arena_strdup(c->a, rds_name);
	hcm->route_specifier_case = HCM__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS;
}

Lds__Filter *build_http(
	const struct chain *c, const char *stat_prefix, Rds__RouteConfiguration *inline_routes, const char *rds_name)
{
	Hcm__HttpConnectionManager *hcm = PB_NEW(c->a, Hcm__HttpConnectionManager, hcm__http_connection_manager);

	hcm->stat_prefix = arena_strdup(c->a, stat_prefix);
	connection_manager_settings(c, hcm);
	set_routes(c, hcm, inline_routes, rds_name);
	for (size_t i = 0; i < feature_count; i++)
		if (features[i]->on_hcm)
			features[i]->on_hcm(c, hcm);
	hcm_add_filter(c->a, hcm, "envoy.filters.http.router", router_settings(c->v, c->a));
	return network_filter(c->a, "envoy.filters.network.http_connection_manager", hcm);
}

Lds__Filter *build_tcp(const struct chain *c, const char *stat_prefix, const struct weighted *to, size_t n)
{
	Tcp__TcpProxy *tcp = PB_NEW(c->a, Tcp__TcpProxy, tcp__tcp_proxy);

	tcp->stat_prefix = arena_strdup(c->a, stat_prefix);
	if (n == 1) {
		tcp->cluster = arena_strdup(c->a, to[0].cluster);
		tcp->cluster_specifier_case = TCP__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER;
	} else {
		tcp->weighted_clusters = PB_NEW(c->a, Tcp__TcpProxy__WeightedCluster, tcp__tcp_proxy__weighted_cluster);
		tcp->cluster_specifier_case = TCP__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
	}
	for (size_t i = 0; n > 1 && i < n; i++) {
		Tcp__TcpProxy__WeightedCluster__ClusterWeight *w = PB_NEW(c->a,
			Tcp__TcpProxy__WeightedCluster__ClusterWeight,
			tcp__tcp_proxy__weighted_cluster__cluster_weight);

		w->name = arena_strdup(c->a, to[i].cluster);
		w->weight = to[i].weight;
		pb_add(c->a, tcp->weighted_clusters, clusters, w);
	}
	for (size_t i = 0; i < feature_count; i++)
		if (features[i]->on_tcp)
			features[i]->on_tcp(c, tcp);
	return network_filter(c->a, "envoy.filters.network.tcp_proxy", tcp);
}

Lds__Filter *build_tcp_to(const struct chain *c, const char *cluster)
{
	struct weighted w = {cluster, 1};

	return build_tcp(c, cluster, &w, 1);
}
