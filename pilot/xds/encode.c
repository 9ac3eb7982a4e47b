/*
 * DOC: Packing of resources. The wire bytes are written by hand around the packed message, because that is the only way to have one
 * piece of memory serve a state-of-the-world response, a delta response and any number of streams without copying.
 *
 * Chunks: the thousands of resources that the first proxy of a kind asks for are packed into buffers of CHUNK_BYTES, in the order of their
 * names. What is made later, one by one, has buffers of its own: a chunk that has lost some of its members is kept by the others, so that
 * at most as much is wasted as the first packing took.
 */
#include "pilot/xds/encode.h"

#include <stdlib.h>

#include "common/base/hash.h"
#include "pilot/xds/wire.h"

#define CHUNK_BYTES (256u << 10)
#define CHUNK_MEMBER_MAX (CHUNK_BYTES / 8) /* larger resources have a buffer of their own */

struct xds_store {
	struct xds_resource **table;
	size_t cap, len;
	bool bulk;
	struct buf *chunk; /* NULL: none */
	size_t used;
};

struct xds_store *xds_store_new(void)
{
	struct xds_store *s = xzalloc(sizeof(*s));
	s->cap = 256;
	s->table = xzalloc(s->cap * sizeof(*s->table));
	return s;
}

static void end_chunk(struct xds_store *s)
{
	buf_unref_p(&s->chunk);
	s->chunk = NULL;
	s->used = 0;
}

void xds_store_free(struct xds_store *s)
{
	if (!s)
		return;
	assert(!s->len);
	end_chunk(s);
	free(s->table);
	free(s);
}

void xds_store_bulk(struct xds_store *s, bool on)
{
	s->bulk = on;
}

size_t xds_store_len(const struct xds_store *s)
{
	return s->len;
}

static struct xds_resource **place_of(const struct xds_store *s, uint64_t key)
{
	return &s->table[key & (s->cap - 1)];
}

static void grow(struct xds_store *s)
{
	struct xds_resource **old = s->table;
	size_t cap = s->cap;
	s->cap *= 2;
	s->table = xzalloc(s->cap * sizeof(*s->table));
	for (size_t i = 0; i < cap; i++) {
		while (old[i]) {
			struct xds_resource *r = old[i];
			old[i] = r->next;
			r->next = *place_of(s, r->key);
			*place_of(s, r->key) = r;
		}
	}
	free(old);
}

static void put(struct xds_store *s, struct xds_resource *r)
{
	if (s->len == s->cap)
		grow(s);
	r->store = s;
	r->next = *place_of(s, r->key);
	*place_of(s, r->key) = r;
	s->len++;
}

static void leave(struct xds_resource *r)
{
	struct xds_store *s = r->store;
	if (!s)
		return;
	struct xds_resource **p = place_of(s, r->key);
	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	r->store = NULL;
	s->len--;
}

static struct xds_resource *find_equal(const struct xds_store *s, const struct xds_resource *r)
{
	struct xds_resource *i = *place_of(s, r->key);
	for (; i; i = i->next) {
		if (i->key == r->key && i->head_len == r->head_len && i->body_len == r->body_len &&
			!memcmp(i->bytes, r->bytes, (size_t)r->head_len + r->body_len))
			return i;
	}
	return NULL;
}

/* Lengths of the nested fields, from the inside out. */
struct lengths {
	size_t value, any, body, fields, head;
};

static struct lengths measure(enum xds_type type, struct str name, const ProtobufCMessage *m)
{
	struct lengths l = {.value = protobuf_c_message_get_packed_size(m)};
	l.any = wire_field_len(strlen(xds_type_info(type)->url)) + wire_field_len(l.value);
	l.body = wire_field_len(l.any);
	l.fields = wire_field_len(XDS_VERSION_TEXT - 1) + wire_field_len(name.len);
	l.head = 1 + wire_varint_len(l.fields + l.body) + l.fields;
	return l;
}

static uint64_t write_body(uint8_t *p, enum xds_type type, const struct lengths *l, const ProtobufCMessage *m)
{
	struct str url = str_of(xds_type_info(type)->url);
	p = wire_put_field(p, 2, l->any);
	p = wire_put_bytes(p, 1, url.ptr, url.len);
	p = wire_put_field(p, 2, l->value);
	(void)protobuf_c_message_pack(m, p);
	uint64_t version = hash64(str_n(p, l->value)) & ((1ull << XDS_VERSION_BITS) - 1);
	return version <= XDS_VERSION_ABSENT ? XDS_VERSION_ABSENT + 1 : version;
}

static void write_head(uint8_t *p, struct str name, uint64_t version, const struct lengths *l)
{
	char text[XDS_VERSION_TEXT];
	xds_version_format(version, text);
	p = wire_put_field(p, 2, l->fields + l->body);
	p = wire_put_bytes(p, 1, text, XDS_VERSION_TEXT - 1);
	(void)wire_put_bytes(p, 3, name.ptr, name.len);
}

/* Room for a resource: in the chunk while there is a bulk, else of its own. One reference for the caller. */
static uint8_t *make_room(struct xds_store *s, size_t len, struct buf **home)
{
	if (!s->bulk || len > CHUNK_MEMBER_MAX) {
		*home = buf_new(len);
		return (*home)->data;
	}
	if (!s->chunk || s->chunk->len - s->used < len) {
		end_chunk(s);
		s->chunk = buf_new(CHUNK_BYTES);
	}
	*home = buf_ref(s->chunk);
	return s->chunk->data + s->used;
}

struct xds_resource *xds_encode(
	struct xds_store *s, enum xds_type type, struct str name, const ProtobufCMessage *message)
{
	struct lengths l = measure(type, name, message);
	struct buf *home;
	uint8_t *bytes = make_room(s, l.head + l.body, &home);
	uint64_t version = write_body(bytes + l.head, type, &l, message);

	write_head(bytes, name, version, &l);
	struct xds_resource made = {.refs = 1,
		.head_len = (uint32_t)l.head,
		.body_len = (uint32_t)l.body,
		.version = version,
		.key = version ^ hash64_seed(name, type),
		.home = home,
		.bytes = bytes};
	struct xds_resource *known = find_equal(s, &made);
	if (known) {
		buf_unref(home);
		return xds_resource_ref(known);
	}
	if (home == s->chunk)
		s->used += l.head + l.body;
	struct xds_resource *r = xmalloc(sizeof(*r));
	*r = made;
	put(s, r);
	return r;
}

struct xds_resource *xds_resource_ref(struct xds_resource *r)
{
	r->refs++;
	return r;
}

void xds_resource_unref(struct xds_resource *r)
{
	if (!r || --r->refs)
		return;
	leave(r);
	buf_unref(r->home);
	free(r);
}

void xds_resource_drop_bytes(struct xds_resource *r)
{
	if (r->refs > 1 || !r->home)
		return;
	leave(r);
	buf_unref_p(&r->home);
	r->home = NULL;
	r->bytes = NULL;
}

size_t xds_resource_bytes(const struct xds_resource *r)
{
	return sizeof(*r) + (r->home ? (size_t)r->head_len + r->body_len : 0);
}

struct buf_slice xds_resource_slice(const struct xds_resource *r, enum xds_mode mode)
{
	assert(r->home);
	if (mode == XDS_DELTA)
		return (struct buf_slice){r->home, r->bytes, (size_t)r->head_len + r->body_len};
	return (struct buf_slice){r->home, r->bytes + r->head_len, r->body_len};
}

static size_t skip_field_header(const uint8_t *p, size_t *len)
{
	size_t at = 1, value = 0;
	for (unsigned shift = 0;; shift += 7) {
		uint8_t c = p[at++];
		value |= (size_t)(c & 0x7fu) << shift;
		if (!(c & 0x80u))
			break;
	}
	*len = value;
	return at;
}

struct str xds_resource_message(const struct xds_resource *r)
{
	size_t len;
	const uint8_t *p = r->bytes + r->head_len;
	p += skip_field_header(p, &len); /* the Any */
	p += skip_field_header(p, &len); /* its type URL */
	p += len;
	p += skip_field_header(p, &len);
	return str_n(p, len);
}

void xds_version_format(uint64_t version, char out[XDS_VERSION_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < XDS_VERSION_TEXT - 1; i++, version <<= 4)
		out[i] = digits[version >> 60];
	out[XDS_VERSION_TEXT - 1] = 0;
}

uint64_t xds_version_parse(struct str text)
{
	uint64_t v = 0;
	if (text.len != XDS_VERSION_TEXT - 1)
		return XDS_VERSION_NONE;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		unsigned digit;
		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (unsigned)(c - 'a') + 10;
		else
			return XDS_VERSION_NONE;
		v = v << 4 | digit;
	}
	return v >> XDS_VERSION_BITS ? XDS_VERSION_NONE : v;
}
