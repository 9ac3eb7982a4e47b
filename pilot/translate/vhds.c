/*
 * DOC: VHDS: virtual hosts as resources of their own, for proxies that ask for it (FAIRLEAD_VHDS in the node's metadata). The host of a
 * service is the resource "<route configuration>/<host>:<port>", and its VirtualHost has the same name, because Envoy adds by the one and
 * removes by the other. A changed VirtualService then sends some hundred bytes instead of the whole RouteConfiguration; Envoy's own work
 * stays the same.
 *
 * Domains must not repeat within a RouteConfiguration. Where all hosts are made together a table sees to that; here a host asks which of
 * its domains an older service has, and leaves those out: the same hosts have the same domains either way. It asks by name and address,
 * never for all services of the port: a host must not cost more, nor be made anew, because there are others.
 */
#include "common/base/map.h"
#include "common/mesh/host.h"
#include "pilot/translate/routes.h"
#include "pilot/translate/translate.h"

extern const struct translator rds_translator;

static bool is_wildcard_http(struct view *v, const Fl__Service *s, uint32_t port)
{
	return port_is_wildcard_http(v, s, service_port(s, port));
}

/* ---- names */
static void add_hosts(
	struct view *v, struct arena *a, struct str rc, uint32_t port, const struct entry *e, struct name_list *out)
{
	const Cfg__VirtualService *vs = e->value;

	for (size_t i = 0; i < vs->n_hosts; i++)
		if (!streq(vs->hosts[i], "*") && !view_service(v, str_of(vs->hosts[i])))
			name_list_add(a, out, arena_printf(a, STR_FMT "/%s:%u", STR_ARG(rc), vs->hosts[i], port));
}

static void add_orphans(struct view *v, struct arena *a, struct str rc, uint32_t port, struct name_list *out)
{
	struct entries all;

	view_virtual_services(v, &all);
	for (size_t i = 0; i < all.n; i++)
		add_hosts(v, a, rc, port, all.items[i], out);
}

/* The one whose routes a service has on its port, NULL: none, or it has this host only. */
static const struct entry *rules_of(struct view *v, const Fl__Service *s, uint32_t port)
{
	Rds__VirtualHost *vh = PB_NEW(v->scratch, Rds__VirtualHost, rds__virtual_host);
	const struct entrance at = {"mesh", port, false};
	struct entries list;
	bool more = false;

	view_host_rules(v, str_of(s->hostname), &list);
	for (size_t i = 0; i < list.n; i++)
		more |= ((const Cfg__VirtualService *)list.items[i]->value)->n_hosts > 1;
	for (size_t i = 0; more && i < list.n; i++) {
		routes_from(v, v->scratch, list.items[i], &at, vh);
		if (vh->n_routes)
			return list.items[i];
	}
	return NULL;
}

static void add_port(struct view *v, struct arena *a, struct str rc, uint32_t port, struct name_list *out)
{
	struct service_list list;
	size_t before = out->n;

	view_services_on_port(v, port, &list);
	for (size_t i = 0; i < list.n; i++) {
		const struct entry *rules;

		if (!is_wildcard_http(v, list.items[i], port))
			continue;
		name_list_add(a, out, arena_printf(a, STR_FMT "/%s:%u", STR_ARG(rc), list.items[i]->hostname, port));
		rules = port == 80 ? NULL : rules_of(v, list.items[i], port);
		if (rules)
			add_hosts(v, a, rc, port, rules, out);
	}
	if (port == 80)
		add_orphans(v, a, rc, port, out);
	/* Does not exist: that it is removed tells Envoy that nothing more will come. */
	if (out->n == before)
		name_list_add(a, out, arena_printf(a, STR_FMT "/-", STR_ARG(rc)));
}

static void vhds_names(struct view *v, struct arena *a, struct str **out, size_t *n)
{
	struct name_list list = {0};
	struct str *routes = NULL;
	size_t n_routes = 0;
	uint32_t port;

	if (v->scope->attributes->vhds && v->scope->kind == SCOPE_SHARED)
		rds_translator.names(v, a, &routes, &n_routes);
	for (size_t i = 0; i < n_routes; i++)
		if (str_u32(routes[i], 65535, &port))
			add_port(v, a, routes[i], port, &list);
	name_list_finish(&list, out, n);
}

/* ---- one host */
static struct str bare(struct arena *a, struct str domain, uint32_t port)
{
	struct str end = str_of(arena_printf(a, ":%u", port));

	if (domain.ptr[0] == '*')
		return domain;
	if (str_ends(domain, end))
		domain.len -= end.len;
	return domain.len > 2 && domain.ptr[0] == '[' ? str_sub(domain, 1, domain.len - 2) : domain;
}

static bool is_alias(struct view *v, const Fl__Service *s, struct str domain)
{
	struct str host = str_of(s->hostname), names[4];

	if (!str_starts(host, domain))
		return false;
	size_t n = host_aliases(v->scratch, host, v->scope->attributes->ns, view_domain_suffix(v), names);
	for (size_t i = 0; i < n; i++)
		if (str_eq(names[i], domain))
			return true;
	return false;
}

static bool claims(struct view *v, const Fl__Service *s, struct str domain)
{
	struct str *vips, head = {0}, rest = {0};
	size_t n;

	if (is_alias(v, s, domain))
		return true;
	if (s->headless && str_cut(domain, '.', &head, &rest) && str_eqc(head, "*") && str_eqc(rest, s->hostname))
		return true;
	service_vips(v, s, &vips, &n);
	for (size_t i = 0; i < n; i++)
		if (str_eq(vips[i], domain))
			return true;
	return false;
}

/* Another service has the domain, one that comes before ours; without one of ours (a host that is no service) all do. */
static bool is_claimant(struct view *v, const Fl__Service *s, const Fl__Service *own, struct str domain, uint32_t port)
{
	return s && s != own && (!own || service_before(s, own)) && is_wildcard_http(v, s, port) &&
	       claims(v, s, domain);
}

static bool is_taken(struct view *v, const Fl__Service *own, struct str domain, uint32_t port)
{
	struct str hosts[4], head = {0}, rest = {0};
	struct service_list list;
	size_t n = host_alias_owners(v->scratch, domain, v->scope->attributes->ns, view_domain_suffix(v), hosts);

	if (str_cut(domain, '.', &head, &rest) && str_eqc(head, "*"))
		hosts[n++] = rest; /* of a headless service */
	for (size_t i = 0; i < n; i++)
		if (is_claimant(v, view_service_on_port(v, port, hosts[i]), own, domain, port))
			return true;
	view_services_named(v, port, domain, &list);
	for (size_t i = 0; i < list.n; i++)
		if (is_claimant(v, list.items[i], own, domain, port) &&
			view_service_on_port(v, port, str_of(list.items[i]->hostname)) == list.items[i])
			return true;
	return false;
}

/* "*" is the inline host's. */
static void keep_own_domains(struct view *v, Rds__VirtualHost *vh, const Fl__Service *own, uint32_t port)
{
	size_t kept = 0;

	for (size_t i = 0; i < vh->n_domains; i++) {
		struct str domain = bare(v->scratch, str_of(vh->domains[i]), port);

		if (!str_eqc(domain, "*") && !is_taken(v, own, domain, port))
			vh->domains[kept++] = vh->domains[i];
	}
	vh->n_domains = kept;
}

static Rds__VirtualHost *finish(struct route_table *t)
{
	Rds__VirtualHost *vh = t->rc->n_virtual_hosts ? t->rc->virtual_hosts[0] : NULL;

	map_free(t->domains);
	return vh;
}

static bool has_rules(struct view *v, const Fl__Service *s, const struct entry *rules, uint32_t port)
{
	return s && is_wildcard_http(v, s, port) && rules_of(v, s, port) == rules;
}

/* Some service on the port has these rules: one of their own hosts, or one that a wildcard among them covers. */
static bool serves(struct view *v, const struct entry *rules, uint32_t port)
{
	const Cfg__VirtualService *vs = rules->value;
	struct service_list list = {0};
	bool wildcard = false;

	for (size_t i = 0; i < vs->n_hosts; i++) {
		wildcard |= host_is_wildcard(str_of(vs->hosts[i]));
		if (has_rules(v, view_service_on_port(v, port, str_of(vs->hosts[i])), rules, port))
			return true;
	}
	if (wildcard)
		view_services_on_port(v, port, &list);
	for (size_t i = 0; i < list.n; i++)
		if (has_rules(v, list.items[i], rules, port))
			return true;
	return false;
}

/* Some service on the port has the rules of a VirtualService that names the host, too. */
static bool shares_rules(struct view *v, struct str host, uint32_t port)
{
	struct entries list;

	view_host_rules(v, host, &list);
	for (size_t i = 0; i < list.n; i++) {
		const Cfg__VirtualService *vs = list.items[i]->value;
		bool named = false;

		for (size_t j = 0; j < vs->n_hosts; j++)
			named |= str_eqc(host, vs->hosts[j]);
		if (named && serves(v, list.items[i], port))
			return true;
	}
	return false;
}

static Rds__VirtualHost *build_host(struct view *v, struct str rc, struct str host, uint32_t port, struct arena *a)
{
	const Fl__Service *own = view_service_on_port(v, port, host);
	struct route_table t;
	Rds__VirtualHost *vh;

	if (own && !is_wildcard_http(v, own, port))
		own = NULL;
	route_table_init(&t, v, a, rc);
	if (own)
		route_table_service(&t, own, port);
	else if (port == 80 || shares_rules(v, host, port))
		(void)route_table_orphan(&t, arena_cstr(a, host), port);
	vh = finish(&t);
	if (vh)
		keep_own_domains(v, vh, own, port);
	return vh && vh->n_domains ? vh : NULL;
}

static const ProtobufCMessage *vhds_build(struct view *v, struct str name, struct arena *a)
{
	struct str rc, key, host, number;
	uint32_t port, own;
	size_t slash, colon;

	if (!v->scope->attributes->vhds || !str_rfind(name, '/', &slash))
		return NULL;
	rc = str_sub(name, 0, slash);
	key = str_from(name, slash + 1);
	if (!str_rfind(key, ':', &colon) || !str_u32(rc, 65535, &port))
		return NULL;
	host = str_sub(key, 0, colon);
	number = str_from(key, colon + 1);
	if (!str_u32(number, 65535, &own) || own != port)
		return NULL;
	Rds__VirtualHost *vh = build_host(v, rc, host, port, a);
	if (!vh)
		return NULL;
	vh->name = arena_cstr(a, name);
	return &vh->base;
}

static enum scope_kind vhds_scope(struct str name)
{
	(void)name;
	return SCOPE_SHARED;
}

const struct translator vhds_translator = {.names = vhds_names, .build = vhds_build, .scope = vhds_scope};
