/*
 * DOC: Reading of Core.Node. The node id is "type~ip~name.namespace~domain" (pilot's oldest interface, unchanged since Istio 0.x);
 * everything else comes from the metadata that Istio's agents, and ours, put there. Numbers, names and fallbacks follow Istio's
 * documented node metadata; what is missing gets the documented default.
 */
#include "pilot/model/proxy.h"

#include <stdlib.h>

#include "common/pb/json.h"
#include "cfg/model.pb-c.h"
#include "pilot/model/query.h"

static const Wkt__Value *meta(const Core__Node *n, const char *key)
{
	for (size_t i = 0; n->metadata && i < n->metadata->n_fields; i++)
		if (streq(n->metadata->fields[i]->key, key))
			return n->metadata->fields[i]->value;
	return NULL;
}

static struct str value_text(const Wkt__Value *v)
{
	return v && v->kind_case == WKT__VALUE__KIND_STRING_VALUE ? str_of(v->string_value) : (struct str){0};
}

static struct str meta_text(struct arena *a, const Core__Node *n, const char *key, struct str fallback)
{
	struct str s = value_text(meta(n, key));

	return arena_str(a, s.len ? s : fallback);
}

static int label_cmp(const void *x, const void *y)
{
	return str_cmp(((const struct proxy_label *)x)->key, ((const struct proxy_label *)y)->key);
}

static void parse_labels(struct arena *a, const Core__Node *n, struct proxy *p)
{
	const Wkt__Value *v = meta(n, "LABELS");
	const Wkt__Struct *s = v && v->kind_case == WKT__VALUE__KIND_STRUCT_VALUE ? v->struct_value : NULL;

	p->labels = arena_array(a, (s ? s->n_fields : 0) + 1, sizeof(*p->labels));
	for (size_t i = 0; s && i < s->n_fields; i++)
		p->labels[p->n_labels++] = (struct proxy_label){
			arena_str(a, str_of(s->fields[i]->key)), arena_str(a, value_text(s->fields[i]->value))};
	if (p->n_labels > 1)
		qsort(p->labels, p->n_labels, sizeof(*p->labels), label_cmp);
}

/* A comma-separated string as a list: `first` (empty: none), then the others in their order. */
static struct str *meta_list(struct arena *a, const Core__Node *n, const char *key, struct str first, size_t *len)
{
	struct str rest = value_text(meta(n, key)), part, *list;
	size_t cap = 2;

	for (size_t i = 0; i < rest.len; i++)
		cap += rest.ptr[i] == ',';
	list = arena_array(a, cap, sizeof(*list));
	if (first.len)
		list[(*len)++] = first;
	while (str_split(&rest, ',', &part)) {
		part = str_trim(part);
		if (part.len && !str_eq(part, first))
			list[(*len)++] = arena_str(a, part);
	}
	return list;
}

/* The id's address comes first. */
static void parse_ips(struct arena *a, const Core__Node *n, struct proxy *p)
{
	p->ips = meta_list(a, n, "INSTANCE_IPS", p->ip, &p->n_ips);
	for (size_t i = 0; i < p->n_ips; i++)
		*(memchr(p->ips[i].ptr, ':', p->ips[i].len) ? &p->ipv6 : &p->ipv4) = true;
}

static int str_order(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static void parse_network_view(struct arena *a, const Core__Node *n, struct proxy *p)
{
	p->network_view = meta_list(a, n, "REQUESTED_NETWORK_VIEW", STR(""), &p->n_network_view);
	if (p->n_network_view > 1)
		qsort(p->network_view, p->n_network_view, sizeof(*p->network_view), str_order);
}

static void parse_extensions(struct arena *a, const Core__Node *n, struct proxy *p)
{
	p->extensions = arena_array(a, n->n_extensions + 1, sizeof(*p->extensions));
	for (size_t i = 0; i < n->n_extensions; i++)
		if (!n->extensions[i]->disabled)
			p->extensions[p->n_extensions++] = arena_str(a, str_of(n->extensions[i]->name));
	if (p->n_extensions > 1)
		qsort(p->extensions, p->n_extensions, sizeof(*p->extensions), str_order);
}

static void parse_locality(struct arena *a, const Core__Node *n, struct proxy *p)
{
	const Core__Locality *l = n->locality;

	if (!l || str_empty(l->region))
		return;
	p->locality = str_of(arena_printf(a, "%s%s%s%s%s", l->region, str_empty(l->zone) ? "" : "/", l->zone,
		str_empty(l->sub_zone) ? "" : "/", l->sub_zone));
}

/* What pilot does not know, and the many fields that are the agent's business, are left alone. */
static void parse_config(struct arena *a, const Core__Node *n, struct proxy *p)
{
	static const char *const wanted[] = {"connectionSettings", "gatewayTopology", "proxyHeaders"};
	const Wkt__Value *v = meta(n, "PROXY_CONFIG");
	const Wkt__Struct *s = v && v->kind_case == WKT__VALUE__KIND_STRUCT_VALUE ? v->struct_value : NULL;
	Wkt__Struct *kept = PB_NEW(a, Wkt__Struct, wkt__struct);
	struct strbuf text cleanup(strbuf_done) = {0};
	struct err e = {0};

	for (size_t i = 0; s && i < s->n_fields; i++)
		p->probed |= streq(s->fields[i]->key, "readinessProbe");
	for (size_t i = 0; s && i < s->n_fields; i++)
		for (size_t k = 0; k < ARRAY_LEN(wanted); k++)
			if (streq(s->fields[i]->key, wanted[k]))
				pb_add(a, kept, fields, s->fields[i]);
	if (!kept->n_fields)
		return;
	pb_to_json(kept, &(struct pb_encode_options){0}, &text);
	p->config = pb_from_json_text(a, &mesh__proxy_config__descriptor, strbuf_str(&text), &e);
}

static bool parse_type(struct str type, enum proxy_type *out)
{
	static const char *const names[PROXY_TYPE_COUNT] = {"sidecar", "router", "waypoint"};

	for (size_t i = 0; i < PROXY_TYPE_COUNT; i++)
		if (str_eqc(type, names[i])) {
			*out = (enum proxy_type)i;
			return true;
		}
	return false;
}

static bool parse_id(struct arena *a, struct str id, struct proxy *p, struct err *e)
{
	struct str rest = id, type, ip, name, domain;

	if (!str_split(&rest, '~', &type) || !str_split(&rest, '~', &ip) || !str_split(&rest, '~', &name) ||
		!str_split(&rest, '~', &domain))
		return err_set(
			e, ERR_PEER, "node id \"" STR_FMT "\" is not type~ip~name.namespace~domain", STR_ARG(id));
	if (!parse_type(type, &p->type))
		return err_set(
			e, ERR_PEER, "node type \"" STR_FMT "\" is not sidecar, router or waypoint", STR_ARG(type));
	if (!ip.len || !name.len)
		return err_set(
			e, ERR_PEER, "node id \"" STR_FMT "\" has no %s", STR_ARG(id), ip.len ? "name" : "address");
	p->id = arena_str(a, id);
	p->ip = arena_str(a, ip);
	p->domain = arena_str(a, domain);
	p->name = arena_str(a, name);
	return true;
}

/* "name.namespace": a pod name may hold dots, a namespace may not. */
static bool parse_namespace(struct arena *a, const Core__Node *n, struct proxy *p, struct err *e)
{
	struct str ns = value_text(meta(n, "NAMESPACE"));
	size_t dot;

	if (str_rfind(p->name, '.', &dot)) {
		if (!ns.len)
			ns = str_from(p->name, dot + 1);
		p->name = arena_str(a, str_sub(p->name, 0, dot));
	}
	p->ns = arena_str(a, ns);
	if (!p->ns.len)
		return err_set(
			e, ERR_PEER, "node id \"" STR_FMT "\": no namespace in it nor in NAMESPACE", STR_ARG(p->id));
	return true;
}

bool proxy_parse(struct arena *a, const Core__Node *node, struct proxy **out, struct err *e)
{
	struct proxy *p = ARENA_NEW(a, struct proxy);

	if (!parse_id(a, str_of(node->id), p, e) || !parse_namespace(a, node, p, e))
		return false;
	parse_labels(a, node, p);
	parse_ips(a, node, p);
	parse_network_view(a, node, p);
	parse_extensions(a, node, p);
	parse_locality(a, node, p);
	parse_config(a, node, p);
	p->service_account = meta_text(a, node, "SERVICE_ACCOUNT", STR("default"));
	p->workload = meta_text(a, node, "WORKLOAD_NAME", p->name);
	p->cluster_id = meta_text(a, node, "CLUSTER_ID", STR("Kubernetes"));
	p->network = meta_text(a, node, "NETWORK", STR(""));
	p->version = meta_text(a, node, "ISTIO_VERSION", STR(""));
	p->register_group = meta_text(a, node, "AUTO_REGISTER_GROUP", STR(""));
	p->no_capture = str_eqc(value_text(meta(node, "INTERCEPTION_MODE")), "NONE");
	p->transparent = p->type == PROXY_SIDECAR && str_eqc(value_text(meta(node, "INTERCEPTION_MODE")), "TPROXY");
	p->self_discovery = str_eqc(value_text(meta(node, "ENABLE_SELF_DISCOVERY")), "true");
	p->vhds = p->type == PROXY_SIDECAR && str_eqc(value_text(meta(node, "FAIRLEAD_VHDS")), "true");
	p->shadow_suffix = str_eqc(value_text(meta(node, "FAIRLEAD_SHADOW_SUFFIX")), "true");
	*out = p;
	return true;
}

const struct str *proxy_label(const struct proxy *p, struct str key)
{
	for (size_t i = 0; i < p->n_labels; i++)
		if (str_eq(p->labels[i].key, key))
			return &p->labels[i].value;
	return NULL;
}

struct label_set proxy_labels(struct arena *a, const struct proxy *p)
{
	Fl__Endpoint__LabelsEntry *entries = arena_array(a, p->n_labels + 1, sizeof(*entries));
	void **pointers = arena_array(a, p->n_labels + 1, sizeof(*pointers));

	for (size_t i = 0; i < p->n_labels; i++) {
		fl__endpoint__labels_entry__init(&entries[i]);
		entries[i].key = arena_cstr(a, p->labels[i].key);
		entries[i].value = arena_cstr(a, p->labels[i].value);
		pointers[i] = &entries[i];
	}
	return (struct label_set){p->n_labels, pointers};
}
