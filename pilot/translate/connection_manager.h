/* Settings of HTTP connection managers, listeners and clusters that come from the mesh config and the ProxyConfig. */
#pragma once

#include "pilot/translate/feature.h"
#include "xds/cluster.pb-c.h"
#include "xds/router.pb-c.h"

/* What a connection manager is apart from its routes and filters. */
void connection_manager_settings(const struct chain *c, Hcm__HttpConnectionManager *hcm);
Router__Router *router_settings(struct view *v, struct arena *a);
/* Buffers of connections; at gateways the PROXY header. For a listener that is complete. */
void listener_settings(struct view *v, struct arena *a, Lds__Listener *l);
void cluster_settings(struct view *v, struct arena *a, Cds__Cluster *c);
/* HTTP/1 with names of headers as they were written, or the defaults. */
Core__Http1ProtocolOptions *http1_settings(struct view *v, struct arena *a);
