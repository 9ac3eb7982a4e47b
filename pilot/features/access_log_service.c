/*
 * DOC: enableEnvoyAccessLogService: log entries go to the gRPC service that the proxy's ProxyConfig names (envoyAccessLogService). Its agent
 * made a cluster of it in the bootstrap; a proxy without one drops its entries. Names of logs are Istio's, by which receivers tell them
 * apart. What else is known of the peer goes along: Istio's keys, which its own build of Envoy fills, and ours.
 */
#include "pilot/features/peer_metadata.h"
#include "pilot/translate/feature.h"
#include "xds/access_log_grpc.pb-c.h"

#define CLUSTER "envoy_accesslog_service"
#define HTTP_LOGGER "envoy.access_loggers.http_grpc"
#define TCP_LOGGER "envoy.access_loggers.tcp_grpc"

static const char *const peer_states[] = {"upstream_peer", "downstream_peer", "wasm.upstream_peer",
	"wasm.upstream_peer_id", "wasm.downstream_peer", "wasm.downstream_peer_id"};

static AlGrpc__CommonGrpcAccessLogConfig *common_config(struct arena *a, const char *log_name)
{
	AlGrpc__CommonGrpcAccessLogConfig *c = PB_NEW(
		a, AlGrpc__CommonGrpcAccessLogConfig, al_grpc__common_grpc_access_log_config);

	c->log_name = arena_strdup(a, log_name);
	c->grpc_service = build_grpc_service(a, CLUSTER);
	c->transport_api_version = CORE__API_VERSION__V3;
	for (size_t i = 0; i < ARRAY_LEN(peer_states); i++)
		pb_add(a, c, filter_state_objects_to_log, arena_strdup(a, peer_states[i]));
	for (size_t i = 0; i < PEER_ATTRIBUTE_COUNT; i++)
		pb_add(a, c, filter_state_objects_to_log, arena_printf(a, PEER_STATE "%s", peer_attributes[i].name));
	return c;
}

static Al__AccessLog *tcp_log(struct arena *a, const char *log_name)
{
	AlGrpc__TcpGrpcAccessLogConfig *c = PB_NEW(
		a, AlGrpc__TcpGrpcAccessLogConfig, al_grpc__tcp_grpc_access_log_config);

	c->common_config = common_config(a, log_name);
	return build_access_log(a, TCP_LOGGER, c);
}

static bool enabled(struct view *v, const char *logger)
{
	return view_mesh(v)->enable_envoy_access_log_service && view_has_extension(v, logger);
}

static void access_log_service_hcm(const struct chain *c, Hcm__HttpConnectionManager *hcm)
{
	AlGrpc__HttpGrpcAccessLogConfig *config;

	if (!enabled(c->v, HTTP_LOGGER))
		return;
	config = PB_NEW(c->a, AlGrpc__HttpGrpcAccessLogConfig, al_grpc__http_grpc_access_log_config);
	config->common_config = common_config(c->a, "http_envoy_accesslog");
	pb_add(c->a, hcm, access_log, build_access_log(c->a, HTTP_LOGGER, config));
}

/* One entry for a connection, at its end, as for the log in a file. */
static void access_log_service_tcp(const struct chain *c, Tcp__TcpProxy *tcp)
{
	Al__AccessLog *log;

	if (!enabled(c->v, TCP_LOGGER))
		return;
	log = tcp_log(c->a, "tcp_envoy_accesslog");
	access_log_only(c->a, log, AL_DATA__ACCESS_LOG_TYPE__TcpConnectionEnd);
	pb_add(c->a, tcp, access_log, log);
}

static void access_log_service_listener(struct view *v, struct arena *a, Lds__Listener *l)
{
	Al__AccessLog *log;

	if (!enabled(v, TCP_LOGGER) || view_mesh(v)->disable_envoy_listener_log)
		return;
	log = tcp_log(a, "listener_envoy_accesslog");
	access_log_unmatched(a, log);
	pb_add(a, l, access_log, log);
}

const struct feature access_log_service_feature = {.name = "access_log_service",
	.on_hcm = access_log_service_hcm,
	.on_tcp = access_log_service_tcp,
	.on_listener = access_log_service_listener};
