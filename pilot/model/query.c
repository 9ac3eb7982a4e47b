/*
 * DOC: Recording and reading. ask() is the only place where rows of the model are handed out, so that nothing can be
 * read without being recorded. Mesh-wide settings and services are here; rules and routes are in query_config.c, peer
 * authentication in query_authn.c.
 */
#include "pilot/model/query.h"

#include <stdlib.h>

#include "common/mesh/host.h"
#include "common/mesh/spiffe.h"
#include "common/pb/pb.h"
#include "pilot/model/ask.h"
#include "pilot/model/singled.h"

void ask_note(struct view *v, enum question q, struct str text)
{
	if (v->reads)
		read_keys_add(v->reads, question_key(q, text));
}

bool entry_answers(const struct entry *e, uint64_t question)
{
	for (size_t i = 0; i < e->n_emissions; i++)
		if (e->emissions[i].key == question && e->emissions[i].row)
			return true;
	return false;
}

static const struct hidden *is_hidden(const struct proxy *p, const struct entry *e)
{
	for (size_t i = 0; i < p->n_hidden; i++)
		if (p->hidden[i].topic == e->topic && p->hidden[i].hash == e->hash && str_eq(p->hidden[i].key, e->key))
			return &p->hidden[i];
	return NULL;
}

static void add_row(struct row *rows, size_t *n, struct row r)
{
	size_t at = (*n)++;

	for (; at && str_cmp(rows[at - 1].entry->key, r.entry->key) > 0; at--)
		rows[at] = rows[at - 1];
	rows[at] = r;
}

/* Without the versions that this proxy refused; the ones before them answer as they would have. */
static struct rows without_hidden(
	const struct view *v, const struct topic_index *x, uint32_t topic, uint64_t question, struct rows rows)
{
	const struct proxy *p = v->scope->attributes;
	struct row *out = arena_array(v->scratch, rows.n + p->n_hidden + 1, sizeof(*out));
	size_t n = 0;

	for (size_t i = 0; i < rows.n; i++)
		if (!is_hidden(p, rows.items[i].entry))
			add_row(out, &n, rows.items[i]);
	for (size_t i = 0; i < p->n_hidden; i++) {
		const struct hidden *h = &p->hidden[i];
		const struct entry *now = h->topic == topic && !h->absent ? index_get(x, h->key) : NULL;
		struct entry *before = now && now->hash == h->hash ? index_before(x, h->key) : NULL;

		if (before && entry_answers(before, question))
			add_row(out, &n, (struct row){question, before});
	}
	return (struct rows){out, n};
}

struct rows ask_rows(const struct view *v, uint32_t topic, enum question q, struct str text)
{
	const struct topic_index *x = model_values(v->model, topic);
	uint64_t question = question_key(q, text);
	struct rows rows = index_rows(x, question);

	if (!v->scope->attributes || !v->scope->attributes->n_hidden)
		return rows;
	return without_hidden(v, x, topic, question, rows);
}

struct rows ask(struct view *v, uint32_t topic, enum question q, struct str text)
{
	ask_note(v, q, text);
	return ask_rows(v, topic, q, text);
}

void ask_source(struct view *v, const struct entry *e)
{
	if (v->on_source && e && e->source.object)
		v->on_source(v->ctx, &e->source);
}

bool exported_to(char *const *list, size_t n, struct str owner, struct str ns)
{
	for (size_t i = 0; i < n; i++)
		if (streq(list[i], "*") || (streq(list[i], ".") && str_eq(owner, ns)) || str_eqc(ns, list[i]))
			return true;
	return n == 0;
}

/* ---- mesh */
const Mesh__MeshConfig *view_mesh(struct view *v)
{
	static const Mesh__MeshConfig defaults = MESH__MESH_CONFIG__INIT;
	struct rows rows = ask(v, TOPIC_MESH, Q_MESH, STR(""));

	return rows.n ? rows.items[0].entry->value : &defaults;
}

const Mesh__MeshConfig *view_mesh_named(struct view *v)
{
	struct rows rows = ask_rows(v, TOPIC_MESH, Q_MESH, STR(""));

	if (rows.n)
		ask_source(v, rows.items[0].entry);
	return view_mesh(v);
}

struct str view_trust_domain(struct view *v)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);

	return str_empty(mesh->trust_domain) ? STR("cluster.local") : str_of(mesh->trust_domain);
}

struct str view_root_namespace(struct view *v)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);

	return str_empty(mesh->root_namespace) ? STR("istio-system") : str_of(mesh->root_namespace);
}

unsigned view_singled(struct view *v, struct str ns)
{
	ask_note(v, Q_SINGLED, ns);
	return singled_get(v->model->singled, ns);
}

struct str view_domain_suffix(const struct view *v)
{
	return v->scope->domain_suffix;
}

bool view_has_extension(const struct view *v, const char *name)
{
	const struct proxy *p = v->scope->attributes;
	size_t low = 0, high = p->n_extensions;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = str_cmp(p->extensions[mid], str_of(name));

		if (!c)
			return true;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return p->n_extensions == 0;
}

const struct str *view_label(const struct view *v, const char *key)
{
	return proxy_label(v->scope->attributes, str_of(key));
}

/* ---- services */
static bool service_exported(const Fl__Service *s, struct str ns)
{
	return exported_to(s->export_to, s->n_export_to, str_of(s->namespace_), ns);
}

/* Between services of one host: the caller's namespace, then Kubernetes' own, then the oldest (as Istio orders them). */
static int service_precedence(const Fl__Service *a, const Fl__Service *b, struct str ns)
{
	bool own_a = str_eqc(ns, a->namespace_), own_b = str_eqc(ns, b->namespace_);
	bool kube_a = a->registry == FL__REGISTRY__KUBERNETES, kube_b = b->registry == FL__REGISTRY__KUBERNETES;

	if (own_a != own_b)
		return own_a ? -1 : 1;
	if (kube_a != kube_b)
		return kube_a ? -1 : 1;
	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	return strcmp(a->namespace_, b->namespace_);
}

static int by_age(const void *x, const void *y)
{
	const Fl__Service *a = *(const Fl__Service *const *)x, *b = *(const Fl__Service *const *)y;

	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	return strcmp(a->hostname, b->hostname);
}

bool service_before(const Fl__Service *a, const Fl__Service *b)
{
	return by_age(&a, &b) < 0;
}

static int by_host(const void *x, const void *y)
{
	const Fl__Service *a = *(const Fl__Service *const *)x, *b = *(const Fl__Service *const *)y;
	int c = strcmp(a->hostname, b->hostname);

	return c ? c : strcmp(a->namespace_, b->namespace_);
}

struct collected {
	struct view *v;
	struct service_list *list;
	size_t cap;
	uint32_t
		port; /* 0: what some egress listener of the Sidecar imports; else what the one that serves the port does */
};

static void add_service(struct collected *c, const Fl__Service *s)
{
	struct service_list *l = c->list;

	if (l->n == c->cap) {
		const Fl__Service **old = l->items;

		c->cap = c->cap ? 2 * c->cap : 64;
		l->items = arena_array(c->v->scratch, c->cap, sizeof(*old));
		if (l->n)
			memcpy(l->items, old, l->n * sizeof(*old));
	}
	l->items[l->n++] = s;
}

static bool collect(void *ctx, const Fl__Service *s)
{
	struct collected *c = ctx;

	if (sidecar_admits_at(c->v, c->port, str_of(s->namespace_), str_of(s->hostname)))
		add_service(c, s);
	return false;
}

/* One service for each host, then in Istio's order: the oldest first. */
static void settle(struct view *v, struct service_list *list)
{
	struct str ns = v->scope->attributes->ns;
	size_t out = 0;

	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), by_host);
	for (size_t i = 0; i < list->n; i++) {
		if (!out || !streq(list->items[out - 1]->hostname, list->items[i]->hostname))
			list->items[out++] = list->items[i];
		else if (service_precedence(list->items[i], list->items[out - 1], ns) < 0)
			list->items[out - 1] = list->items[i];
	}
	list->n = out;
	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), by_age);
}

void view_services_on_port(struct view *v, uint32_t port, struct service_list *out)
{
	struct collected c = {.v = v, .list = out, .port = port};

	*out = (struct service_list){0};
	(void)find_service(v, Q_SERVICE_PORT, arena_printf(v->scratch, ":%u", port), collect, &c);
	settle(v, out);
}

static bool has_port(const Fl__Service *s, uint32_t port)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (s->ports[i]->number == port)
			return true;
	return false;
}

void view_services_named(struct view *v, uint32_t port, struct str name, struct service_list *out)
{
	const struct str visibility[] = {STR("*"), v->scope->attributes->ns};
	struct collected c = {.v = v, .list = out, .port = port};

	*out = (struct service_list){0};
	for (size_t i = 0; i < ARRAY_LEN(visibility); i++) {
		const char *text = arena_printf(v->scratch, STR_FMT ":" STR_FMT, STR_ARG(visibility[i]), STR_ARG(name));
		struct rows rows = ask(v, TOPIC_SERVICE, Q_SERVICE_NAME, str_of(text));

		for (size_t k = 0; k < rows.n; k++)
			if (has_port(rows.items[k].entry->value, port))
				(void)collect(&c, rows.items[k].entry->value);
	}
	settle(v, out);
}

const Fl__Service *view_service_on_port(struct view *v, uint32_t port, struct str host)
{
	struct service_list list;

	view_services_named(v, port, host, &list);
	for (size_t i = 0; i < list.n; i++)
		if (str_eqc(host, list.items[i]->hostname))
			return list.items[i];
	return NULL;
}

static void add_needed(void *ctx, struct str host)
{
	struct collected *c = ctx;
	struct rows rows = ask(c->v, TOPIC_SERVICE, Q_SERVICE_HOST, host);

	for (size_t i = 0; i < rows.n; i++)
		if (service_exported(rows.items[i].entry->value, c->v->scope->attributes->ns))
			add_service(c, rows.items[i].entry->value);
}

void view_services(struct view *v, struct service_list *out)
{
	struct collected c = {.v = v, .list = out};

	*out = (struct service_list){0};
	(void)find_service(v, Q_SERVICE_LIST, "", collect, &c);
	sidecar_needed(v, add_needed, &c);
	settle(v, out);
}

static bool is_admitted(void *ctx, const Fl__Service *s)
{
	return sidecar_admits(ctx, str_of(s->namespace_), str_of(s->hostname));
}

static bool has_any(struct view *v, enum question q)
{
	return find_service(v, q, "", is_admitted, v);
}

bool view_has_dynamic(struct view *v)
{
	return has_any(v, Q_SERVICE_DYNAMIC);
}

bool view_has_dns(struct view *v)
{
	return has_any(v, Q_SERVICE_DNS);
}

bool service_has_sessions(const Fl__Service *s)
{
	return label_get(LABELS(s, labels), LABEL_SESSION_COOKIE) || label_get(LABELS(s, labels), LABEL_SESSION_HEADER);
}

bool view_has_sessions(struct view *v)
{
	return has_any(v, Q_SERVICE_SESSIONS);
}

const Fl__Service *view_service(struct view *v, struct str host)
{
	struct rows rows = ask(v, TOPIC_SERVICE, Q_SERVICE_HOST, host);
	struct str ns = v->scope->attributes->ns;
	const Fl__Service *best = NULL;

	for (size_t i = 0; i < rows.n; i++) {
		const Fl__Service *s = rows.items[i].entry->value;

		if (!service_exported(s, ns) ||
			(!sidecar_admits(v, str_of(s->namespace_), host) && !sidecar_needs(v, host)))
			continue;
		if (!best || service_precedence(s, best, ns) < 0)
			best = s;
	}
	return best;
}

const Fl__Service *view_service_by_key(struct view *v, struct str key)
{
	struct str ns, host;
	struct rows rows;

	(void)str_cut(key, '/', &ns, &host);
	rows = ask(v, TOPIC_SERVICE, Q_SERVICE_HOST, host);
	for (size_t i = 0; i < rows.n; i++)
		if (str_eq(rows.items[i].entry->key, key))
			return rows.items[i].entry->value;
	return NULL;
}

const Fl__Port *service_port(const Fl__Service *s, uint32_t number)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (s->ports[i]->number == number)
			return s->ports[i];
	return NULL;
}

struct str service_key(struct view *v, const Fl__Service *s)
{
	return str_of(arena_printf(v->scratch, "%s/%s", s->namespace_, s->hostname));
}

/* ---- endpoints */
static const Fl__EndpointSet *endpoints_as(struct view *v, const Fl__Service *s, enum question q)
{
	struct rows rows = ask(v, TOPIC_ENDPOINTS, q, service_key(v, s));

	return rows.n ? rows.items[0].entry->value : NULL;
}

const Fl__EndpointSet *view_endpoints(struct view *v, const Fl__Service *s)
{
	return endpoints_as(v, s, Q_ENDPOINTS);
}

static int str_order(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static size_t sort_unique(struct str *items, size_t n)
{
	size_t out = 0;

	if (n > 1)
		qsort(items, n, sizeof(*items), str_order);
	for (size_t i = 0; i < n; i++)
		if (!out || !str_eq(items[out - 1], items[i]))
			items[out++] = items[i];
	return out;
}

/* A workload is the same under every name of the trust domain. */
static size_t account_names(struct view *v, const Fl__Endpoint *ep, struct str *out)
{
	const Mesh__MeshConfig *mesh = view_mesh(v);
	struct str ns = str_of(ep->namespace_), account = str_of(ep->service_account);
	size_t n = 0;

	out[n++] = str_of(spiffe_format(v->scratch, view_trust_domain(v), ns, account));
	for (size_t i = 0; i < mesh->n_trust_domain_aliases; i++)
		out[n++] = str_of(spiffe_format(v->scratch, str_of(mesh->trust_domain_aliases[i]), ns, account));
	return n;
}

void view_accounts(struct view *v, const Fl__Service *s, struct str **out, size_t *n)
{
	const Fl__EndpointSet *set = endpoints_as(v, s, Q_ACCOUNTS);
	size_t n_endpoints = set ? set->n_endpoints : 0, len = 0, names = 1 + view_mesh(v)->n_trust_domain_aliases;
	struct str *items = arena_array(v->scratch, n_endpoints * names + s->n_subject_alt_names + 1, sizeof(*items));

	for (size_t i = 0; i < n_endpoints; i++) {
		const Fl__Endpoint *ep = set->endpoints[i];

		if (str_empty(ep->service_account))
			continue;
		/* Most endpoints repeat the one before. */
		if (i && streq(ep->service_account, set->endpoints[i - 1]->service_account) &&
			streq(ep->namespace_, set->endpoints[i - 1]->namespace_))
			continue;
		len += account_names(v, ep, &items[len]);
	}
	for (size_t i = 0; i < s->n_subject_alt_names; i++)
		items[len++] = str_of(s->subject_alt_names[i]);
	*n = sort_unique(items, len);
	*out = items;
}

void view_addresses(struct view *v, const Fl__Service *s, struct str **out, size_t *n)
{
	const Fl__EndpointSet *set = endpoints_as(v, s, Q_ADDRESSES);
	size_t len = set ? set->n_endpoints : 0;
	struct str *items = arena_array(v->scratch, len + 1, sizeof(*items));

	for (size_t i = 0; i < len; i++)
		items[i] = str_of(set->endpoints[i]->address);
	*n = sort_unique(items, len);
	*out = items;
}
