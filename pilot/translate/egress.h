/*
 * Egress listeners of a Sidecar that have an address of their own (`bind`, a Unix socket, captureMode NONE), and the HTTP proxy port of
 * the mesh config; and the parts of outbound listeners that both kinds are made of.
 */
#pragma once

#include "pilot/translate/listeners.h"

/* false: its services are reached at their own addresses, like those of the listener without a port. l NULL: false. */
bool egress_is_bound(const struct view *v, const Cfg__IstioEgressListener *l);
/* Where services without an address of their own are reached, by the listener without a port: 0.0.0.0 when traffic is captured. */
struct str egress_wildcard(struct view *v, bool *captured);
void egress_names(struct view *v, struct arena *a, struct name_list *l);
Lds__Listener *egress_build(struct view *v, struct str name, struct arena *a); /* NULL: no such listener */

/* ---- their routes */
bool egress_serves_http(struct view *v, uint32_t port); /* a bound listener needs the port's routes, be they empty */
void egress_route_names(struct view *v, struct arena *a, struct name_list *l);
bool egress_routes_all(struct view *v, struct str name); /* routes of a Unix socket or the HTTP proxy port */
void egress_services(struct view *v, struct str name, struct service_list *out); /* of such routes */

/* ---- outbound.c */
Lds__FilterChain *http_chain(const struct chain *c, const char *listener, const char *routes);
