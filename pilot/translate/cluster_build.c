/* DOC: Parts of clusters that outbound and inbound ones share: metadata that tools and metrics read, names in statistics. */
#include "pilot/translate/cluster_build.h"

Cds__Cluster *cluster_new(struct arena *a, struct str name, Cds__Cluster__DiscoveryType type)
{
	Cds__Cluster *c = PB_NEW(a, Cds__Cluster, cds__cluster);

	c->name = arena_cstr(a, name);
	c->type = type;
	c->cluster_discovery_type_case = CDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
	return c;
}

void cluster_labels(struct arena *a, Cds__Cluster *c, const char *host, const char *name, const char *ns)
{
	Wkt__Struct *s = build_struct(a);

	struct_put(a, s, "host", host);
	struct_put(a, s, "name", name);
	struct_put(a, s, "namespace", ns);
	metadata_put(a, &c->metadata, "fairlead", s);
}

Cds__Cluster *cluster_original_dst(
	struct view *v, struct str name, struct arena *a, const Cfg__ConnectionPoolSettings *pool)
{
	Cds__Cluster *c = cluster_new(a, name, CDS__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST);
	const Mesh__MeshConfig__DefaultTrafficPolicy *defaults = view_mesh(v)->default_traffic_policy;
	struct traffic_policy p = {.pool = pool ? pool : defaults ? defaults->connection_pool : NULL};

	policy_apply(a, &p, view_mesh(v), c);
	c->common_lb_config = NULL;
	cluster_http_options(v, a, c, UPSTREAM_AS_DOWNSTREAM, &p);
	return c;
}

bool upstream_speaks_http(const char *protocol)
{
	return protocol_of(protocol) == PROTOCOL_HTTP || protocol_of(protocol) == PROTOCOL_SNIFF;
}

bool pool_keeps_protocol(const Cfg__ConnectionPoolSettings *pool)
{
	return pool && pool->http && pool->http->use_client_protocol;
}

enum upstream_http upstream_http_of(const char *name, const Cfg__ConnectionPoolSettings *pool)
{
	if (pool_keeps_protocol(pool))
		return UPSTREAM_AS_DOWNSTREAM;
	if (protocol_is_http2(name))
		return UPSTREAM_HTTP2;
	return protocol_of(name) == PROTOCOL_SNIFF ? UPSTREAM_AS_DOWNSTREAM : UPSTREAM_DEFAULT;
}

void cluster_describe(
	struct arena *a, Cds__Cluster *c, const Fl__Service *s, uint32_t port, const struct rule *r, struct str subset)
{
	Wkt__Struct *istio = build_struct(a), *service = build_struct(a);
	Wkt__Value *list = PB_NEW(a, Wkt__Value, wkt__value);

	struct_put(a, service, "host", s->hostname);
	struct_put(a, service, "name", s->name);
	struct_put(a, service, "namespace", s->namespace_);
	list->list_value = PB_NEW(a, Wkt__ListValue, wkt__list_value);
	list->kind_case = WKT__VALUE__KIND_LIST_VALUE;
	pb_add(a, list->list_value, values, build_struct_value(a, service));
	if (r && r->entry)
		struct_put(a, istio, "config", config_path(a, r->entry));
	struct_put_value(a, istio, "default_original_port", build_number(a, port));
	struct_put_value(a, istio, "services", list);
	if (subset.len)
		struct_put(a, istio, "subset", arena_cstr(a, subset));
	metadata_put(a, &c->metadata, "istio", istio);
	cluster_labels(a, c, s->hostname, s->name, s->namespace_);
}

/* ---- names in statistics: Istio's variables */
struct stat_variables {
	const Fl__Service *service;
	const Fl__Port *port;
	const char *subset;
};

static void add_variable(struct strbuf *b, struct str name, const struct stat_variables *x)
{
	const Fl__Service *s = x->service;

	if (str_eqc(name, "SERVICE"))
		strbuf_addf(b, "%s.%s", s->name, s->namespace_);
	else if (str_eqc(name, "SERVICE_NAME"))
		strbuf_adds(b, s->name);
	else if (str_eqc(name, "SERVICE_FQDN"))
		strbuf_adds(b, s->hostname);
	else if (str_eqc(name, "SERVICE_PORT"))
		strbuf_addf(b, "%u", x->port->number);
	else if (str_eqc(name, "SERVICE_PORT_NAME"))
		strbuf_adds(b, x->port->name);
	else if (str_eqc(name, "TARGET_PORT"))
		strbuf_addf(b, "%u", x->port->target_port ? x->port->target_port : x->port->number);
	else if (str_eqc(name, "SUBSET_NAME"))
		strbuf_adds(b, x->subset);
	else
		strbuf_addf(b, "%%" STR_FMT "%%", STR_ARG(name));
}

void cluster_stat_name(struct arena *a, Cds__Cluster *c, const char *pattern, const Fl__Service *s,
	const Fl__Port *port, const char *subset)
{
	const struct stat_variables x = {s, port, subset};
	struct str rest = str_of(pattern), text, name;
	struct strbuf out cleanup(strbuf_done) = {0};

	if (str_empty(pattern))
		return;
	while (str_cut(rest, '%', &text, &rest)) {
		strbuf_add(&out, text);
		if (!str_cut(rest, '%', &name, &rest))
			break;
		add_variable(&out, name, &x);
	}
	strbuf_add(&out, rest);
	c->alt_stat_name = arena_cstr(a, strbuf_str(&out));
}
