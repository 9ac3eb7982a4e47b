#include "galley/pipeline.h"

#include <stdlib.h>

#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/hash.h"
#include "common/mesh/labels.h"

/*
 * DOC: What leaves galley. A value is published when its bytes differ from those that were published; its hash is over the packed
 * message without its origin, so that moving an object to another line or file publishes nothing. The mesh's default visibility is
 * filled in here rather than in the object, because it changes with the mesh config and not with the object.
 */

static char *published_key(struct arena *a, uint32_t topic, const char *key)
{
	return arena_printf(a, "%u/%s", topic, key);
}

void galley_emit(struct galley *g, uint32_t topic, const char *key, struct str value, const char *origin)
{
	struct str id = str_of(published_key(g->batch, topic, key));
	uint64_t hash = hash64(value);
	struct published *p = map_get(g->published, id);
	if (p && p->hash == hash)
		return;
	if (!p) {
		p = xzalloc(sizeof(*p));
		(void)map_put(g->published, id, p);
	}
	p->hash = hash;
	struct bus_change c = {.topic = topic,
		.key = arena_str(g->batch, str_of(key)),
		.value = value,
		.hash = hash,
		.origin = arena_str(g->batch, str_of(origin ? origin : ""))};
	if (!c.value.ptr)
		c.value.ptr = "";
	vec_push(&g->changes, c);
}

void galley_emit_delete(struct galley *g, uint32_t topic, const char *key)
{
	struct published *p = map_del(g->published, str_of(published_key(g->batch, topic, key)));
	if (!p)
		return;
	free(p);
	struct bus_change c = {.topic = topic, .key = arena_str(g->batch, str_of(key))};
	vec_push(&g->changes, c);
}

/* Annotations of Istio's domains may change what a proxy gets; those of other tools do not, and often change for nothing. */
static bool matters(const char *annotation)
{
	struct str domain, rest;
	return str_cut(str_of(annotation), '/', &domain, &rest) &&
	       (str_eqc(domain, "istio.io") || str_ends(domain, STR(".istio.io")));
}

static void defaults(struct arena *a, size_t *n, char ***out, char *const *fallback, size_t n_fallback, const char *ns)
{
	if (*n)
		return;
	*n = n_fallback ? n_fallback : 1;
	char **items = ARENA_ARRAY(a, char *, *n);
	items[0] = arena_strdup(a, "*");
	for (size_t i = 0; i < n_fallback; i++)
		items[i] = arena_strdup(a, streq(fallback[i], ".") ? ns : fallback[i]);
	*out = items;
}

static struct str pack_spec(struct arena *a, const struct object *o, const Mesh__MeshConfig *mesh)
{
	if (o->kind->id == KIND_VIRTUAL_SERVICE) {
		Cfg__VirtualService vs = *(const Cfg__VirtualService *)o->message;
		defaults(a, &vs.n_export_to, &vs.export_to, mesh->default_virtual_service_export_to,
			mesh->n_default_virtual_service_export_to, o->ns);
		return pb_pack(a, &vs);
	}
	if (o->kind->id == KIND_DESTINATION_RULE) {
		Cfg__DestinationRule dr = *(const Cfg__DestinationRule *)o->message;
		defaults(a, &dr.n_export_to, &dr.export_to, mesh->default_destination_rule_export_to,
			mesh->n_default_destination_rule_export_to, o->ns);
		return pb_pack(a, &dr);
	}
	return pb_pack(a, o->message);
}

struct str pack_object(struct arena *a, const struct object *o, const Mesh__MeshConfig *mesh)
{
	Fl__Object *out = PB_NEW(a, Fl__Object, fl__object);
	struct str spec = pack_spec(a, o, mesh);
	out->kind = arena_strdup(a, o->kind->name);
	out->namespace_ = arena_strdup(a, o->ns);
	out->name = arena_strdup(a, o->name);
	out->created_ms = o->created_ms;
	out->spec.data = (uint8_t *)(uintptr_t)spec.ptr;
	out->spec.len = spec.len;
	for (size_t i = 0; i < o->meta->n_labels; i++) {
		Fl__Object__LabelsEntry *e = pb_new(a, &fl__object__labels_entry__descriptor);
		e->key = o->meta->labels[i]->key;
		e->value = o->meta->labels[i]->value;
		pb_add(a, out, labels, e);
	}
	for (size_t i = 0; i < o->meta->n_annotations; i++) {
		if (!matters(o->meta->annotations[i]->key))
			continue;
		Fl__Object__AnnotationsEntry *e = pb_new(a, &fl__object__annotations_entry__descriptor);
		e->key = o->meta->annotations[i]->key;
		e->value = o->meta->annotations[i]->value;
		pb_add(a, out, annotations, e);
	}
	return pb_pack(a, out);
}

struct str pack_namespace(struct arena *a, const struct object *o)
{
	Fl__Namespace *out = PB_NEW(a, Fl__Namespace, fl__namespace);
	out->name = arena_strdup(a, o->name);
	for (size_t i = 0; i < o->meta->n_labels; i++) {
		Fl__Namespace__LabelsEntry *e = pb_new(a, &fl__namespace__labels_entry__descriptor);
		e->key = o->meta->labels[i]->key;
		e->value = o->meta->labels[i]->value;
		pb_add(a, out, labels, e);
	}
	return pb_pack(a, out);
}
