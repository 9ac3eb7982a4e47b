/*
 * DOC: The middle of a delta ADS stream. Per type: the names Envoy subscribed to, the versions it holds, and the resources it accepted. A response
 * waits under its nonce until Envoy's next request acknowledges it (then its resources join the accepted ones) or refuses it (then they are
 * forgotten, and what Envoy holds of them is unknown, because it may have taken a part). Responses that the agent made itself and those of a
 * lost pilot stream are answered like any other, but pilot is not told.
 *
 * A version that is not known is listed to a new pilot as "": pilot then sends the resource if there is one and removes it if there is none.
 * The same goes for a version that is not in the last good configuration (the agent died before it wrote it).
 * Delta xDS: envoyproxy.io, "xDS REST and gRPC protocol", section Incremental xDS.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "agent/ads_state_internal.h"
#include "common/base/limits.h"
#include "common/pb/pb.h"

/* Pilot keeps at most one unanswered response of a type, plus answers to new subscriptions. */
#define PENDING_MAX 256

void ads_resource_free(struct ads_resource *r)
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
		ads_resource_free(value);
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

static void pending_free(struct ads_pending *p)
{
	free_resources(p->resources);
	free_strings(p->removed);
	free(p->nonce);
	free(p);
}

static void drop_pending(struct ads_type *t)
{
	while (t->pending) {
		struct ads_pending *p = t->pending;
		t->pending = p->next;
		pending_free(p);
	}
	t->n_pending = 0;
}

struct ads_state *ads_state_new(void)
{
	return xzalloc(sizeof(struct ads_state));
}

void ads_state_clear(struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++) {
		struct ads_type *t = s->types[i];
		drop_pending(t);
		map_free(t->names);
		free_strings(t->versions);
		free_resources(t->accepted);
		free(t->url);
		free(t);
	}
	s->n_types = 0;
}

void ads_state_free(struct ads_state *s)
{
	if (s)
		ads_state_clear(s);
	free(s);
}

static struct ads_type *find_type(const struct ads_state *s, const char *url)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (streq(s->types[i]->url, url))
			return s->types[i];
	return NULL;
}

struct ads_type *ads_type_need(struct ads_state *s, const char *url)
{
	struct ads_type *t = find_type(s, url);
	if (t || str_empty(url) || s->n_types == ADS_TYPES_MAX)
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
		t->subscribed = t->wildcard = t->answered = t->fresh = false;
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

static void forget_accepted(struct ads_state *s, struct ads_type *t, struct str name)
{
	struct ads_resource *r = map_del(t->accepted, name);
	s->dirty = s->dirty || r;
	ads_resource_free(r);
}

/* What Envoy does not hold is not part of the last good configuration either. */
static void forget_unheld(struct ads_state *s, struct ads_type *t)
{
	struct str name;
	void *value;
	for (size_t i = 0; map_next(t->accepted, &i, &name, &value);)
		if (!map_get(t->versions, name))
			forget_accepted(s, t, name);
}

/* The first request of a type on a stream: without names, or with the name "*", it asks for everything. */
static void begin(struct ads_type *t, const Ads__DeltaDiscoveryRequest *r)
{
	t->subscribed = true;
	t->wildcard = r->n_resource_names_subscribe == 0;
	for (size_t i = 0; i < r->n_initial_resource_versions && map_len(t->versions) < LIMIT_XDS_NAMES; i++)
		set_version(t, str_of(r->initial_resource_versions[i]->key), r->initial_resource_versions[i]->value);
	t->answered = map_len(t->versions) > 0;
}

static void subscribe(struct ads_type *t, struct str name)
{
	if (str_eq(name, STR("*")))
		t->wildcard = true;
	else if (map_len(t->names) < LIMIT_XDS_NAMES)
		(void)map_put(t->names, name, t);
}

static void unsubscribe(struct ads_state *s, struct ads_type *t, struct str name)
{
	if (str_eq(name, STR("*"))) {
		t->wildcard = false;
		return;
	}
	(void)map_del(t->names, name);
	if (t->wildcard)
		return; /* still part of everything */
	set_version(t, name, NULL);
	forget_accepted(s, t, name);
}

static bool subscribed_to(const struct ads_type *t, struct str name)
{
	return t->wildcard || map_get(t->names, name);
}

static void accept_resource(struct ads_state *s, struct ads_type *t, struct str name, struct ads_resource *r)
{
	struct ads_resource *old = map_put(t->accepted, name, r);
	bool same = old && old->len == r->len && memcmp(old->packed, r->packed, r->len) == 0;
	s->dirty = s->dirty || !same;
	ads_resource_free(old);
}

/* Envoy accepted p: its resources are the last good ones now. */
static void accept_pending(struct ads_state *s, struct ads_type *t, struct ads_pending *p)
{
	struct str name;
	void *value;
	for (size_t i = 0; map_next(p->removed, &i, &name, &value);) {
		forget_accepted(s, t, name);
		set_version(t, name, NULL);
	}
	for (size_t i = 0; map_next(p->resources, &i, &name, &value);) {
		struct ads_resource *r = value;
		bool stays = subscribed_to(t, name); /* Envoy may have unsubscribed meanwhile */
		if (stays)
			set_version(t, name, r->version);
		if (p->own || !stays)
			ads_resource_free(r);
		else
			accept_resource(s, t, name, r);
	}
	map_free(take(p->resources));
	if (p->whole)
		forget_unheld(s, t);
	s->dirty = s->dirty || (!p->own && !t->known);
	t->known = true;
}

/* Envoy may hold the resources of p or not, in whole or in part. */
static void doubt_pending(struct ads_type *t, const struct ads_pending *p)
{
	struct str name;
	void *value;
	for (size_t i = 0; map_next(p->resources, &i, &name, &value);)
		set_version(t, name, "");
	for (size_t i = 0; map_next(p->removed, &i, &name, &value);)
		if (map_get(t->versions, name))
			set_version(t, name, "");
}

/* The waiting response with this nonce, taken out of the list. */
static struct ads_pending *take_pending(struct ads_type *t, const char *nonce)
{
	for (struct ads_pending **at = &t->pending; *at; at = &(*at)->next) {
		if (streq((*at)->nonce, nonce)) {
			struct ads_pending *p = *at;
			*at = p->next;
			t->n_pending--;
			return p;
		}
	}
	return NULL;
}

/* Takes the answer to a response over; true when it is one to pilot's present stream. */
static bool settle(struct ads_state *s, struct ads_type *t, const Ads__DeltaDiscoveryRequest *r)
{
	struct ads_pending *p = str_empty(r->response_nonce) ? NULL : take_pending(t, r->response_nonce);
	if (!p)
		return false;
	bool of_pilot = !p->own && !p->orphan;
	if (r->error_detail) {
		t->nacks++;
		doubt_pending(t, p);
	} else {
		accept_pending(s, t, p);
	}
	pending_free(p);
	return of_pilot;
}

static Ads__DeltaDiscoveryRequest *resume_request(struct ads_type *t, struct arena *a)
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
		const struct ads_resource *good = map_get(t->accepted, name);
		entry->key = arena_cstr(a, name);
		entry->value = arena_strdup(a, good && streq(good->version, value) ? value : "");
		pb_add(a, r, initial_resource_versions, entry);
	}
	t->fresh = t->wildcard && map_len(t->versions) == 0;
	return r;
}

struct str ads_state_request(struct ads_state *s, const Ads__DeltaDiscoveryRequest *r, struct arena *a)
{
	struct ads_type *t = ads_type_need(s, r->type_url);
	Ads__DeltaDiscoveryRequest pass = *r;
	pass.node = NULL; /* pilot has it from the first request of its stream */
	if (!t)
		return pb_pack(a, &pass);
	bool first = !t->subscribed;
	if (first)
		begin(t, r);
	for (size_t i = 0; i < r->n_resource_names_subscribe; i++)
		subscribe(t, str_of(r->resource_names_subscribe[i]));
	if (first && t->wildcard && t->answered)
		forget_unheld(s, t);
	for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
		unsubscribe(s, t, str_of(r->resource_names_unsubscribe[i]));
	bool of_pilot = settle(s, t, r);
	if (first)
		return pb_pack(a, resume_request(t, a));
	if (!of_pilot && !r->n_resource_names_subscribe && !r->n_resource_names_unsubscribe)
		return (struct str){0};
	if (!of_pilot) {
		pass.response_nonce = NULL;
		pass.error_detail = NULL;
	}
	return pb_pack(a, &pass);
}

struct ads_resource *ads_resource_of(const Ads__Resource *in)
{
	struct ads_resource *r = xzalloc(sizeof(*r));
	r->version = xstrdup(in->version);
	r->len = ads__resource__get_packed_size(in);
	r->packed = xmalloc(r->len ? r->len : 1);
	(void)ads__resource__pack(in, r->packed);
	return r;
}

static struct ads_pending *remember(struct ads_type *t, const Ads__DeltaDiscoveryResponse *in)
{
	struct ads_pending *p = xzalloc(sizeof(*p)), **end = &t->pending;
	p->nonce = xstrdup(in->nonce);
	p->resources = map_new();
	p->removed = map_new();
	for (size_t i = 0; i < in->n_resources; i++) {
		const Ads__Resource *r = in->resources[i];
		if (r->resource && !str_empty(r->name)) /* without a body it is a heartbeat, which changes nothing */
			ads_resource_free(map_put(p->resources, str_of(r->name), ads_resource_of(r)));
	}
	for (size_t i = 0; i < in->n_removed_resources; i++)
		free(map_put(p->removed, str_of(in->removed_resources[i]), xstrdup(in->removed_resources[i])));
	while (*end)
		end = &(*end)->next;
	*end = p;
	t->n_pending++;
	t->answered = true;
	return p;
}

bool ads_state_response(struct ads_state *s, const Ads__DeltaDiscoveryResponse *in)
{
	struct ads_type *t = ads_type_need(s, in->type_url);
	if (!t)
		return true;
	if (t->n_pending >= PENDING_MAX)
		return false;
	struct ads_pending *p = remember(t, in);
	p->whole = t->fresh;
	t->fresh = false;
	return true;
}

void ads_state_upstream_lost(struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++) {
		s->types[i]->fresh = false;
		for (struct ads_pending *p = s->types[i]->pending; p; p = p->next) {
			p->orphan = true;
			doubt_pending(s->types[i], p);
		}
	}
}

size_t ads_state_resume(struct ads_state *s, const Core__Node *node, struct arena *a, struct str **out)
{
	size_t n = 0;
	*out = ARENA_ARRAY(a, struct str, s->n_types + 1);
	for (size_t i = 0; i < s->n_types; i++) {
		if (!s->types[i]->subscribed)
			continue;
		Ads__DeltaDiscoveryRequest *r = resume_request(s->types[i], a);
		r->node = n == 0 ? (Core__Node *)(uintptr_t)node : NULL;
		(*out)[n++] = pb_pack(a, r);
	}
	return n;
}

/* What Envoy holds in a version of its own may be newer than the last good one: it stays. */
static bool wanted(const struct ads_type *t, struct str name)
{
	const char *held = map_get(t->versions, name);
	return subscribed_to(t, name) && str_empty(held);
}

static bool empty_is_an_answer(const struct ads_type *t)
{
	return t->known && t->wildcard && !t->answered;
}

struct str ads_state_answer(struct ads_state *s, const char *type_url, struct arena *a)
{
	struct ads_type *t = find_type(s, type_url);
	if (!t || !t->subscribed || t->pending)
		return (struct str){0};
	Ads__DeltaDiscoveryResponse *r = PB_NEW(a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	struct str name;
	void *value;
	for (size_t i = 0; map_next(t->accepted, &i, &name, &value);) {
		const struct ads_resource *good = value;
		if (!wanted(t, name))
			continue;
		Ads__Resource *copy = PB_UNPACK(a, Ads__Resource, ads__resource, good->packed, good->len, NULL);
		if (copy)
			pb_add(a, r, resources, copy);
	}
	if (r->n_resources == 0 && !empty_is_an_answer(t))
		return (struct str){0};
	r->type_url = t->url;
	r->nonce = arena_printf(a, "agent-%" PRIu64, ++s->next_nonce);
	r->system_version_info = arena_strdup(a, "last-good");
	remember(t, r)->own = true;
	return pb_pack(a, r);
}

static bool starved(const struct ads_type *t)
{
	struct str name;
	void *value;
	if (!t->subscribed || t->answered)
		return false;
	for (size_t i = 0; map_next(t->accepted, &i, &name, &value);)
		if (wanted(t, name))
			return true;
	return empty_is_an_answer(t);
}

bool ads_state_starved(const struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (starved(s->types[i]))
			return true;
	return false;
}

const char *ads_state_type(const struct ads_state *s, size_t i)
{
	return i < s->n_types ? s->types[i]->url : NULL;
}

bool ads_state_has_content(const struct ads_state *s)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (s->types[i]->known)
			return true;
	return false;
}

bool ads_state_dirty(const struct ads_state *s)
{
	return s->dirty;
}

void ads_state_debug(const struct ads_state *s, struct strbuf *json)
{
	strbuf_addc(json, '[');
	for (size_t i = 0; i < s->n_types; i++) {
		const struct ads_type *t = s->types[i];
		strbuf_adds(json, i ? ",{\"type\":" : "{\"type\":");
		strbuf_add_json(json, str_of(t->url));
		strbuf_addf(json,
			",\"subscribed\":%s,\"wildcard\":%s,\"names\":%zu,\"held\":%zu,\"unanswered\":%zu,\"lastGood\":"
			"%zu,\"nacks\":%" PRIu64 "}",
			t->subscribed ? "true" : "false", t->wildcard ? "true" : "false", map_len(t->names),
			map_len(t->versions), t->n_pending, map_len(t->accepted), t->nacks);
	}
	strbuf_addc(json, ']');
}
