/*
 * DOC: The middle of a delta ADS stream. Per type: the names Envoy subscribed to, the versions it holds, and the resources it accepted. A response
 * of pilot waits under its nonce until Envoy's next request acknowledges it (then its resources join the accepted ones) or refuses it (then they
 * are forgotten). Responses that the agent itself made have nonces that begin with "agent-", which pilot never sees.
 * Delta xDS: envoyproxy.io, "xDS REST and gRPC protocol", section Incremental xDS.
 */
#include "agent/ads_state.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

#define OWN_NONCE "agent-"

/* An accepted or waiting resource: packed envoy.service.discovery.v3.Resource. */
struct resource {
	char *version;
	size_t len;
	uint8_t *packed;
};

struct pending {
	char *nonce;
	struct map *resources; /* name -> struct resource */
	struct map *removed; /* name -> itself */
	struct pending *next;
};

struct ads_type {
	char *url;
	bool subscribed; /* on the present stream of Envoy */
	bool wildcard;
	struct map *names; /* subscribed to by name, beside the wildcard */
	struct map *versions; /* name -> char *: what Envoy holds on this stream */
	struct map *accepted; /* name -> struct resource: the last good configuration */
	struct pending *pending;
	uint64_t nacks;
};

struct ads_state {
	struct ads_type *types[32];
	size_t n_types;
	uint64_t next_nonce;
	bool dirty;
};

static void resource_free(struct resource *r)
{
	if (!r)
		return;
	free(r->version);
	free(r->packed);
	free(r);
}

static void free_resources(struct map *m)
{
	struct str key;
	void *value;
	for (size_t i = 0; m && map_next(m, &i, &key, &value);)
		resource_free(value);
	map_free(m);
}

static void free_strings(struct map *m)
{
	struct str key;
	void *value;
	for (size_t i = 0; m && map_next(m, &i, &key, &value);)
		free(value);
	map_free(m);
}

static void pending_free(struct pending *p)
{
	free_resources(p->resources);
	free_strings(p->removed);
	free(p->nonce);
	free(p);
}

static void drop_pending(struct ads_type *t)
{
	while (t->pending) {
		struct pending *p = t->pending;
		t->pending = p->next;
		pending_free(p);
	}
}

struct ads_state *ads_state_new(void)
{
	return xzalloc(sizeof(struct ads_state));
}

void ads_state_free(struct ads_state *s)
{
	for (size_t i = 0; s && i < s->n_types; i++) {
		struct ads_type *t = s->types[i];
		drop_pending(t);
		map_free(t->names);
		free_strings(t->versions);
		free_resources(t->accepted);
		free(t->url);
		free(t);
	}
	free(s);
}

static struct ads_type *find_type(const struct ads_state *s, const char *url)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (streq(s->types[i]->url, url))
			return s->types[i];
	return NULL;
}

static struct ads_type *need_type(struct ads_state *s, const char *url)
{
	struct ads_type *t = find_type(s, url);
	if (t || s->n_types == ARRAY_LEN(s->types))
		return t;
	t = xzalloc(sizeof(*t));
	t->url = xstrdup(url);
	t->names = map_new();
	t->versions = map_new();
	t->accepted = map_new();
	s->types[s->n_types++] = t;
	return t;
}

void ads_state_stream_opened(struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++) {
		struct ads_type *t = s->types[i];
		t->subscribed = t->wildcard = false;
		map_clear(t->names);
		free_strings(t->versions);
		t->versions = map_new();
		drop_pending(t);
	}
}

static void set_version(struct ads_type *t, struct str name, const char *version)
{
	free(version ? map_put(t->versions, name, xstrdup(version)) : map_del(t->versions, name));
}

static void take_subscriptions(struct ads_type *t, const Ads__DeltaDiscoveryRequest *r)
{
	/* A first request without names is a wildcard subscription, as is the name "*". */
	if (!t->subscribed && r->n_resource_names_subscribe == 0)
		t->wildcard = true;
	for (size_t i = 0; i < r->n_initial_resource_versions; i++)
		if (!t->subscribed)
			set_version(t, str_of(r->initial_resource_versions[i]->key),
				r->initial_resource_versions[i]->value);
	t->subscribed = true;
	for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
		struct str name = str_of(r->resource_names_subscribe[i]);
		if (str_eq(name, STR("*")))
			t->wildcard = true;
		else if (map_len(t->names) < LIMIT_XDS_NAMES)
			(void)map_put(t->names, name, t);
	}
	for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++) {
		struct str name = str_of(r->resource_names_unsubscribe[i]);
		if (str_eq(name, STR("*")))
			t->wildcard = false;
		(void)map_del(t->names, name);
		set_version(t, name, NULL);
	}
}

/* Envoy accepted p: its resources are the last good ones now. */
static void accept_pending(struct ads_state *s, struct ads_type *t, struct pending *p)
{
	struct str name;
	void *value;
	for (size_t i = 0; map_next(p->removed, &i, &name, &value);) {
		resource_free(map_del(t->accepted, name));
		set_version(t, name, NULL);
	}
	for (size_t i = 0; map_next(p->resources, &i, &name, &value);) {
		struct resource *r = value;
		set_version(t, name, r->version);
		resource_free(map_put(t->accepted, name, r));
	}
	map_free(p->resources);
	p->resources = NULL;
	s->dirty = true;
}

/* The waiting response with this nonce, taken out of the list. */
static struct pending *take_pending(struct ads_type *t, const char *nonce)
{
	for (struct pending **at = &t->pending; *at; at = &(*at)->next) {
		if (streq((*at)->nonce, nonce)) {
			struct pending *p = *at;
			*at = p->next;
			return p;
		}
	}
	return NULL;
}

bool ads_state_request(struct ads_state *s, const Ads__DeltaDiscoveryRequest *r)
{
	struct ads_type *t = need_type(s, r->type_url);
	if (!t)
		return true;
	bool news = !t->subscribed || r->n_resource_names_subscribe || r->n_resource_names_unsubscribe;
	take_subscriptions(t, r);
	struct pending *p = str_empty(r->response_nonce) ? NULL : take_pending(t, r->response_nonce);
	bool foreign = p && strncmp(p->nonce, OWN_NONCE, strlen(OWN_NONCE)) != 0;
	if (p && !r->error_detail)
		accept_pending(s, t, p);
	else if (p)
		t->nacks++;
	if (p)
		pending_free(p);
	return news || foreign;
}

static struct resource *resource_of(const Ads__Resource *in)
{
	struct resource *r = xzalloc(sizeof(*r));
	r->version = xstrdup(in->version);
	r->len = ads__resource__get_packed_size(in);
	r->packed = xmalloc(r->len ? r->len : 1);
	(void)ads__resource__pack(in, r->packed);
	return r;
}

void ads_state_response(struct ads_state *s, const Ads__DeltaDiscoveryResponse *in)
{
	struct ads_type *t = need_type(s, in->type_url);
	if (!t)
		return;
	struct pending *p = xzalloc(sizeof(*p)), **end = &t->pending;
	p->nonce = xstrdup(in->nonce);
	p->resources = map_new();
	p->removed = map_new();
	for (size_t i = 0; i < in->n_resources; i++)
		resource_free(map_put(p->resources, str_of(in->resources[i]->name), resource_of(in->resources[i])));
	for (size_t i = 0; i < in->n_removed_resources; i++)
		free(map_put(p->removed, str_of(in->removed_resources[i]), xstrdup(in->removed_resources[i])));
	while (*end)
		end = &(*end)->next;
	*end = p;
}

void ads_state_upstream_lost(struct ads_state *s)
{
	/* Envoy may still be working on a response: what it holds then is not known, so the resources in it have no version that a new pilot
	 * could trust; they are sent again. */
	for (size_t i = 0; i < s->n_types; i++) {
		struct ads_type *t = s->types[i];
		for (const struct pending *p = t->pending; p; p = p->next) {
			struct str name;
			void *value;
			for (size_t k = 0; map_next(p->resources, &k, &name, &value);)
				set_version(t, name, NULL);
			for (size_t k = 0; map_next(p->removed, &k, &name, &value);)
				set_version(t, name, "");
		}
		drop_pending(t);
	}
}

static Ads__DeltaDiscoveryRequest *resume_request(const struct ads_type *t, struct arena *a)
{
	Ads__DeltaDiscoveryRequest *r = PB_NEW(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
	struct str name;
	void *value;
	r->type_url = t->url;
	if (t->wildcard && map_len(t->names))
		pb_add(a, r, resource_names_subscribe, arena_strdup(a, "*"));
	for (size_t i = 0; map_next(t->names, &i, &name, &value);)
		pb_add(a, r, resource_names_subscribe, arena_cstr(a, name));
	for (size_t i = 0; map_next(t->versions, &i, &name, &value);) {
		Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry *entry = PB_NEW(a,
			Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry,
			ads__delta_discovery_request__initial_resource_versions_entry);
		entry->key = arena_cstr(a, name);
		entry->value = value;
		pb_add(a, r, initial_resource_versions, entry);
	}
	return r;
}

size_t ads_state_resume(const struct ads_state *s, const Core__Node *node, struct arena *a, struct str **out)
{
	size_t n = 0;
	*out = ARENA_ARRAY(a, struct str, s->n_types + 1);
	for (size_t i = 0; i < s->n_types; i++) {
		if (!s->types[i]->subscribed)
			continue;
		Ads__DeltaDiscoveryRequest *r = resume_request(s->types[i], a);
		r->node = n == 0 ? (Core__Node *)node : NULL;
		(*out)[n++] = pb_pack(a, r);
	}
	return n;
}

struct str ads_state_answer(struct ads_state *s, const char *type_url, struct arena *a)
{
	struct ads_type *t = find_type(s, type_url);
	if (!t || !t->subscribed || t->pending)
		return (struct str){0};
	Ads__DeltaDiscoveryResponse *r = PB_NEW(a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	struct str name;
	void *value;
	r->type_url = t->url;
	for (size_t i = 0; map_next(t->accepted, &i, &name, &value);) {
		const struct resource *have = value;
		const char *held = map_get(t->versions, name);
		if ((!t->wildcard && !map_get(t->names, name)) || (held && streq(held, have->version)))
			continue;
		Ads__Resource *copy = PB_UNPACK(a, Ads__Resource, ads__resource, have->packed, have->len, NULL);
		if (copy)
			pb_add(a, r, resources, copy);
	}
	if (r->n_resources == 0 && map_len(t->accepted) && map_len(t->versions))
		return (struct str){0};
	r->nonce = arena_printf(a, OWN_NONCE "%llu", (unsigned long long)++s->next_nonce);
	r->system_version_info = arena_strdup(a, "last-good");
	ads_state_response(s, r);
	return pb_pack(a, r);
}

const char *ads_state_type(const struct ads_state *s, size_t i)
{
	return i < s->n_types ? s->types[i]->url : NULL;
}

bool ads_state_has_content(const struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (map_len(s->types[i]->accepted))
			return true;
	return false;
}

bool ads_state_dirty(const struct ads_state *s)
{
	return s->dirty;
}

/* The file is one packed DeltaDiscoveryResponse after another, each behind its length: a form that needs no schema of its own. */
bool ads_state_save(struct ads_state *s, const char *path, struct err *e)
{
	struct strbuf file = {0};
	for (size_t i = 0; i < s->n_types; i++) {
		struct arena *a = arena_new();
		Ads__DeltaDiscoveryResponse *r = PB_NEW(a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
		struct str name;
		void *value;
		r->type_url = s->types[i]->url;
		for (size_t k = 0; map_next(s->types[i]->accepted, &k, &name, &value);) {
			const struct resource *have = value;
			Ads__Resource *copy = PB_UNPACK(a, Ads__Resource, ads__resource, have->packed, have->len, NULL);
			if (copy)
				pb_add(a, r, resources, copy);
		}
		struct str packed = pb_pack(a, r);
		uint32_t len = (uint32_t)packed.len;
		strbuf_add(&file, str_n(&len, sizeof(len)));
		strbuf_add(&file, packed);
		arena_free(a);
	}
	bool ok = file_write_atomic(path, strbuf_str(&file), 0600, e);
	strbuf_done(&file);
	s->dirty = !ok;
	return ok;
}

bool ads_state_load(struct ads_state *s, const char *path, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	size_t size = 0;
	if (!file_read(path, LIMIT_PB_MESSAGE_BYTES, &text, &size, e))
		return false;
	for (size_t at = 0; at < size;) {
		uint32_t len = 0;
		if (size - at < sizeof(len))
			return err_set(e, ERR_PEER, "%s is cut short", path);
		memcpy(&len, text + at, sizeof(len));
		at += sizeof(len);
		if (len > size - at)
			return err_set(e, ERR_PEER, "%s is cut short", path);
		struct arena *a = arena_new();
		const Ads__DeltaDiscoveryResponse *r = PB_UNPACK(
			a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, text + at, len, e);
		struct ads_type *t = r ? need_type(s, r->type_url) : NULL;
		for (size_t i = 0; t && i < r->n_resources; i++)
			resource_free(
				map_put(t->accepted, str_of(r->resources[i]->name), resource_of(r->resources[i])));
		arena_free(a);
		if (!r)
			return err_in(e, "%s", path);
		at += len;
	}
	return true;
}

void ads_state_debug(const struct ads_state *s, struct strbuf *json)
{
	strbuf_addc(json, '[');
	for (size_t i = 0; i < s->n_types; i++) {
		const struct ads_type *t = s->types[i];
		strbuf_adds(json, i ? ",{\"type\":" : "{\"type\":");
		strbuf_add_json(json, str_of(t->url));
		strbuf_addf(json,
			",\"subscribed\":%s,\"wildcard\":%s,\"names\":%zu,\"held\":%zu,\"lastGood\":%zu,\"nacks\":%"
			"llu}",
			t->subscribed ? "true" : "false", t->wildcard ? "true" : "false", map_len(t->names),
			map_len(t->versions), map_len(t->accepted), (unsigned long long)t->nacks);
	}
	strbuf_addc(json, ']');
}
