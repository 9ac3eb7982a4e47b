/* DOC: The walk from a connection to endpoints, and the words in which it is told. */
#include "tests/sim/sim.h"

#include <stdio.h>

#include <stdlib.h>

#include "tests/sim/sim_int.h"

const char *text(json_t *o, const char *key, const char *fallback)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : fallback;
}

json_t *named(json_t *list, const char *key, const char *name)
{
	json_t *x;
	size_t i;

	json_array_foreach(list, i, x) if (streq(text(x, key, ""), name)) return x;
	return NULL;
}

static void read_request(json_t *q, struct request *r, char ip[64])
{
	const char *dst = text(q, "dst", "0.0.0.0:80"), *colon = strrchr(dst, ':');
	json_t *http = json_object_get(q, "http");
	uint32_t port = 0;

	if (!colon || !str_u32(str_of(colon + 1), 65535, &port))
		port = 0;
	int brackets = *dst == '['; /* "[::1]:80" */
	(void)snprintf(ip, 64, "%.*s", (colon ? (int)(colon - dst) : (int)strlen(dst)) - 2 * brackets, dst + brackets);
	*r = (struct request){.inbound = json_is_true(json_object_get(q, "inbound")),
		.tls = json_is_true(json_object_get(q, "tls")),
		.http = !http || json_is_true(http),
		.ip = ip,
		.port = port,
		.sni = text(q, "sni", ""),
		.method = text(q, "method", "GET"),
		.authority = text(q, "authority", dst),
		.path = text(q, "path", "/"),
		.scheme = text(q, "scheme", "http"),
		.alpn = json_object_get(q, "alpn"),
		.headers = json_object_get(q, "headers"),
		.claims = json_object_get(q, "claims")};
}

/* The listener of the original destination, else the one of its port, else the catch-all. */
static json_t *find_listener(json_t *resources, const struct request *r)
{
	json_t *list = json_object_get(resources, "lds"), *found;
	char name[96];

	if (r->inbound)
		return named(list, "name", "virtualInbound");
	/* A Unix socket is a listener's name itself. */
	if (strstr(r->ip, "unix://") && (found = named(list, "name", r->ip)))
		return found;
	(void)snprintf(name, sizeof(name), "%s_%u", r->ip, r->port);
	if ((found = named(list, "name", name)))
		return found;
	(void)snprintf(name, sizeof(name), "0.0.0.0_%u", r->port);
	if ((found = named(list, "name", name)))
		return found;
	return named(list, "name", "virtualOutbound");
}

static void tell(json_t *out, const char *key, const char *value)
{
	json_object_set_new(out, key, json_string(value));
}

/* "ip:port/istio" or "ip:port/plain", as the transport socket match decides. */
static void tell_endpoints(json_t *resources, json_t *out, json_t *cluster)
{
	json_t *cla = named(json_object_get(resources, "eds"), "clusterName", text(cluster, "name", "")), *group, *e;
	json_t *list = json_object_get(out, "endpoints");
	bool matches = json_array_size(json_object_get(cluster, "transportSocketMatches")) > 0;
	size_t i, j;
	char line[160];

	if (!cla)
		cla = json_object_get(cluster, "loadAssignment");
	json_array_foreach(json_object_get(cla, "endpoints"), i, group)
		json_array_foreach(json_object_get(group, "lbEndpoints"), j, e)
	{
		json_t *md = json_object_get(json_object_get(json_object_get(e, "metadata"), "filterMetadata"),
			"envoy.transport_socket_match");
		json_t *a = json_object_get(
			json_object_get(json_object_get(json_object_get(e, "endpoint"), "address"), "socketAddress"),
			"address");
		json_t *p = json_object_get(
			json_object_get(json_object_get(json_object_get(e, "endpoint"), "address"), "socketAddress"),
			"portValue");
		const char *mode = matches                                       ? (md ? "istio" : "plain")
				   : json_object_get(cluster, "transportSocket") ? "tls"
										 : "plain";

		(void)snprintf(line, sizeof(line), "%s:%d/%s", json_string_value(a), (int)json_integer_value(p), mode);
		json_array_append_new(list, json_string(line));
	}
}

static void tell_cluster(json_t *resources, json_t *out, const char *name, json_int_t weight)
{
	json_t *cluster = named(json_object_get(resources, "cds"), "name", name);

	json_object_set_new(json_object_get(out, "clusters"), name, json_integer(weight));
	if (!cluster)
		tell(out, "missing", name);
	else
		tell_endpoints(resources, out, cluster);
}

static void tell_clusters(json_t *resources, json_t *out, json_t *action)
{
	json_t *x, *list = json_object_get(json_object_get(action, "weightedClusters"), "clusters");
	const char *single = json_string_value(json_object_get(action, "cluster"));
	size_t i;

	json_object_set_new(out, "clusters", json_object());
	json_object_set_new(out, "endpoints", json_array());
	if (single)
		tell_cluster(resources, out, single, 100);
	json_array_foreach(list, i, x)
		tell_cluster(resources, out, text(x, "name", ""), json_integer_value(json_object_get(x, "weight")));
}

/* What rewrites leave of path and authority; regular expressions are not replayed. */
static void tell_upstream(json_t *out, json_t *route, json_t *action, const struct request *r)
{
	const char *prefix = text(json_object_get(route, "match"), "prefix", NULL);
	const char *rewrite = text(action, "prefixRewrite", NULL);
	struct str path = str_of(r->path), query = {0};
	char line[1024];

	if (rewrite && prefix)
		(void)snprintf(line, sizeof(line), "%s%s", rewrite, r->path + strlen(prefix));
	else if (rewrite && str_cut(path, '?', &path, &query))
		(void)snprintf(line, sizeof(line), "%s?%.*s", rewrite, STR_ARG(query));
	else
		(void)snprintf(line, sizeof(line), "%s", rewrite ? rewrite : r->path);
	json_object_set_new(out, "upstream",
		json_pack("{s:s, s:s}", "path", line, "authority", text(action, "hostRewriteLiteral", r->authority)));
}

/* "host.", "host.:80" */
static const char *without_dot(const char *authority, char out[256])
{
	struct str s = str_of(authority), host = s, port = {0};

	if (!str_cut(s, ':', &host, &port) || memchr(port.ptr, ':', port.len))
		host = s;
	if (!str_ends(host, STR(".")))
		return authority;
	(void)snprintf(out, 256, "%.*s%s", (int)host.len - 1, host.ptr, authority + host.len);
	return out;
}

static void walk_http(json_t *resources, json_t *out, json_t *hcm, struct request *r)
{
	char authority[256];
	const char *rds = text(json_object_get(hcm, "rds"), "routeConfigName", NULL);
	json_t *routes = rds ? named(json_object_get(resources, "rds"), "name", rds)
			     : json_object_get(hcm, "routeConfig");
	json_t *host, *route, *x;

	if (json_is_true(json_object_get(hcm, "stripTrailingHostDot")))
		r->authority = without_dot(r->authority, authority);
	host = sim_virtual_host(routes, r);
	route = sim_route(host, r);
	tell(out, "result", "http");
	tell(out, "routes", rds ? rds : text(routes, "name", ""));
	tell(out, "host", text(host, "name", ""));
	if (!route) {
		json_object_set_new(out, "status", json_integer(404));
		return;
	}
	tell(out, "route", text(route, "name", ""));
	if ((x = json_object_get(route, "directResponse")))
		json_object_set(out, "status", json_object_get(x, "status"));
	if ((x = json_object_get(route, "redirect")))
		json_object_set(out, "redirect", x);
	if ((x = json_object_get(route, "route"))) {
		json_object_set(out, "action", x);
		tell_clusters(resources, out, x);
		tell_upstream(out, route, x, r);
	}
	json_object_set(out, "rule", route);
}

json_t *sim_walk(json_t *resources, json_t *request)
{
	json_t *out = json_object(), *listener, *chain, *filters, *config;
	struct request r;
	char ip[64];

	read_request(request, &r, ip);
	listener = find_listener(resources, &r);
	tell(out, "listener", text(listener, "name", ""));
	chain = listener ? sim_chain(listener, &r) : NULL;
	if (!chain) {
		tell(out, "result", "closed");
		return out;
	}
	tell(out, "chain", text(chain, "name", ""));
	json_object_set_new(out, "mtls", json_boolean(json_object_get(chain, "transportSocket") != NULL));
	filters = json_object_get(chain, "filters");
	config = json_object_get(json_array_get(filters, json_array_size(filters) - 1), "typedConfig");
	if (strstr(text(config, "@type", ""), "HttpConnectionManager")) {
		walk_http(resources, out, config, &r);
		return out;
	}
	tell(out, "result", "tcp");
	tell_clusters(resources, out, config);
	return out;
}
