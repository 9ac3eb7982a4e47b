/*
 * DOC: Requests, written by hand. The list of names that a state-of-the-world request repeats each time is packed once for all clients
 * that want the same names.
 */
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/pb/json.h"
#include "common/pb/pb.h"
#include "tests/bench/load_client.h"
#include "xds/core.pb-c.h"

enum { SOTW_VERSION = 1, SOTW_NODE = 2, SOTW_NAMES = 3, SOTW_TYPE = 4, SOTW_NONCE = 5 };
enum { DELTA_NODE = 1, DELTA_TYPE = 2, DELTA_SUBSCRIBE = 3, DELTA_UNSUBSCRIBE = 4, DELTA_INITIAL = 5, DELTA_NONCE = 6 };

void load_watch_room(struct load_watch *w, uint32_t name)
{
	if (name < w->cap)
		return;
	size_t cap = w->cap ? w->cap : 64;
	while (cap <= name)
		cap *= 2;
	w->held = xrealloc(w->held, cap * sizeof(*w->held));
	w->wanted = xrealloc(w->wanted, cap * sizeof(*w->wanted));
	w->absent = xrealloc(w->absent, cap * sizeof(*w->absent));
	memset(w->held + w->cap, 0, (cap - w->cap) * sizeof(*w->held));
	memset(w->wanted + w->cap, 0, (cap - w->cap) * sizeof(*w->wanted));
	memset(w->absent + w->cap, 0, (cap - w->cap) * sizeof(*w->absent));
	w->cap = cap;
}

static void send_request(struct load_client *c, const struct strbuf *b)
{
	struct buf *message = buf_copy(b->ptr, b->len);
	grpc_stream_send(c->grpc, message);
	buf_unref(message);
}

static void put_node(struct load_client *c, struct strbuf *b, uint32_t field)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct err e = {0};
	const void *node = pb_from_json_text(a, &core__node__descriptor, str_of(c->node_json), &e);
	if (!node)
		abort(); /* we wrote it */
	wire_put(b, field, pb_pack(a, node));
}

/* ---- state of the world */
static struct {
	uint64_t sum;
	struct strbuf packed;
} lists[64];

static uint64_t wanted_sum(const struct load_watch *w)
{
	uint64_t h = 1;
	for (uint32_t n = 1; n < w->cap; n++)
		if (w->wanted[n])
			h = (h ^ n) * 0x9e3779b97f4a7c15ull;
	return h;
}

static struct str names_of(struct load_client *c, enum load_type t)
{
	struct load_watch *w = &c->watches[t];
	uint64_t key = (w->wanted_sum ^ t) | 1;
	size_t at = (key >> 8) % ARRAY_LEN(lists);
	if (lists[at].sum != key) {
		lists[at].sum = key;
		strbuf_clear(&lists[at].packed);
		for (uint32_t n = 1; n < w->cap; n++)
			if (w->wanted[n])
				wire_put(&lists[at].packed, SOTW_NAMES, load_store_name_text(c->load->store, t, n));
	}
	return strbuf_str(&lists[at].packed);
}

static void send_sotw(struct load_client *c, enum load_type t, struct str nonce, bool first)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	struct load_watch *w = &c->watches[t];
	if (w->version[0])
		wire_put(&b, SOTW_VERSION, str_of(w->version));
	if (first)
		put_node(c, &b, SOTW_NODE);
	if (t == LOAD_EDS || t == LOAD_RDS)
		strbuf_add(&b, names_of(c, t));
	wire_put(&b, SOTW_TYPE, str_of(load_urls[t]));
	if (nonce.len)
		wire_put(&b, SOTW_NONCE, nonce);
	send_request(c, &b);
}

/* ---- delta */
static void put_initial(struct load_client *c, struct strbuf *b, enum load_type t)
{
	struct load_watch *w = &c->watches[t];
	struct strbuf entry cleanup(strbuf_done) = {0};
	for (uint32_t n = 1; n < w->cap; n++) {
		if (!w->held[n])
			continue;
		strbuf_clear(&entry);
		wire_put(&entry, 1, load_store_name_text(c->load->store, t, n));
		wire_put(&entry, 2, load_store_get(c->load->store, w->held[n])->version);
		wire_put(b, DELTA_INITIAL, strbuf_str(&entry));
	}
}

static bool first_of_stream(const struct load_client *c)
{
	for (unsigned t = 0; t < LOAD_TYPE_COUNT; t++)
		if (c->watches[t].open)
			return false;
	return true;
}

static void send_delta_first(struct load_client *c, enum load_type t, bool with_node)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	struct load_watch *w = &c->watches[t];
	if (with_node)
		put_node(c, &b, DELTA_NODE);
	wire_put(&b, DELTA_TYPE, str_of(load_urls[t]));
	for (uint32_t n = 1; (t == LOAD_EDS || t == LOAD_RDS) && n < w->cap; n++)
		if (w->wanted[n])
			wire_put(&b, DELTA_SUBSCRIBE, load_store_name_text(c->load->store, t, n));
	put_initial(c, &b, t);
	send_request(c, &b);
}

void load_send_first(struct load_client *c, enum load_type t)
{
	bool with_node = first_of_stream(c);
	struct load_watch *w = &c->watches[t];
	w->open = true;
	w->wanted_sum = wanted_sum(w);
	if (c->delta)
		send_delta_first(c, t, with_node);
	else
		send_sotw(c, t, (struct str){0}, with_node);
}

void load_send_ack(struct load_client *c, enum load_type t, struct str nonce)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	if (!c->delta) {
		send_sotw(c, t, nonce, false);
		return;
	}
	wire_put(&b, DELTA_TYPE, str_of(load_urls[t]));
	wire_put(&b, DELTA_NONCE, nonce);
	send_request(c, &b);
}

void load_send_names(struct load_client *c, enum load_type t, const uint32_t *added, const uint32_t *removed)
{
	struct strbuf b cleanup(strbuf_done) = {0};
	struct load_watch *w = &c->watches[t];
	uint64_t sum = wanted_sum(w);
	if (sum == w->wanted_sum)
		return;
	w->wanted_sum = sum;
	if (!c->delta) {
		send_sotw(c, t, str_of(w->nonce), false);
		return;
	}
	wire_put(&b, DELTA_TYPE, str_of(load_urls[t]));
	for (; *added; added++)
		wire_put(&b, DELTA_SUBSCRIBE, load_store_name_text(c->load->store, t, *added));
	for (; *removed; removed++)
		wire_put(&b, DELTA_UNSUBSCRIBE, load_store_name_text(c->load->store, t, *removed));
	send_request(c, &b);
}
