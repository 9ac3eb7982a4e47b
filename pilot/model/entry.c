/*
 * DOC: Decoding of bus values. Every value gets an arena of its own, so that a snapshot can share what did not change
 * and let go of exactly what did. The hash is computed here, not taken from the bus: it must not contain the
 * origin (file and line may move without a change of content), and it must be the same at every replica.
 */
#include "pilot/model/entry.h"

#include <stdlib.h>

#include "cfg/mesh.pb-c.h"
#include "cfg/networking/destination_rule.pb-c.h"
#include "cfg/networking/gateway.pb-c.h"
#include "cfg/networking/sidecar.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "cfg/security.pb-c.h"
#include "common/base/hash.h"
#include "common/base/vec.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

const struct model_topic model_topics[MODEL_TOPIC_COUNT] = {
	{TOPIC_SERVICE, 860, "service", &fl__service__descriptor, NULL, service_emit},
	{TOPIC_ENDPOINTS, 430, "endpoints", &fl__endpoint_set__descriptor, NULL, endpoints_emit},
	{TOPIC_NAMESPACE, 900, "namespace", &fl__namespace__descriptor, NULL, namespace_emit},
	{TOPIC_MESH, 1400, "mesh", &fl__object__descriptor, &mesh__mesh_config__descriptor, mesh_emit},
	{TOPIC_VIRTUAL_SERVICE, 870, "virtual_service", &fl__object__descriptor, &cfg__virtual_service__descriptor,
		virtual_service_emit},
	{TOPIC_DESTINATION_RULE, 1100, "destination_rule", &fl__object__descriptor, &cfg__destination_rule__descriptor,
		destination_rule_emit},
	{TOPIC_GATEWAY, 900, "gateway", &fl__object__descriptor, &cfg__gateway__descriptor, gateway_emit},
	{TOPIC_SIDECAR, 900, "sidecar", &fl__object__descriptor, &cfg__sidecar__descriptor, sidecar_emit},
	{TOPIC_PEER_AUTHN, 900, "peer_authn", &fl__object__descriptor, &sec__peer_authentication__descriptor,
		peer_authn_emit},
	{TOPIC_SECRET, 300, "secret", &fl__credential__descriptor, NULL, secret_emit},
	{TOPIC_TRUST, 150, "trust", &fl__trust_bundle__descriptor, NULL, trust_emit},
	{TOPIC_NETWORK, 600, "network", &fl__network__descriptor, NULL, network_emit},
	{TOPIC_CONFIG_MAP, 300, "config_map", &fl__credential__descriptor, NULL, config_map_emit},
	{TOPIC_ACCESS, 400, "access", &fl__access__descriptor, NULL, access_emit},
};

struct emitter {
	VEC(struct emission) list;
};

uint64_t question_key(enum question q, struct str text)
{
	return hash64_seed(text, 0x9e3779b97f4a7c15u * ((uint64_t)q + 1));
}

void emit(struct emitter *em, enum question q, struct str text, uint64_t aspect, bool row)
{
	vec_push(&em->list, ((struct emission){question_key(q, text), aspect, row}));
}

static int emission_cmp(const void *x, const void *y)
{
	const struct emission *a = x, *b = y;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->aspect < b->aspect ? -1 : a->aspect > b->aspect;
}

static void entry_destroy(struct ref *r)
{
	struct entry *e = container_of(r, struct entry, ref);

	arena_free(e->arena);
	free(e);
}

void entry_unref(struct entry *e)
{
	if (e)
		ref_put(&e->ref);
}

/* Repetitions would put an entry twice into an answer. */
static void entry_index(const struct model_topic *t, struct entry *e)
{
	struct emitter em = {0};
	size_t out = 0;

	t->emit(e, &em);
	if (em.list.len > 1)
		qsort(em.list.items, em.list.len, sizeof(*em.list.items), emission_cmp);
	for (size_t i = 0; i < em.list.len; i++)
		if (!out || emission_cmp(&em.list.items[out - 1], &em.list.items[i]))
			em.list.items[out++] = em.list.items[i];
	e->emissions = arena_dup(e->arena, em.list.items, out * sizeof(*em.list.items));
	e->n_emissions = out;
	vec_done(&em.list);
}

/* The message's own copy of the origin is emptied while it is hashed. */
static uint64_t object_hash(Fl__Object *o)
{
	char *origin = o->origin;
	uint64_t h;

	o->origin = (char *)protobuf_c_empty_string;
	h = pb_hash(o);
	o->origin = origin;
	return h;
}

static bool decode_object(const struct model_topic *t, struct entry *e, Fl__Object *o, struct err *err)
{
	e->object = o;
	e->value = pb_unpack(e->arena, t->spec, o->spec.data, o->spec.len, err);
	if (!e->value)
		return err_in(err, "spec of %s %s/%s", o->kind, o->namespace_, o->name);
	e->ns = str_of(o->namespace_);
	e->created_ms = o->created_ms;
	e->source.object = arena_printf(
		e->arena, "%s %s%s%s", o->kind, o->namespace_, str_empty(o->namespace_) ? "" : "/", o->name);
	e->source.origin = o->origin;
	e->hash = object_hash(o);
	return true;
}

static bool decode(const struct model_topic *t, struct entry *e, struct str value, struct err *err)
{
	void *message = pb_unpack(e->arena, t->message, value.ptr, value.len, err);

	if (!message)
		return false;
	if (t->spec)
		return decode_object(t, e, message, err);
	e->value = message;
	e->hash = pb_hash(message);
	if (t->topic == TOPIC_SERVICE) {
		const Fl__Service *s = message;

		e->ns = str_of(s->namespace_);
		e->created_ms = s->created_ms;
		e->source.object = arena_printf(e->arena, "service %s", s->hostname);
		e->source.origin = "";
	} else if (t->topic == TOPIC_SECRET || t->topic == TOPIC_CONFIG_MAP) {
		e->ns = str_of(((const Fl__Credential *)message)->namespace_);
		e->source.object = arena_printf(
			e->arena, "%s " STR_FMT, t->topic == TOPIC_SECRET ? "Secret" : "ConfigMap", STR_ARG(e->key));
		e->source.origin = "";
	} else if (t->topic == TOPIC_ENDPOINTS) {
		e->ns = str_of(((const Fl__EndpointSet *)message)->namespace_);
	}
	return true;
}

struct entry *entry_new(const struct model_topic *t, const struct bus_change *c, struct err *err)
{
	struct entry *e = xzalloc(sizeof(*e));

	ref_init(&e->ref, entry_destroy);
	e->arena = arena_new_sized(c->value.len * t->unpacked / 100 + 128);
	e->topic = t->topic;
	e->key = arena_str(e->arena, c->key);
	if (!decode(t, e, c->value, err)) {
		entry_unref(e);
		return NULL;
	}
	if (e->source.object && c->origin.len)
		e->source.origin = arena_cstr(e->arena, c->origin);
	e->source.topic = e->topic;
	e->source.key = e->key;
	e->source.hash = e->hash;
	entry_index(t, e);
	return e;
}
