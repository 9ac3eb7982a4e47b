/*
 * DOC: The columns are istioctl's, so that who knows those reads these. A listener has a row per filter chain, a route configuration a row per
 * route, a cluster's assignment a row per endpoint. Names of Envoy's clusters are "direction|port|subset|host".
 */
#include "cli/proxy/rows.h"

#include <stdlib.h>

#include "common/base/str.h"

#define DOMAINS_SHOWN 1

/* Adds "; " between parts. */
static void part(struct strbuf *out, const char *label)
{
	strbuf_adds(out, out->len ? "; " : "");
	strbuf_adds(out, label);
}

static void add_list(struct strbuf *out, const json_t *list, size_t most)
{
	size_t i, n = json_array_size(list);
	json_t *v;
	json_array_foreach(list, i, v)
	{
		if (i == most && n > most) {
			strbuf_addf(out, " + %zu more", n - most);
			break;
		}
		strbuf_addf(out, "%s%s", i ? "," : "", json_is_string(v) ? json_string_value(v) : "?");
	}
}

static json_t *text_of(struct strbuf *b)
{
	json_t *text = json_stringn(b->ptr ? b->ptr : "", b->len);
	strbuf_done(b);
	return text ? text : json_string("");
}

/* "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews" -> "reviews.default" */
static json_t *config_object(const json_t *resource)
{
	struct str path = str_of(dump_text(resource, "metadata.filter_metadata.istio.config")), at, name, ns = {0},
		   part_;
	if (!str_rfind(path, '/', &name.len))
		return json_null();
	name = str_from(path, name.len + 1);
	at = path;
	while (str_split(&at, '/', &part_))
		if (str_eqc(part_, "namespaces") && str_split(&at, '/', &ns))
			break;
	return ns.len ? json_sprintf(STR_FMT "." STR_FMT, STR_ARG(name), STR_ARG(ns))
		      : json_sprintf(STR_FMT, STR_ARG(name));
}

/* ---- listeners */

static void match_ranges(const json_t *match, struct strbuf *out)
{
	const json_t *ranges = dump_at(match, "prefix_ranges");
	json_int_t port = json_integer_value(dump_at(match, "destination_port"));
	size_t i;
	json_t *r;
	if (!json_array_size(ranges) && !port)
		return;
	part(out, "Addr: ");
	json_array_foreach(ranges, i, r) strbuf_addf(out, "%s%s/%lld", i ? "," : "", dump_text(r, "address_prefix"),
		(long long)json_integer_value(dump_at(r, "prefix_len")));
	if (port)
		strbuf_addf(out, "%s:%lld", json_array_size(ranges) ? "" : "*", (long long)port);
}

static json_t *match_text(const json_t *chain)
{
	const json_t *match = dump_at(chain, "filter_chain_match");
	struct strbuf out = {0};
	if (json_array_size(dump_at(match, "server_names"))) {
		part(&out, "SNI: ");
		add_list(&out, dump_at(match, "server_names"), SIZE_MAX);
	}
	if (*dump_text(match, "transport_protocol")) {
		part(&out, "Trans: ");
		strbuf_adds(&out, dump_text(match, "transport_protocol"));
	}
	if (json_array_size(dump_at(match, "application_protocols"))) {
		part(&out, "App: ");
		add_list(&out, dump_at(match, "application_protocols"), SIZE_MAX);
	}
	match_ranges(match, &out);
	if (!out.len)
		strbuf_adds(&out, "ALL");
	return text_of(&out);
}

static json_t *route_match(const json_t *route)
{
	static const struct {
		const char *path, *format;
	} kinds[] = {{"match.path", "%s"}, {"match.prefix", "%s*"}, {"match.path_separated_prefix", "%s/*"},
		{"match.safe_regex.regex", "regex %s"}, {"match.connect_matcher", "CONNECT"}};
	struct strbuf out = {0};
	for (size_t i = 0; i < ARRAY_LEN(kinds) && !out.len; i++) {
		const char *text = dump_text(route, kinds[i].path);
		struct str format = str_of(kinds[i].format), before, after;
		if (!dump_at(route, kinds[i].path))
			continue;
		if (str_cut(format, '%', &before, &after))
			strbuf_addf(&out, STR_FMT "%s" STR_FMT, STR_ARG(before), text, STR_ARG(str_from(after, 1)));
		else
			strbuf_add(&out, format);
	}
	size_t more = json_array_size(dump_at(route, "match.headers")) +
		      json_array_size(dump_at(route, "match.query_parameters"));
	if (more)
		strbuf_addf(&out, " (%zu more condition%s)", more, more == 1 ? "" : "s");
	return text_of(&out);
}

static void inline_routes(const json_t *config, struct strbuf *out)
{
	size_t i, k, n = 0;
	json_t *host, *route;
	strbuf_adds(out, "Inline Route: ");
	json_array_foreach(dump_at(config, "virtual_hosts"), i, host)
		json_array_foreach(dump_at(host, "routes"), k, route)
	{
		json_t *match = route_match(route);
		strbuf_addf(out, "%s%s", n++ ? "," : "", json_string_value(match));
		json_decref(match);
	}
}

static void weighted(const json_t *clusters, struct strbuf *out)
{
	size_t i;
	json_t *c;
	json_array_foreach(clusters, i, c) strbuf_addf(out, "%s%s=%lld", i ? "," : "", dump_text(c, "name"),
		(long long)json_integer_value(dump_at(c, "weight")));
}

/* Of the filter that ends the chain. */
static json_t *chain_destination(const json_t *chain)
{
	struct strbuf out = {0};
	size_t i;
	json_t *filter;
	json_array_foreach(dump_at(chain, "filters"), i, filter)
	{
		const json_t *c = dump_at(filter, "typed_config");
		struct str type = str_of(dump_text(c, "@type"));
		if (str_ends(type, STR(".HttpConnectionManager"))) {
			if (dump_at(c, "rds"))
				strbuf_addf(&out, "Route: %s", dump_text(c, "rds.route_config_name"));
			else
				inline_routes(dump_at(c, "route_config"), &out);
		} else if (str_ends(type, STR(".TcpProxy"))) {
			strbuf_addf(&out, "Cluster: %s", dump_text(c, "cluster"));
			weighted(dump_at(c, "weighted_clusters.clusters"), &out);
		}
	}
	if (!out.len)
		strbuf_adds(&out, "Non-HTTP/Non-TCP");
	return text_of(&out);
}

static void listener_row(json_t *rows, const json_t *listener, const json_t *chain)
{
	const json_t *socket = dump_at(listener, "address.socket_address");
	const char *pipe = dump_text(listener, "address.pipe.path");
	json_t *row = json_object();
	(void)json_object_set_new(row, "name", json_string(dump_text(listener, "name")));
	(void)json_object_set_new(row, "address",
		socket ? json_string(dump_text(socket, "address"))
		       : json_string(*pipe ? pipe : dump_text(listener, "name")));
	(void)json_object_set(row, "port", dump_at(socket, "port_value"));
	(void)json_object_set_new(row, "match", match_text(chain));
	(void)json_object_set_new(row, "destination", chain_destination(chain));
	(void)json_array_append_new(rows, row);
}

static json_t *listener_rows(const struct dump *d)
{
	json_t *rows = json_array(), *item, *chain;
	size_t i, k;
	json_array_foreach(d->parts[DUMP_LISTENERS], i, item)
	{
		const json_t *listener = dump_at(item, "resource"), *last = dump_at(listener, "default_filter_chain");
		json_array_foreach(dump_at(listener, "filter_chains"), k, chain) listener_row(rows, listener, chain);
		if (last)
			listener_row(rows, listener, last);
	}
	return rows;
}

/* ---- routes */

static json_t *route_destination(const json_t *route)
{
	struct strbuf out = {0};
	strbuf_adds(&out, dump_text(route, "route.cluster"));
	weighted(dump_at(route, "route.weighted_clusters.clusters"), &out);
	if (dump_at(route, "redirect"))
		strbuf_adds(&out, "redirect");
	if (dump_at(route, "direct_response"))
		strbuf_addf(
			&out, "status %lld", (long long)json_integer_value(dump_at(route, "direct_response.status")));
	return text_of(&out);
}

static void host_rows(json_t *rows, const json_t *config, const json_t *host)
{
	size_t i;
	json_t *route;
	struct strbuf domains = {0};
	add_list(&domains, dump_at(host, "domains"), DOMAINS_SHOWN);
	json_t *text = text_of(&domains);
	json_array_foreach(dump_at(host, "routes"), i, route)
	{
		json_t *row = json_object();
		(void)json_object_set_new(row, "name", json_string(dump_text(config, "name")));
		(void)json_object_set_new(row, "vhost", json_string(dump_text(host, "name")));
		(void)json_object_set(row, "domains", text);
		(void)json_object_set_new(row, "match", route_match(route));
		(void)json_object_set_new(row, "virtual_service", config_object(route));
		(void)json_object_set_new(row, "destination", route_destination(route));
		(void)json_array_append_new(rows, row);
	}
	json_decref(text);
}

static json_t *route_rows(const struct dump *d)
{
	json_t *rows = json_array(), *item, *host;
	size_t i, k;
	json_array_foreach(d->parts[DUMP_ROUTES], i, item)
	{
		const json_t *config = dump_at(item, "resource");
		json_array_foreach(dump_at(config, "virtual_hosts"), k, host) host_rows(rows, config, host);
	}
	return rows;
}

/* ---- clusters */

static json_t *cluster_rows(const struct dump *d)
{
	json_t *rows = json_array(), *item;
	size_t i;
	json_array_foreach(d->parts[DUMP_CLUSTERS], i, item)
	{
		static const char *const keys[] = {"direction", "port", "subset", "fqdn"};
		const json_t *cluster = dump_at(item, "resource");
		const char *name = dump_text(cluster, "name"), *type = dump_text(cluster, "type");
		struct str rest = str_of(name), part_;
		json_t *row = json_object();
		bool parts = strchr(name, '|');
		for (size_t k = 0; parts && k < ARRAY_LEN(keys) && str_split(&rest, '|', &part_); k++)
			(void)json_object_set_new(
				row, keys[k], part_.len ? json_sprintf(STR_FMT, STR_ARG(part_)) : json_null());
		if (!parts)
			(void)json_object_set_new(row, "fqdn", json_string(name));
		(void)json_object_set_new(row, "name", json_string(name));
		(void)json_object_set_new(row, "type", json_string(*type ? type : "STATIC"));
		(void)json_object_set_new(row, "destination_rule", config_object(cluster));
		(void)json_array_append_new(rows, row);
	}
	rows_sort(rows, "fqdn", "name");
	return rows;
}

/* ---- endpoints */

static json_t *address_text(const json_t *address)
{
	const json_t *socket = dump_at(address, "socket_address");
	const char *pipe = dump_text(address, "pipe.path");
	const char *internal = dump_text(address, "envoy_internal_address.server_listener_name");
	if (!socket)
		return json_string(*pipe ? pipe : internal);
	const char *ip = dump_text(socket, "address");
	return json_sprintf(strchr(ip, ':') ? "[%s]:%lld" : "%s:%lld", ip,
		(long long)json_integer_value(dump_at(socket, "port_value")));
}

static void endpoint_row(json_t *rows, json_t *address, const char *health, json_t *outlier, const char *cluster)
{
	json_t *row = json_object();
	(void)json_object_set_new(row, "endpoint", address);
	(void)json_object_set_new(row, "status", json_string(*health ? health : "HEALTHY"));
	(void)json_object_set_new(row, "outlier", outlier);
	(void)json_object_set_new(row, "cluster", json_string(cluster));
	(void)json_array_append_new(rows, row);
}

/* What Envoy says of its hosts now; it knows more than its configuration. */
static json_t *live_rows(const json_t *health)
{
	json_t *rows = json_array(), *cluster, *host;
	size_t i, k;
	json_array_foreach(dump_at(health, "cluster_statuses"), i, cluster)
		json_array_foreach(dump_at(cluster, "host_statuses"), k, host)
	{
		const json_t *h = dump_at(host, "health_status");
		bool failed = json_is_true(dump_at(h, "failed_outlier_check"));
		endpoint_row(rows, address_text(dump_at(host, "address")), dump_text(h, "eds_health_status"),
			json_string(failed ? "FAILED" : "OK"), dump_text(cluster, "name"));
	}
	rows_sort(rows, "cluster", "endpoint");
	return rows;
}

static json_t *endpoint_rows(const struct dump *d)
{
	if (d->health)
		return live_rows(d->health);
	json_t *rows = json_array(), *item, *locality, *endpoint;
	size_t i, k, n;
	json_array_foreach(d->parts[DUMP_ENDPOINTS], i, item)
		json_array_foreach(dump_at(item, "resource.endpoints"), k, locality)
			json_array_foreach(dump_at(locality, "lb_endpoints"), n, endpoint)
				endpoint_row(rows, address_text(dump_at(endpoint, "endpoint.address")),
					dump_text(endpoint, "health_status"), json_null(), json_text_at(item, "name"));
	rows_sort(rows, "cluster", "endpoint");
	return rows;
}

/* ---- the table of tables */

static const struct column listener_columns[] = {
	{"ADDRESSES", "address"}, {"PORT", "port"}, {"MATCH", "match"}, {"DESTINATION", "destination"}};
static const struct column route_columns[] = {{"NAME", "name"}, {"VHOST NAME", "vhost"}, {"DOMAINS", "domains"},
	{"MATCH", "match"}, {"VIRTUAL SERVICE", "virtual_service"}, {"DESTINATION", "destination"}};
static const struct column cluster_columns[] = {{"SERVICE FQDN", "fqdn"}, {"PORT", "port"}, {"SUBSET", "subset"},
	{"DIRECTION", "direction"}, {"TYPE", "type"}, {"DESTINATION RULE", "destination_rule"}};
static const struct column endpoint_columns[] = {
	{"ENDPOINT", "endpoint"}, {"STATUS", "status"}, {"OUTLIER CHECK", "outlier"}, {"CLUSTER", "cluster"}};
static const struct column secret_columns[] = {{"RESOURCE NAME", "name"}, {"TYPE", "type"}, {"STATUS", "status"},
	{"VALID CERT", "valid"}, {"SERIAL NUMBER", "serial"}, {"NOT AFTER", "not_after"}, {"NOT BEFORE", "not_before"},
	{"IDENTITY", "identity"}};

static const struct part_table tables[DUMP_PART_COUNT] = {
	[DUMP_LISTENERS] = {"LISTENERS", listener_columns, ARRAY_LEN(listener_columns), listener_rows},
	[DUMP_ROUTES] = {"ROUTES", route_columns, ARRAY_LEN(route_columns), route_rows},
	[DUMP_CLUSTERS] = {"CLUSTERS", cluster_columns, ARRAY_LEN(cluster_columns), cluster_rows},
	[DUMP_ENDPOINTS] = {"ENDPOINTS", endpoint_columns, ARRAY_LEN(endpoint_columns), endpoint_rows},
	[DUMP_SECRETS] = {"SECRETS", secret_columns, ARRAY_LEN(secret_columns), secret_rows},
};

const struct part_table *part_table(enum dump_part p)
{
	return p < DUMP_PART_COUNT && tables[p].rows ? &tables[p] : NULL;
}
