/*
 * DOC: Frames as C structures and back. Everything that came from outside passes wire_unpack(): its size, the form of
 * its keys and the size of its values are checked here and nowhere else. Topics that this build does not know are
 * dropped silently, since an older subscriber must live with a newer publisher; topics that the publisher's role does
 * not own are dropped and counted, since they are never legitimate.
 */
#include "common/bus/wire.h"

#include <string.h>

#include "common/base/hash.h"
#include "common/mesh/kinds.h"
#include "common/pb/pb.h"

struct str bus_id(struct bus_id *buf, uint32_t topic, struct str key)
{
	assert(key.len <= LIMIT_BUS_KEY_BYTES);
	for (unsigned i = 0; i < 4; i++)
		buf->bytes[i] = (char)(topic >> (24 - 8 * i));
	if (key.len)
		memcpy(buf->bytes + 4, key.ptr, key.len);
	return str_n(buf->bytes, 4 + key.len);
}

uint32_t bus_id_topic(struct str id)
{
	uint32_t topic = 0;
	for (unsigned i = 0; i < 4; i++)
		topic = topic << 8 | (unsigned char)id.ptr[i];
	return topic;
}

struct str bus_id_key(struct str id)
{
	return str_from(id, 4);
}

uint64_t bus_hash(struct str value)
{
	uint64_t h = hash64(value);
	return h ? h : 1;
}

const char *wire_change_problem(const struct bus_change *c)
{
	if (c->key.len == 0)
		return "empty key";
	if (c->key.len > LIMIT_BUS_KEY_BYTES)
		return "key too long";
	if (memchr(c->key.ptr, 0, c->key.len))
		return "key with a NUL";
	if (c->value.len > LIMIT_BUS_VALUE_BYTES)
		return "value too large";
	if (c->origin.len > LIMIT_BUS_KEY_BYTES)
		return "origin too long";
	return NULL;
}

static struct bus_change change_of(const Bus__Change *m)
{
	struct bus_change c = {.topic = m->topic, .key = str_of(m->key), .origin = str_of(m->origin)};
	if (m->deleted)
		return c;
	c.value = m->value.len ? str_n(m->value.data, m->value.len) : str_n("", 0);
	c.hash = m->hash ? m->hash : bus_hash(c.value);
	return c;
}

static bool check_changes(Bus__Change *const *changes, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct bus_change c = change_of(changes[i]);
		const char *problem = wire_change_problem(&c);
		if (problem)
			return err_set(e, ERR_PEER, "change %zu of %zu: %s", i, n, problem);
	}
	return true;
}

static bool check_held(const Bus__SnapshotRequest *r, struct err *e)
{
	for (size_t i = 0; i < r->n_held; i++) {
		size_t len = strlen(r->held[i]->key);
		if (len == 0 || len > LIMIT_BUS_KEY_BYTES)
			return err_set(e, ERR_PEER, "held key %zu: %zu bytes, not 1..%u", i, len, LIMIT_BUS_KEY_BYTES);
	}
	return true;
}

static bool check_body(const Bus__Frame *f, struct err *e)
{
	switch (f->body_case) {
	case BUS__FRAME__BODY_BATCH:
		return check_changes(f->batch->changes, f->batch->n_changes, e);
	case BUS__FRAME__BODY_SNAPSHOT_CHUNK:
		return check_changes(f->snapshot_chunk->changes, f->snapshot_chunk->n_changes, e);
	case BUS__FRAME__BODY_REPORT:
		return check_changes(f->report->changes, f->report->n_changes, e);
	case BUS__FRAME__BODY_SNAPSHOT_REQUEST:
		return check_held(f->snapshot_request, e);
	case BUS__FRAME__BODY__NOT_SET:
	case BUS__FRAME__BODY_HEARTBEAT:
	case BUS__FRAME__BODY_REFUSAL:
	case BUS__FRAME__BODY_CREDIT:
	case _BUS__FRAME__BODY__CASE_IS_INT_SIZE:
		return true;
	}
	return true;
}

Bus__Frame *wire_unpack(struct arena *a, struct str bytes, struct err *e)
{
	if (bytes.len > LIMIT_BUS_FRAME_BYTES) {
		(void)err_set(
			e, ERR_LIMIT, "bus frame of %zu bytes, the limit is %u", bytes.len, LIMIT_BUS_FRAME_BYTES);
		return NULL;
	}
	Bus__Frame *f = PB_UNPACK(a, Bus__Frame, bus__frame, bytes.ptr, bytes.len, e);
	if (!f || !check_body(f, e)) {
		(void)err_in(e, "bus frame");
		return NULL;
	}
	return f;
}

void wire_pack(const Bus__Frame *f, zmq_msg_t *msg)
{
	int rc = zmq_msg_init_size(msg, bus__frame__get_packed_size(f));
	assert(rc == 0);
	(void)bus__frame__pack(f, zmq_msg_data(msg));
}

Bus__Change **wire_changes(struct arena *a, const struct bus_change *changes, size_t n)
{
	Bus__Change **out = ARENA_ARRAY(a, Bus__Change *, n ? n : 1);
	Bus__Change *messages = ARENA_ARRAY(a, Bus__Change, n ? n : 1);
	for (size_t i = 0; i < n; i++) {
		const struct bus_change *c = &changes[i];
		Bus__Change *m = out[i] = &messages[i];
		bus__change__init(m);
		m->topic = c->topic;
		m->key = arena_cstr(a, c->key);
		if (c->origin.len)
			m->origin = arena_cstr(a, c->origin);
		m->deleted = c->value.ptr == NULL;
		if (m->deleted)
			continue;
		m->hash = c->hash;
		m->value = (ProtobufCBinaryData){.len = c->value.len, .data = (uint8_t *)(uintptr_t)c->value.ptr};
	}
	return out;
}

bool wire_topic_listed(const uint32_t *topics, uint32_t id)
{
	for (; *topics; topics++)
		if (*topics == id)
			return true;
	return false;
}

size_t wire_changes_of(struct arena *a, Bus__Change *const *changes, size_t n, const char *publisher,
	const uint32_t *topics, struct bus_change **ret_changes, size_t *ret_foreign)
{
	struct bus_change *out = ARENA_ARRAY(a, struct bus_change, n ? n : 1);
	size_t kept = 0;
	for (size_t i = 0; i < n; i++) {
		const struct topic *t = topic_get(changes[i]->topic);
		if (!t)
			continue;
		if (!streq(t->publisher, publisher)) {
			(*ret_foreign)++;
			continue;
		}
		if (!topics || wire_topic_listed(topics, t->id))
			out[kept++] = change_of(changes[i]);
	}
	*ret_changes = out;
	return kept;
}

size_t wire_change_bytes(const struct bus_change *c)
{
	/* Tags and lengths of six fields, hash, and the length of the change itself: below 64. */
	return c->key.len + c->value.len + c->origin.len + 64;
}

size_t wire_fit(const struct bus_change *changes, size_t n)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++) {
		bytes += wire_change_bytes(&changes[i]);
		if (bytes > LIMIT_BUS_CHUNK_BYTES && i > 0)
			return i;
	}
	return n;
}

const struct bus_change *wire_public(struct arena *a, const struct bus_change *all, size_t n_all, size_t *n)
{
	struct bus_change *out;
	size_t i = 0;
	while (i < n_all && !bus_topic_private(all[i].topic))
		i++;
	*n = i;
	if (i == n_all)
		return all;
	out = ARENA_ARRAY(a, struct bus_change, n_all);
	memcpy(out, all, i * sizeof(*out));
	for (; i < n_all; i++)
		if (!bus_topic_private(all[i].topic))
			out[(*n)++] = all[i];
	return out;
}
