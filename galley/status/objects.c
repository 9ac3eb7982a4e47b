/*
 * DOC: From an object to the values that it became: an object of a kind with a topic is one value under its own name; a ServiceEntry is a
 * service per host, and has arrived where all of them have. A WorkloadEntry is part of other objects' endpoints and has no
 * distribution of its own.
 */
#include "galley/status/objects.h"

#include "cfg/networking/service_entry.pb-c.h"
#include "galley/kind.h"
#include "galley/pipeline.h"

static bool has_status(const struct kind *k)
{
	return str_ends(str_of(k->group), STR(".istio.io")) || k->id == KIND_MESH_CONFIG;
}

static struct share entry_share(const struct distribution *d, const struct object *o)
{
	const Cfg__ServiceEntry *se = (const Cfg__ServiceEntry *)o->message;
	struct share s = {.error = "", .refusal = ""};
	for (size_t i = 0; i < se->n_hosts; i++) {
		char *key cleanup(free_p) = xasprintf("%s/%s", o->ns, se->hosts[i]);
		struct share one = distribution_of(d, TOPIC_SERVICE, str_of(key));
		if (i)
			share_meet(&s, &one);
		else
			s = one;
	}
	return s;
}

static struct share share_of(const struct distribution *d, const struct kind *k, const struct object *o)
{
	if (k->id == KIND_SERVICE_ENTRY)
		return entry_share(d, o);
	char *key cleanup(free_p) = k->cluster_scoped ? xstrdup(o->name) : xasprintf("%s/%s", o->ns, o->name);
	return distribution_of(d, k->topic, str_of(key));
}

static void tell(const struct distribution *d, const struct slot *s,
	void (*fn)(void *ctx, const struct status_object *o), void *ctx)
{
	const struct document *newest = slot_winner(s);
	struct str kind, rest, ns, name;
	(void)str_cut(str_of(s->key), '/', &kind, &rest);
	(void)str_cut(rest, '/', &ns, &name);
	char *ns_text cleanup(free_p) = xstrndup(ns.ptr, ns.len),
		      *name_text cleanup(free_p) = xstrndup(name.ptr, name.len);
	struct status_object o = {.key = s->key,
		.kind = s->kind,
		.ns = ns_text,
		.name = name_text,
		.newest = newest && newest->state == DOCUMENT_OK,
		.in_force = s->good != NULL,
		.applied = !kind_ops(s->kind->id)->not_applied,
		.distributed = s->good && (s->kind->topic != TOPIC_NONE || s->kind->id == KIND_SERVICE_ENTRY),
		.reason = newest && newest->reason ? newest->reason : "",
		.share = {.error = "", .refusal = ""}};
	if (o.distributed)
		o.share = share_of(d, s->kind, s->good);
	fn(ctx, &o);
}

static bool same_letters(struct str a, const char *b)
{
	return a.len == strlen(b) && strncasecmp(a.ptr, b, a.len) == 0;
}

void status_each(const struct galley *g, const struct distribution *d, const char *only,
	void (*fn)(void *ctx, const struct status_object *o), void *ctx)
{
	struct str key;
	void *value;
	const struct slot *one = only ? map_get(g->store.slots, str_of(only)) : NULL;
	if (one && has_status(one->kind))
		tell(d, one, fn, ctx);
	if (one)
		return;
	for (size_t i = 0; map_next(g->store.slots, &i, &key, &value);) {
		const struct slot *s = value;
		if (has_status(s->kind) && (!only || same_letters(key, only)))
			tell(d, s, fn, ctx);
	}
}

struct writing {
	struct strbuf *json;
	bool more;
	int64_t (*generation)(void *ctx, const char *key);
	void *ctx;
};

static void write_object(void *ctx, const struct status_object *o)
{
	struct writing *w = ctx;
	strbuf_adds(w->json, w->more ? ",{\"key\":" : "{\"key\":");
	w->more = true;
	strbuf_add_json(w->json, str_of(o->key));
	strbuf_addf(w->json, ",\"newest\":%s,\"in_force\":%s,\"applied\":%s,\"reason\":", o->newest ? "true" : "false",
		o->in_force ? "true" : "false", o->applied ? "true" : "false");
	strbuf_add_json(w->json, str_of(o->reason));
	if (w->generation)
		strbuf_addf(w->json, ",\"generation\":%lld", (long long)w->generation(w->ctx, o->key));
	if (o->distributed) {
		strbuf_addf(w->json, ",\"proxies\":%u,\"accepted\":%u,\"rejected\":%u,\"error\":", o->share.proxies,
			o->share.accepted, o->share.rejected);
		strbuf_add_json(w->json, str_of(o->share.error));
	}
	strbuf_addc(w->json, '}');
}

void status_json(const struct galley *g, const struct distribution *d, const char *only,
	int64_t (*generation)(void *ctx, const char *key), void *ctx, struct strbuf *json)
{
	struct share all = distribution_of(d, TOPIC_NONE, STR(""));
	struct writing w = {.json = json, .generation = generation, .ctx = ctx};
	strbuf_addf(json, "{\"pilots\":%zu,\"proxies\":%u,\"connecting\":%u,\"refusal\":", all.pilots, all.proxies,
		all.connecting);
	strbuf_add_json(json, str_of(all.refusal));
	strbuf_adds(json, ",\"objects\":[");
	status_each(g, d, only, write_object, &w);
	strbuf_adds(json, "]}");
}
