/*
 * What would Envoy do? Walks a request through rendered resources: listener, filter chain, virtual host, route, cluster, endpoints, by
 * Envoy's documented rules. So a behaviour can be tested in microseconds, and a golden file explained by what it does.
 * Single-threaded; the resources and the request are jansson values, the caller's.
 */
#pragma once

#include <jansson.h>

/*
 * The request: {"inbound": bool, "dst": "ip:port", "tls": bool, "sni": "...", "alpn": [..], "http": bool (default true),
 * "method", "authority", "path", "scheme", "headers": {..}, "claims": {..} of a verified JWT}.
 * The answer (the caller's, decref): {"listener", "chain", "result": "http" | "tcp" | "closed", "mtls": bool, "routes", "host",
 * "route", "clusters": {name: weight}, "status": 404 or a direct response's, "redirect": {..}, "endpoints": ["ip:port/istio"],
 * "upstream": {"path", "authority"} as the destination sees them, ...}.
 */
json_t *sim_walk(json_t *resources, json_t *request);
