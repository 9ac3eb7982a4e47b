/* RDS: which route configurations exist and how virtual hosts are put together. */
#pragma once

#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"

/* A route configuration while it is made: domains must not repeat, or Envoy refuses all of it. */
struct route_table {
	struct view *v;
	struct arena *a;
	Rds__RouteConfiguration *rc;
	struct map *domains;
	const struct entry **used; /* VirtualServices of services so far that have more hosts */
	size_t n_used;
};
void route_table_init(struct route_table *t, struct view *v, struct arena *a, struct str name);
Rds__VirtualHost *route_table_host(struct route_table *t, const char *name, bool outside);
bool route_table_domain(struct route_table *t, Rds__VirtualHost *vh, const char *domain); /* false: taken */
/* Sorts the hosts by name, adds what features add; frees the table's own memory. */
Rds__RouteConfiguration *route_table_finish(struct route_table *t);

/* What clients speak on a service's port: as the Sidecar's egress listener of this port says, else as the service does. */
const char *outbound_protocol_name(struct view *v, const Fl__Port *port);
enum protocol outbound_protocol(struct view *v, const Fl__Port *port);
/* What a port of a service is reached by: the wildcard address (shared with other services) or its own addresses. */
bool port_is_wildcard_http(struct view *v, const Fl__Service *s, const Fl__Port *port);
bool port_is_sniffed_vip(struct view *v, const Fl__Service *s, const Fl__Port *port);

/* The virtual host of a service, of a VirtualService's host that is no service: into the table, if it has domains. */
void route_table_service(struct route_table *t, const Fl__Service *s, uint32_t port);
bool route_table_orphan(struct route_table *t, const char *host, uint32_t port);

/* For HTTP on a port that nobody knows: all of it goes where unknown hosts go. */
Rds__RouteConfiguration *routes_unknown(struct view *v, struct arena *a, const char *name);

Rds__RouteConfiguration *routes_gateway(struct view *v, struct str name, struct arena *a);
void gateway_route_names(struct view *v, struct arena *a, struct name_list *l);
