#include "tests/unit/pilot/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/pb/json.h"
#include "common/pb/pb.h"

void world_init(struct world *w)
{
	*w = (struct world){
		.galley = galley_new(&(struct galley_options){.assume_sidecars = true}), .model = model_empty()};
}

void world_done(struct world *w)
{
	galley_free(w->galley);
	model_unref(w->model);
	read_keys_done(&w->touched);
}

void world_put(struct world *w, const char *file, const char *yaml)
{
	galley_put(w->galley, str_of(file), str_of(yaml));
}

void world_remove(struct world *w, const char *file)
{
	galley_remove(w->galley, str_of(file));
}

void world_commit(struct world *w)
{
	size_t n;
	const struct bus_change *changes = galley_commit(w->galley, &n);
	struct model *next;

	read_keys_done(&w->touched);
	next = model_apply(w->model, changes, n, &w->touched);
	model_unref(w->model);
	w->model = next;
}

struct proxy *world_proxy(
	struct arena *a, const char *type, const char *ip, const char *name, const char *ns, const char *labels_json)
{
	char *json = arena_printf(a,
		"{\"id\":\"%s~%s~%s.%s~%s.svc.cluster.local\",\"metadata\":{\"NAMESPACE\":\"%s\","
		"\"WORKLOAD_NAME\":\"%s\",\"LABELS\":%s}}",
		type, ip, name, ns, ns, ns, name, labels_json);
	struct err e = {0};
	Core__Node *node = pb_from_json_text(a, &core__node__descriptor, str_of(json), &e);
	struct proxy *p = NULL;

	if (!node || !proxy_parse(a, node, &p, &e)) {
		(void)fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return p;
}

static bool touches(const struct read_keys *reads, const struct read_keys *touched)
{
	for (size_t i = 0; i < reads->len; i++)
		if (read_keys_has(touched, reads->items[i]))
			return true;
	return false;
}

static void built_done(struct built *b)
{
	free(b->name);
	free(b->bytes);
	read_keys_done(&b->reads);
}

static void build_one(
	struct cache *c, const struct model *m, const struct scope *scope, enum xds_type type, struct built *b)
{
	struct arena *a = arena_new();
	struct view v;
	const ProtobufCMessage *message;
	struct str packed;

	read_keys_done(&b->reads);
	free(b->bytes);
	b->bytes = NULL;
	v = (struct view){.model = m, .scope = scope, .reads = &b->reads, .scratch = a};
	message = translator_get(type)->build(&v, str_of(b->name), a);
	read_keys_seal(&b->reads);
	if (message) {
		packed = pb_pack(a, message);
		b->bytes = xmalloc(packed.len + 1);
		memcpy(b->bytes, packed.ptr, packed.len);
		b->len = packed.len;
	}
	b->builds++;
	c->rebuilt++;
	arena_free(a);
}

/* New names get a place, names that are gone lose it; both lists are sorted. */
static void merge_names(struct cache *c, size_t k, size_t t, const struct str *names, size_t n)
{
	struct built *next = xzalloc((n + 1) * sizeof(*next)), *old = c->built[k][t];
	size_t j = 0;

	for (size_t i = 0; i < n; i++) {
		while (j < c->n[k][t] && str_cmp(str_of(old[j].name), names[i]) < 0)
			built_done(&old[j++]);
		if (j < c->n[k][t] && str_eqc(names[i], old[j].name))
			next[i] = old[j++];
		else
			next[i].name = xstrndup(names[i].ptr, names[i].len);
	}
	while (j < c->n[k][t])
		built_done(&old[j++]);
	free(old);
	c->built[k][t] = next;
	c->n[k][t] = n;
}

static void update_type(struct cache *c, const struct model *m, const struct scope *scope, size_t k, size_t t,
	const struct read_keys *touched, bool all)
{
	struct arena *a = arena_new();

	if (all || touches(&c->name_reads[k][t], touched)) {
		struct view v = {.model = m, .scope = scope, .reads = &c->name_reads[k][t], .scratch = a};
		struct str *names;
		size_t n;

		read_keys_done(&c->name_reads[k][t]);
		translator_get((enum xds_type)t)->names(&v, a, &names, &n);
		read_keys_seal(&c->name_reads[k][t]);
		merge_names(c, k, t, names, n);
	}
	for (size_t i = 0; i < c->n[k][t]; i++)
		if (all || !c->built[k][t][i].builds || touches(&c->built[k][t][i].reads, touched))
			build_one(c, m, scope, (enum xds_type)t, &c->built[k][t][i]);
	arena_free(a);
}

void cache_update(struct cache *c, const struct model *m, const struct proxy *p, const struct read_keys *touched)
{
	struct arena *a = arena_new();

	c->rebuilt = 0;
	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++) {
		bool first = !touched || !c->scope_key[k], all = first;
		struct read_keys reads = {0};
		const struct scope *s = scope_of(a, m, p, (enum scope_kind)k, &reads);

		read_keys_seal(&reads);
		/* A scope whose questions were not touched must be the same scope. */
		if (!first && !str_eqc(s->key, c->scope_key[k])) {
			assert(touches(&c->scope_reads[k], touched));
			all = true;
		}
		read_keys_done(&c->scope_reads[k]);
		c->scope_reads[k] = reads;
		free(c->scope_key[k]);
		c->scope_key[k] = xstrndup(s->key.ptr, s->key.len);
		for (size_t t = 0; t < XDS_TYPE_COUNT; t++)
			update_type(c, m, s, k, t, touched, all);
	}
	arena_free(a);
}

void cache_done(struct cache *c)
{
	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++) {
		free(c->scope_key[k]);
		read_keys_done(&c->scope_reads[k]);
		for (size_t t = 0; t < XDS_TYPE_COUNT; t++) {
			read_keys_done(&c->name_reads[k][t]);
			for (size_t i = 0; i < c->n[k][t]; i++)
				built_done(&c->built[k][t][i]);
			free(c->built[k][t]);
		}
	}
	*c = (struct cache){0};
}

const struct built *cache_get(const struct cache *c, enum xds_type type, const char *name)
{
	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++)
		for (size_t i = 0; i < c->n[k][type]; i++)
			if (streq(c->built[k][type][i].name, name))
				return &c->built[k][type][i];
	return NULL;
}

bool cache_equal(const struct cache *a, const struct cache *b)
{
	for (size_t k = 0; k < SCOPE_KIND_COUNT; k++)
		for (size_t t = 0; t < XDS_TYPE_COUNT; t++) {
			if (a->n[k][t] != b->n[k][t]) {
				(void)fprintf(stderr, "%s: %zu names, not %zu\n", xds_type_info((enum xds_type)t)->name,
					a->n[k][t], b->n[k][t]);
				return false;
			}
			for (size_t i = 0; i < a->n[k][t]; i++) {
				const struct built *x = &a->built[k][t][i], *y = &b->built[k][t][i];

				if (streq(x->name, y->name) && !x->bytes == !y->bytes &&
					(!x->bytes || (x->len == y->len && memcmp(x->bytes, y->bytes, x->len) == 0)))
					continue;
				(void)fprintf(stderr, "%s %s differs from %s\n", xds_type_info((enum xds_type)t)->name,
					x->name, y->name);
				return false;
			}
		}
	return true;
}
