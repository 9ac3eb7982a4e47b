/*
 * DOC: Packing of resources. The wire bytes are written by hand around the packed message, because that is the only way to have one
 * piece of memory serve a state-of-the-world response, a delta response and any number of streams without copying.
 */
#include "pilot/xds/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"

#define TAG(field) (uint8_t)(((field) << 3) | 2u) /* length-delimited */

static size_t varint_len(size_t v)
{
	size_t n = 1;
	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

static uint8_t *put_field(uint8_t *p, unsigned field, size_t len)
{
	*p++ = TAG(field);
	while (len >= 0x80) {
		*p++ = (uint8_t)(len | 0x80u);
		len >>= 7;
	}
	*p++ = (uint8_t)len;
	return p;
}

static uint8_t *put_bytes(uint8_t *p, unsigned field, const void *bytes, size_t len)
{
	p = put_field(p, field, len);
	memcpy(p, bytes, len);
	return p + len;
}

static size_t field_len(size_t len)
{
	return 1 + varint_len(len) + len;
}

static struct buf *encode_body(enum xds_type type, const ProtobufCMessage *m, uint64_t *hash)
{
	struct str url = str_of(xds_type_info(type)->url);
	size_t value_len = protobuf_c_message_get_packed_size(m);
	size_t any_len = field_len(url.len) + field_len(value_len);
	struct buf *b = buf_new(field_len(any_len));
	uint8_t *p = put_field(b->data, 2, any_len);

	p = put_bytes(p, 1, url.ptr, url.len);
	p = put_field(p, 2, value_len);
	(void)protobuf_c_message_pack(m, p);
	*hash = hash64(str_n(p, value_len));
	return b;
}

static struct buf *encode_head(struct str name, uint64_t version, size_t body_len)
{
	char text[XDS_VERSION_TEXT];
	size_t version_len = XDS_VERSION_TEXT - 1;
	size_t fields = field_len(version_len) + field_len(name.len);
	struct buf *b = buf_new(1 + varint_len(fields + body_len) + fields);
	uint8_t *p = put_field(b->data, 2, fields + body_len);

	xds_version_format(version, text);
	p = put_bytes(p, 1, text, version_len);
	(void)put_bytes(p, 3, name.ptr, name.len);
	return b;
}

static void resource_destroy(struct ref *ref)
{
	struct xds_resource *r = container_of(ref, struct xds_resource, ref);
	buf_unref(r->head);
	buf_unref(r->body);
	free(r);
}

struct xds_resource *xds_encode(enum xds_type type, struct str name, const ProtobufCMessage *message)
{
	struct xds_resource *r = xzalloc(sizeof(*r));
	uint64_t hash;

	ref_init(&r->ref, resource_destroy);
	r->body = encode_body(type, message, &hash);
	r->version = hash & ((1ull << XDS_VERSION_BITS) - 1);
	if (r->version <= XDS_VERSION_ABSENT)
		r->version = XDS_VERSION_ABSENT + 1;
	r->head = encode_head(name, r->version, r->body->len);
	return r;
}

struct xds_resource *xds_resource_ref(struct xds_resource *r)
{
	(void)ref_get(&r->ref);
	return r;
}

void xds_resource_unref(struct xds_resource *r)
{
	if (r)
		ref_put(&r->ref);
}

size_t xds_resource_bytes(const struct xds_resource *r)
{
	return sizeof(*r) + 2 * sizeof(struct buf) + r->head->len + r->body->len;
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
	const uint8_t *p = r->body->data;
	p += skip_field_header(p, &len); /* the Any */
	p += skip_field_header(p, &len); /* its type URL */
	p += len;
	p += skip_field_header(p, &len);
	return str_n(p, len);
}

void xds_version_format(uint64_t version, char out[XDS_VERSION_TEXT])
{
	(void)snprintf(out, XDS_VERSION_TEXT, "%016" PRIx64, version);
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
