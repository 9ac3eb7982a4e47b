/*
 * DOC: The difference for one subscriber. Its request lists what it holds, possibly over several frames. When the
 * last one is here, one walk over the store collects references to the values that it lacks or holds with another
 * hash, and what remains of its list no longer exists and becomes deletions (rule 3). That is the state at one
 * sequence; values that change while it is being sent stay alive through their reference, and reach the subscriber as
 * the live deltas after that sequence.
 */
#include "common/bus/peer.h"

#include <stdio.h>
#include <stdlib.h>

struct peer *peer_new(struct str routing)
{
	struct peer *p = xzalloc(sizeof(*p));
	char *copy = xmalloc(routing.len + 1);
	memcpy(copy, routing.ptr, routing.len);
	p->routing = str_n(copy, routing.len);
	return p;
}

static void drop_held(struct peer *p)
{
	map_free(take(p->held));
	arena_free(take(p->held_arena));
}

static void drop_snapshot(struct peer *p)
{
	for (; p->next < p->todo.len; p->next++)
		bus_value_unref(p->todo.items[p->next]);
	vec_done(&p->todo);
	p->next = 0;
	p->under_way = 0;
	p->sending = false;
	p->waiting = false;
}

void peer_free(struct peer *p)
{
	if (!p)
		return;
	drop_held(p);
	drop_snapshot(p);
	free((char *)(uintptr_t)p->routing.ptr);
	free(p);
}

static bool start_request(struct peer *p, const Bus__SnapshotRequest *r, struct err *e)
{
	drop_held(p);
	drop_snapshot(p);
	if (r->protocol != BUS_PROTOCOL)
		return err_set(e, ERR_PEER, "protocol %u, this publisher speaks %u", r->protocol, BUS_PROTOCOL);
	if (r->n_topics > PEER_TOPICS_MAX)
		return err_set(e, ERR_LIMIT, "%zu topics, the limit is %u", r->n_topics, PEER_TOPICS_MAX);
	size_t n = 0;
	for (size_t i = 0; i < r->n_topics; i++)
		if (r->topics[i])
			p->topics[n++] = r->topics[i];
	p->topics[n] = 0;
	(void)snprintf(p->role, sizeof(p->role), "%s", r->role);
	(void)snprintf(p->instance, sizeof(p->instance), "%s", r->instance);
	p->request = r->request;
	p->held = map_new();
	p->held_arena = arena_new();
	return true;
}

bool peer_request(struct peer *p, const Bus__SnapshotRequest *r, bool *ret_complete, struct err *e)
{
	if ((!p->held || p->request != r->request) && !start_request(p, r, e))
		return false;
	if (map_len(p->held) + r->n_held > LIMIT_BUS_KEYS) {
		drop_held(p);
		return err_set(e, ERR_LIMIT, "more than %u held keys", LIMIT_BUS_KEYS);
	}
	for (size_t i = 0; i < r->n_held; i++) {
		struct bus_id id;
		uint64_t *hash = ARENA_NEW(p->held_arena, uint64_t);
		*hash = r->held[i]->hash;
		(void)map_put(p->held, bus_id(&id, r->held[i]->topic, str_of(r->held[i]->key)), hash);
	}
	*ret_complete = !r->more;
	return true;
}

static void add_deletions(struct peer *p)
{
	size_t cursor = 0;
	struct str id;
	void *hash = NULL;
	while (map_next(p->held, &cursor, &id, &hash)) {
		const struct bus_change gone = {.topic = bus_id_topic(id), .key = bus_id_key(id)};
		if (wire_topic_listed(p->topics, gone.topic))
			vec_push(&p->todo, bus_value_new(&gone));
	}
}

void peer_begin(struct peer *p, const struct store *s, uint64_t sequence)
{
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (map_next(s->values, &cursor, &id, &value)) {
		struct bus_value *v = value;
		if (!wire_topic_listed(p->topics, v->change.topic))
			continue;
		const uint64_t *held = map_del(p->held, id);
		if (!held || *held != v->change.hash)
			vec_push(&p->todo, bus_value_ref(v));
	}
	add_deletions(p);
	drop_held(p);
	p->waiting = false;
	p->sending = true;
	p->snapshot_sequence = sequence;
	p->snapshots++;
}

bool peer_next_chunk(struct peer *p, struct arena *a, Bus__SnapshotChunk *out)
{
	if (!p->sending || p->under_way >= LIMIT_BUS_WINDOW_CHUNKS)
		return false;
	size_t n = 0;
	size_t bytes = 0;
	while (p->next + n < p->todo.len) {
		bytes += wire_change_bytes(&p->todo.items[p->next + n]->change);
		if (bytes > LIMIT_BUS_CHUNK_BYTES && n > 0)
			break;
		n++;
	}
	struct bus_change *changes = ARENA_ARRAY(a, struct bus_change, n + 1);
	for (size_t i = 0; i < n; i++)
		changes[i] = p->todo.items[p->next + i]->change;
	bus__snapshot_chunk__init(out);
	out->changes = wire_changes(a, changes, n);
	out->n_changes = n;
	out->last = p->next + n == p->todo.len;
	out->resource_count = p->todo.len;
	out->request = p->request;
	return true;
}

void peer_sent(struct peer *p, const Bus__SnapshotChunk *c)
{
	for (size_t i = 0; i < c->n_changes; i++)
		bus_value_unref(p->todo.items[p->next++]);
	p->under_way++;
	if (c->last)
		drop_snapshot(p);
}

void peer_credit(struct peer *p, const Bus__Credit *c)
{
	if (c->request == p->request)
		p->under_way -= c->chunks < p->under_way ? c->chunks : p->under_way;
}
