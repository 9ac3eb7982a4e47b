/*
 * Features: one file each in pilot/features, a row each in pilot/features/features.def. The place in the table is the order of
 * HTTP filters and of access loggers. A feature may act on the HTTP connection manager, on the TCP proxy, and on each route made
 * from a rule; it reads the model through the view only.
 */
#pragma once

#include "pilot/translate/build.h"
#include "xds/accesslog.pb-c.h"
#include "xds/hcm.pb-c.h"
#include "xds/listener.pb-c.h"
#include "xds/route.pb-c.h"
#include "xds/tcp_proxy.pb-c.h"

enum direction { DIRECTION_OUTBOUND, DIRECTION_INBOUND, DIRECTION_GATEWAY };

/* What a filter chain is for. */
struct chain {
	struct view *v;
	struct arena *a;
	enum direction direction;
	bool mutual; /* inbound: the peer is authenticated by mutual TLS */
	bool sniffed; /* outbound: HTTP was found by looking at a port of unknown protocol */
	const Fl__Service *service; /* inbound: whom the chain serves, NULL: passed through */
};

struct route_context {
	struct view *v;
	struct arena *a;
	const struct entry *source; /* the VirtualService; NULL: the route that a service has without one */
	const Cfg__HTTPRoute *rule; /* NULL as source */
	const Cfg__HTTPMatchRequest *match; /* NULL: everything */
	uint32_t port; /* that the client dialled: destinations without a port mean it */
	bool tls; /* clients speak HTTPS */
	Rds__Route *route;
	Rds__RouteAction *action; /* NULL: the route answers itself */
};

struct feature {
	const char *name;
	void (*on_hcm)(const struct chain *c, Hcm__HttpConnectionManager *hcm);
	void (*on_tcp)(const struct chain *c, Tcp__TcpProxy *tcp);
	void (*on_listener)(struct view *v, struct arena *a, Lds__Listener *l); /* complete but for this */
	void (*on_route)(const struct route_context *r);
	/* Of clients; `outside`: the host is not part of the mesh. */
	void (*on_virtual_host)(struct view *v, struct arena *a, Rds__VirtualHost *vh, bool outside);
	void (*on_route_configuration)(struct view *v, struct arena *a, Rds__RouteConfiguration *rc);
};
extern const struct feature *const features[];
extern const size_t feature_count;

void hcm_add_filter(struct arena *a, Hcm__HttpConnectionManager *hcm, const char *name, const void *config);
Al__AccessLog *build_access_log(struct arena *a, const char *name, const void *config);
/* Only log entries of one moment. */
void access_log_only(struct arena *a, Al__AccessLog *log, AlData__AccessLogType type);
/* Only connections that no filter chain took. */
void access_log_unmatched(struct arena *a, Al__AccessLog *log);
void route_add_filter_config(struct arena *a, Rds__Route *route, const char *filter, const void *config);

/* ---- chains */
Lds__Filter *build_http(
	const struct chain *c, const char *stat_prefix, Rds__RouteConfiguration *inline_routes, const char *rds_name);
struct weighted {
	const char *cluster;
	uint32_t weight;
};
Lds__Filter *build_tcp(const struct chain *c, const char *stat_prefix, const struct weighted *to, size_t n);
Lds__Filter *build_tcp_to(const struct chain *c, const char *cluster);

/* ---- routes */
/* The cluster of a destination, seen from a client that dialled `port`. */
char *destination_cluster(struct view *v, struct arena *a, const Cfg__Destination *d, uint32_t port);
Rds__Route *route_default(struct view *v, struct arena *a, const char *cluster, const char *operation);
/* Where requests come in. */
struct entrance {
	const char *gateway; /* "mesh" for sidecars */
	uint32_t port; /* that clients dial */
	bool tls; /* they speak HTTPS */
};
/* All routes of a VirtualService; none is added when no rule is for this entrance or this caller. */
void routes_from(
	struct view *v, struct arena *a, const struct entry *vs, const struct entrance *at, Rds__VirtualHost *out);
/* gateways, port, sourceLabels and sourceNamespace of a match: what is decided here and not by Envoy. */
bool match_applies(const struct view *v, char *const *gateways, size_t n_gateways, const char *gateway,
	uint32_t want_port, uint32_t port, struct label_set source_labels, const char *source_namespace);
