/*
 * DOC: The interned resources. Looking a response through costs a hash of its bytes and nothing else, unless something in it was never
 * seen before: then names, references and markers are taken from the unpacked message.
 */
#include "tests/bench/load_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/pb/pb.h"
#include "wkt/any.pb-c.h"
#include "xds/cluster.pb-c.h"
#include "xds/endpoint.pb-c.h"
#include "xds/hcm.pb-c.h"
#include "xds/listener.pb-c.h"
#include "xds/route.pb-c.h"

const char *const load_urls[LOAD_TYPE_COUNT] = {
	"type.googleapis.com/envoy.config.cluster.v3.Cluster",
	"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	"type.googleapis.com/envoy.config.listener.v3.Listener",
	"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
	"type.googleapis.com/envoy.config.route.v3.VirtualHost",
};
const char *const load_names[LOAD_TYPE_COUNT] = {"cds", "eds", "lds", "rds", "vhds"};

struct place {
	uint64_t hash;
	uint32_t resource;
};

struct load_store {
	struct place *table;
	size_t cap;
	VEC(struct load_resource) resources; /* number 0 is nobody's */
	struct map *names[LOAD_TYPE_COUNT]; /* -> number */
	VEC(struct str) texts[LOAD_TYPE_COUNT];
	struct arena *arena;
};

struct load_store *load_store_new(void)
{
	struct load_store *s = xzalloc(sizeof(*s));
	s->arena = arena_new();
	s->cap = 1024;
	s->table = xzalloc(s->cap * sizeof(*s->table));
	vec_push(&s->resources, (struct load_resource){0});
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++) {
		s->names[t] = map_new();
		vec_push(&s->texts[t], (struct str){0});
	}
	return s;
}

void load_store_free(struct load_store *s)
{
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++) {
		map_free(s->names[t]);
		vec_done(&s->texts[t]);
	}
	vec_done(&s->resources);
	free(s->table);
	arena_free(s->arena);
	free(s);
}

bool load_type_find(struct str url, enum load_type *out)
{
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++)
		if (str_eqc(url, load_urls[t])) {
			*out = (enum load_type)t;
			return true;
		}
	return false;
}

size_t load_store_unique(const struct load_store *s)
{
	return s->resources.len - 1;
}

uint32_t load_store_name(struct load_store *s, enum load_type t, struct str name)
{
	void *known = map_get(s->names[t], name);
	if (known)
		return (uint32_t)(uintptr_t)known;
	uint32_t number = (uint32_t)s->texts[t].len;
	(void)map_put(s->names[t], name, (void *)(uintptr_t)number);
	vec_push(&s->texts[t], arena_str(s->arena, name));
	return number;
}

struct str load_store_name_text(const struct load_store *s, enum load_type t, uint32_t name)
{
	return s->texts[t].items[name];
}

const struct load_resource *load_store_get(const struct load_store *s, uint32_t resource)
{
	return &s->resources.items[resource];
}

/* ---- the wire format */
static bool varint(struct str *rest, uint64_t *out)
{
	*out = 0;
	for (unsigned shift = 0; rest->len && shift < 64; shift += 7) {
		uint8_t c = (uint8_t)*rest->ptr++;
		rest->len--;
		*out |= (uint64_t)(c & 0x7fu) << shift;
		if (!(c & 0x80u))
			return true;
	}
	return false;
}

bool wire_next(struct str *rest, struct wire_field *out)
{
	static const size_t fixed[8] = {[1] = 8, [5] = 4};
	uint64_t tag, len = 0;
	if (!varint(rest, &tag))
		return false;
	*out = (struct wire_field){.number = (uint32_t)(tag >> 3)};
	if ((tag & 7) == 0)
		return varint(rest, &len);
	if ((tag & 7) == 2) {
		if (!varint(rest, &len) || len > rest->len)
			return false;
		out->bytes = str_n(rest->ptr, len);
	} else {
		len = fixed[tag & 7];
	}
	*rest = str_from(*rest, len);
	return true;
}

void wire_put(struct strbuf *b, uint32_t field, struct str bytes)
{
	strbuf_addc(b, (char)(field << 3 | 2));
	size_t len = bytes.len;
	for (; len >= 0x80; len >>= 7)
		strbuf_addc(b, (char)(len | 0x80));
	strbuf_addc(b, (char)len);
	strbuf_add(b, bytes);
}

/* ---- what a resource says */
static const void *unpack(struct arena *a, const ProtobufCMessageDescriptor *d, struct str bytes)
{
	struct err e = {0};
	const void *m = pb_unpack(a, d, bytes.ptr, bytes.len, &e);
	if (!m) {
		(void)fprintf(stderr, "xds_load: %s: %s\n", d->name, e.text);
		abort();
	}
	return m;
}

struct looking {
	struct load_store *store;
	struct load_resource *r;
	struct arena *arena; /* scratch */
	VEC(uint32_t) refs;
};

static void add_ref(struct looking *l, const char *name)
{
	uint32_t number = load_store_name(l->store, l->r->refers_to, str_of(name));
	for (size_t i = 0; i < l->refs.len; i++)
		if (l->refs.items[i] == number)
			return;
	vec_push(&l->refs, number);
}

static struct str look_cluster(struct looking *l, struct str bytes)
{
	const Cds__Cluster *c = unpack(l->arena, &cds__cluster__descriptor, bytes);
	const char *service = c->eds_cluster_config ? c->eds_cluster_config->service_name : NULL;
	l->r->refers_to = LOAD_EDS;
	if (c->cluster_discovery_type_case == CDS__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE &&
		c->type == CDS__CLUSTER__DISCOVERY_TYPE__EDS)
		add_ref(l, str_empty(service) ? c->name : service);
	return str_of(c->name);
}

static void look_chain(struct looking *l, const Lds__FilterChain *chain)
{
	for (size_t i = 0; chain && i < chain->n_filters; i++) {
		const Wkt__Any *any = chain->filters[i]->typed_config;
		if (!any || !str_ends(str_of(any->type_url), STR(".HttpConnectionManager")))
			continue;
		const Hcm__HttpConnectionManager *h = unpack(
			l->arena, &hcm__http_connection_manager__descriptor, str_n(any->value.data, any->value.len));
		if (h->route_specifier_case == HCM__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS)
			add_ref(l, h->rds->route_config_name);
	}
}

static struct str look_listener(struct looking *l, struct str bytes)
{
	const Lds__Listener *listener = unpack(l->arena, &lds__listener__descriptor, bytes);
	l->r->refers_to = LOAD_RDS;
	for (size_t i = 0; i < listener->n_filter_chains; i++)
		look_chain(l, listener->filter_chains[i]);
	look_chain(l, listener->default_filter_chain);
	return str_of(listener->name);
}

static bool number_after(struct str bytes, const char *prefix, uint32_t *out, const char **end)
{
	const char *at = memmem(bytes.ptr, bytes.len, prefix, strlen(prefix));
	if (!at)
		return false;
	at += strlen(prefix);
	for (*out = 0; at < bytes.ptr + bytes.len && *at >= '0' && *at <= '9'; at++)
		*out = *out * 10 + (uint32_t)(*at - '0');
	*end = at;
	return true;
}

static struct str look_endpoints(struct looking *l, struct str bytes)
{
	const Eds__ClusterLoadAssignment *cla = unpack(l->arena, &eds__cluster_load_assignment__descriptor, bytes);
	uint32_t high, low;
	const char *end;
	bool first = number_after(bytes, "10.250.", &high, &end);
	if ((first || number_after(bytes, "10.251.", &high, &end)) &&
		number_after(str_n(end, (size_t)(bytes.ptr + bytes.len - end)), ".", &low, &end))
		l->r->marker = (first ? 0 : 65536) + high * 256 + low;
	return str_of(cla->cluster_name);
}

static struct str look_routes(struct looking *l, struct str bytes)
{
	const Rds__RouteConfiguration *c = unpack(l->arena, &rds__route_configuration__descriptor, bytes);
	const char *end;
	(void)number_after(bytes, "bench-change-", &l->r->marker, &end);
	return str_of(c->name);
}

static struct str look_host(struct looking *l, struct str bytes)
{
	const Rds__VirtualHost *vh = unpack(l->arena, &rds__virtual_host__descriptor, bytes);
	const char *end;
	(void)number_after(bytes, "bench-change-", &l->r->marker, &end);
	return str_of(vh->name);
}

static struct str (*const look[LOAD_TYPE_COUNT])(struct looking *l, struct str bytes) = {
	look_cluster, look_endpoints, look_listener, look_routes, look_host};

static struct str field_of(struct str message, uint32_t number)
{
	struct wire_field f;
	while (wire_next(&message, &f))
		if (f.number == number)
			return f.bytes;
	return (struct str){0};
}

static void learn(struct load_store *s, struct load_resource *r, bool delta, struct str bytes)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct looking l = {.store = s, .r = r, .arena = a};
	struct str any = delta ? field_of(bytes, 2) : bytes;
	struct str name = look[r->type](&l, field_of(any, 2));
	if (delta) {
		r->version = arena_str(s->arena, field_of(bytes, 1));
		name = field_of(bytes, 3);
	}
	r->name = load_store_name(s, r->type, name);
	r->refs = arena_dup(s->arena, l.refs.items, l.refs.len * sizeof(*l.refs.items));
	r->n_refs = l.refs.len;
	vec_done(&l.refs);
}

static struct place *find(const struct load_store *s, uint64_t hash)
{
	size_t i = hash & (s->cap - 1);
	while (s->table[i].resource && s->table[i].hash != hash)
		i = (i + 1) & (s->cap - 1);
	return &s->table[i];
}

static void grow(struct load_store *s)
{
	struct place *old = s->table;
	size_t cap = s->cap;
	s->cap *= 2;
	s->table = xzalloc(s->cap * sizeof(*s->table));
	for (size_t i = 0; i < cap; i++)
		if (old[i].resource)
			*find(s, old[i].hash) = old[i];
	free(old);
}

uint32_t load_store_resource(struct load_store *s, enum load_type t, bool delta, struct str bytes)
{
	uint64_t hash = hash64_seed(bytes, (uint64_t)t * 2 + delta + 1);
	struct place *p = find(s, hash);
	if (p->resource)
		return p->resource;
	struct load_resource r = {.type = t};
	learn(s, &r, delta, bytes);
	uint32_t number = (uint32_t)s->resources.len;
	vec_push(&s->resources, r);
	*p = (struct place){hash, number};
	if (s->resources.len * 2 > s->cap)
		grow(s);
	return number;
}
