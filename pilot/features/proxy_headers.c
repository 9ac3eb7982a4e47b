/*
 * DOC: proxyHeaders of the ProxyConfig, as far as routes carry them: x-envoy-attempt-count, which clients send unless it is disabled, and
 * x-forwarded-host for a host that is rewritten, which nobody sends unless it is enabled. The others are the connection manager's.
 */
#include "pilot/translate/feature.h"

static void count_attempts(struct view *v, struct arena *a, Rds__VirtualHost *vh, bool outside)
{
	const Mesh__ProxyConfig__ProxyHeaders *h = view_proxy_config(v)->proxy_headers;

	vh->include_request_attempt_count = !(h && h->attempt_count && bool_or(h->attempt_count->disabled, false));
}

static void tell_the_host(const struct route_context *r)
{
	const Mesh__ProxyConfig__ProxyHeaders *h = view_proxy_config(r->v)->proxy_headers;

	if (r->action)
		r->action->append_x_forwarded_host = h && h->x_forwarded_host &&
						     bool_or(h->x_forwarded_host->enabled, false);
}

const struct feature proxy_headers_feature = {
	.name = "proxy_headers", .on_route = tell_the_host, .on_virtual_host = count_attempts};
