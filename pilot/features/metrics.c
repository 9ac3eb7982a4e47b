/*
 * DOC: Istio's standard metrics on stock Envoy: stats access loggers with tags. The local workload comes from the environment; the
 * peer, for a client, from the chosen endpoint's and cluster's metadata, for a server from the filter state that
 * peer_metadata saved; principals from the certificates. Envoy prefixes the names with envoy_istio_, which the agent removes.
 * Byte counters are cumulative within a connection, so everything but "opened" is counted at its end.
 */
#include "pilot/features/peer_metadata.h"
#include "pilot/translate/feature.h"
#include "xds/access_log_stats.pb-c.h"

static const char logger[] = "envoy.access_loggers.stats";

struct tags {
	AlStats__Config__Tag *items[32];
	size_t n;
};

static void tag(struct arena *a, struct tags *t, const char *name, const char *format)
{
	AlStats__Config__Tag *x = PB_NEW(a, AlStats__Config__Tag, al_stats__config__tag);

	assert(t->n < ARRAY_LEN(t->items));
	x->name = arena_strdup(a, name);
	x->value_format = arena_strdup(a, format);
	t->items[t->n++] = x;
}

/* The star in the format stands for the attribute; a format without one is a constant. */
static void workload_tags(
	struct arena *a, struct tags *t, const char *side, const char *format, bool by_environment, bool by_metadata)
{
	for (size_t i = 0; i < PEER_ATTRIBUTE_COUNT; i++) {
		const struct peer_attribute *p = &peer_attributes[i];
		const char *what = by_environment ? p->environment : by_metadata ? p->metadata : p->name;
		struct str head, tail;
		bool filled = str_cut(str_of(format), '*', &head, &tail);

		tag(a, t, arena_printf(a, "%s_%s", side, p->label),
			filled ? arena_printf(a, STR_FMT "%s" STR_FMT, STR_ARG(head), what, STR_ARG(tail)) : format);
	}
}

static void client_tags(struct arena *a, struct tags *t)
{
	tag(a, t, "reporter", "source");
	workload_tags(a, t, "source", "%ENVIRONMENT(*)%", true, false);
	tag(a, t, "source_principal", "%UPSTREAM_LOCAL_URI_SAN%");
	workload_tags(a, t, "destination", "%METADATA(UPSTREAM_HOST:fairlead:*)%", false, true);
	tag(a, t, "destination_principal", "%UPSTREAM_PEER_URI_SAN%");
	tag(a, t, "destination_service", "%METADATA(CLUSTER:fairlead:host)%");
	tag(a, t, "destination_service_name", "%METADATA(CLUSTER:fairlead:name)%");
	tag(a, t, "destination_service_namespace", "%METADATA(CLUSTER:fairlead:namespace)%");
	tag(a, t, "connection_security_policy", "unknown");
}

static void server_tags(const struct chain *c, struct tags *t, bool http)
{
	struct arena *a = c->a;

	tag(a, t, "reporter", "destination");
	workload_tags(
		a, t, "source", c->mutual && http ? "%FILTER_STATE(fairlead.peer.*:PLAIN)%" : "unknown", false, false);
	tag(a, t, "source_principal", c->mutual ? "%DOWNSTREAM_PEER_URI_SAN%" : "unknown");
	workload_tags(a, t, "destination", "%ENVIRONMENT(*)%", true, false);
	tag(a, t, "destination_principal", c->mutual ? "%DOWNSTREAM_LOCAL_URI_SAN%" : "unknown");
	tag(a, t, "destination_service", c->service ? c->service->hostname : "unknown");
	tag(a, t, "destination_service_name", c->service ? c->service->name : "InboundPassthroughCluster");
	tag(a, t, "destination_service_namespace", c->service ? c->service->namespace_ : "unknown");
	tag(a, t, "connection_security_policy", c->mutual ? "mutual_tls" : "none");
}

static void all_tags(const struct chain *c, struct tags *t, bool http)
{
	if (c->direction == DIRECTION_INBOUND)
		server_tags(c, t, http);
	else
		client_tags(c->a, t);
	tag(c->a, t, "request_protocol", http ? "http" : "tcp");
	tag(c->a, t, "response_flags", "%RESPONSE_FLAGS%");
	if (http) {
		tag(c->a, t, "response_code", "%RESPONSE_CODE%");
		tag(c->a, t, "grpc_response_status", "%GRPC_STATUS_NUMBER%");
	}
}

static AlStats__Config__Stat *stat_of(struct arena *a, const char *name, const struct tags *t)
{
	AlStats__Config__Stat *s = PB_NEW(a, AlStats__Config__Stat, al_stats__config__stat);

	s->name = arena_strdup(a, name);
	for (size_t i = 0; i < t->n; i++)
		pb_add(a, s, tags, t->items[i]);
	return s;
}

static void counter(
	struct arena *a, AlStats__Config *config, const char *name, const char *format, const struct tags *t)
{
	AlStats__Config__Counter *c = PB_NEW(a, AlStats__Config__Counter, al_stats__config__counter);

	c->stat = stat_of(a, name, t);
	if (format)
		c->value_format = arena_strdup(a, format);
	else
		c->value_fixed = build_u64(a, 1);
	pb_add(a, config, counters, c);
}

static void histogram(struct arena *a, AlStats__Config *config, const char *name, AlStats__Config__Histogram__Unit unit,
	const char *format, const struct tags *t)
{
	AlStats__Config__Histogram *h = PB_NEW(a, AlStats__Config__Histogram, al_stats__config__histogram);

	h->stat = stat_of(a, name, t);
	h->unit = unit;
	h->value_format = arena_strdup(a, format);
	pb_add(a, config, histograms, h);
}

static AlStats__Config *new_config(struct arena *a)
{
	AlStats__Config *config = PB_NEW(a, AlStats__Config, al_stats__config);

	config->stats_scope = PB_NEW(a, Type__Scope, type__scope);
	config->stats_scope->prefix = arena_strdup(a, "istio");
	return config;
}

static void metrics_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	AlStats__Config *config;
	struct tags t = {0};

	if (!view_has_extension(c->v, logger))
		return;
	all_tags(c, &t, true);
	config = new_config(c->a);
	counter(c->a, config, "requests_total", NULL, &t);
	histogram(c->a, config, "request_duration_milliseconds", AL_STATS__CONFIG__HISTOGRAM__UNIT__Milliseconds,
		"%DURATION%", &t);
	histogram(c->a, config, "request_bytes", AL_STATS__CONFIG__HISTOGRAM__UNIT__Bytes, "%BYTES_RECEIVED%", &t);
	histogram(c->a, config, "response_bytes", AL_STATS__CONFIG__HISTOGRAM__UNIT__Bytes, "%BYTES_SENT%", &t);
	pb_add(c->a, hcm, access_log, build_access_log(c->a, logger, config));
}

static void metrics_tcp(const struct chain *c, Tcp__TcpProxy *tcp)
{
	AlStats__Config *opened, *closed;
	Al__AccessLog *log;
	struct tags t = {0};

	if (!view_has_extension(c->v, logger))
		return;
	all_tags(c, &t, false);
	opened = new_config(c->a);
	counter(c->a, opened, "tcp_connections_opened_total", NULL, &t);
	log = build_access_log(c->a, logger, opened);
	access_log_only(c->a, log, AL_DATA__ACCESS_LOG_TYPE__TcpUpstreamConnected);
	pb_add(c->a, tcp, access_log, log);
	closed = new_config(c->a);
	counter(c->a, closed, "tcp_connections_closed_total", NULL, &t);
	counter(c->a, closed, "tcp_sent_bytes_total", "%BYTES_SENT%", &t);
	counter(c->a, closed, "tcp_received_bytes_total", "%BYTES_RECEIVED%", &t);
	log = build_access_log(c->a, logger, closed);
	access_log_only(c->a, log, AL_DATA__ACCESS_LOG_TYPE__TcpConnectionEnd);
	pb_add(c->a, tcp, access_log, log);
	tcp->access_log_options = PB_NEW(
		c->a, Tcp__TcpProxy__TcpAccessLogOptions, tcp__tcp_proxy__tcp_access_log_options);
	tcp->access_log_options->flush_access_log_on_connected = true;
}

const struct feature metrics_feature = {.name = "metrics", .on_hcm = metrics_hcm, .on_tcp = metrics_tcp};
