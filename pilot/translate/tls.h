/* TLS contexts of the mesh: certificates come from the agent over SDS ("default" and "ROOTCA"), or from files that a rule names. */
#pragma once

#include "pilot/translate/build.h"
#include "xds/tls.pb-c.h"

/* What a cluster speaks; decides the ALPN that a mutual TLS client offers. */
enum alpn { ALPN_TCP, ALPN_HTTP1, ALPN_HTTP2, ALPN_HTTP_ANY, ALPN_COUNT };

/* Mutual TLS to a workload of the mesh: its certificate must carry one of the SANs (none given: any of the mesh). */
Core__TransportSocket *tls_mutual_client(
	struct view *v, struct arena *a, enum alpn alpn, const char *sni, const struct str *sans, size_t n_sans);
/* By a destination rule's settings: SIMPLE or MUTUAL, with files or a Secret. What they do not say is the service's: server name, SANs. */
Core__TransportSocket *tls_client(
	struct view *v, struct arena *a, const Cfg__ClientTLSSettings *s, enum alpn alpn, const Fl__Service *of);
/* What HTTP requests say themselves of the server they are for, by their Host, because the rule leaves it out. */
struct tls_by_host {
	bool sni; /* the server name that is asked for */
	bool san; /* the name that its certificate must have */
};
struct tls_by_host tls_by_host(struct view *v, const Cfg__ClientTLSSettings *s, const Fl__Service *of);
/* The server side of mutual TLS between workloads. */
Core__TransportSocket *tls_mutual_server(struct view *v, struct arena *a, bool http);
/* A server that ends TLS. Only when it is ready: a Secret that is not there would hold up all of the listener. */
bool tls_gateway_ready(struct view *v, const Cfg__ServerTLSSettings *s);
Core__TransportSocket *tls_gateway(struct view *v, struct arena *a, const Cfg__ServerTLSSettings *s);
Core__TransportSocket *tls_raw_buffer(struct arena *a);
/* "outbound_.<port>_.<subset>_.<host>", by which a gateway of another network routes. */
char *tls_sni(struct arena *a, uint32_t port, const char *subset, const char *host);
struct cluster_name;
bool tls_sni_parse(struct str sni, struct cluster_name *out);
