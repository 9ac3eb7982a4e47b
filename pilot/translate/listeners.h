/* Parts of listeners, and the translators of each side: outbound.c, inbound.c, gateway.c. */
#pragma once

#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"
#include "pilot/translate/routes.h"

Lds__Listener *listener_new(
	struct arena *a, const char *name, struct str address, uint32_t port, Core__TrafficDirection direction);
void listener_filter(struct arena *a, Lds__Listener *l, const char *name, const void *config);
void listener_inspect(struct view *v, struct arena *a, Lds__Listener *l, bool tls, bool http);
/* Filters in front of the TCP proxy that understand the protocol: MongoDB's counts operations. Other protocols: none. */
void chain_understand(struct view *v, struct arena *a, Lds__FilterChain *c, const char *protocol);
Lds__FilterChain *filter_chain(struct arena *a, const char *name, Lds__Filter *filter);
/* Fills in the chain's match; transport "" and alpn NULL: any. */
void chain_match(struct arena *a, Lds__FilterChain *c, uint32_t port, const char *transport, const char *const *alpn);
extern const char *const alpn_plain_http[]; /* what the HTTP inspector reports */
extern const char *const alpn_of_mesh[]; /* what only proxies of the mesh offer */
/* A network filter in front of the chain's last one. */
void chain_prepend(struct arena *a, Lds__FilterChain *c, const char *name, const void *config);

void outbound_names(struct view *v, struct arena *a, struct name_list *l);
Lds__Listener *outbound_build(struct view *v, struct str name, struct arena *a);
bool inbound_is_listener(struct str name);
void inbound_names(struct view *v, struct arena *a, struct name_list *l);
Lds__Listener *inbound_build(struct view *v, struct str name, struct arena *a);
void gateway_names(struct view *v, struct arena *a, struct name_list *l);
bool gateway_has_auto_passthrough(struct view *v);
Lds__Listener *gateway_build(struct view *v, struct str name, struct arena *a);

/* A chain whose destination is a host by name (DYNAMIC_DNS) looks up the server name first. */
void route_look_up(
	const struct chain *c, Lds__FilterChain *chain, Cfg__RouteDestination *const *routes, size_t n, uint32_t port);
/* Weighted destinations of a TCP or TLS route. */
Lds__Filter *route_to(const struct chain *c, Cfg__RouteDestination *const *routes, size_t n, uint32_t port);
