/*
 * DOC: A look at packed bytes before protobuf-c parses them.
 *
 * The walk follows the wire format by descriptor: it finds truncated values, wrong wire types, nesting beyond
 * LIMIT_PB_DEPTH, messages that would need more memory than LIMIT_PB_UNPACKED_BYTES (a field of two bytes may make a
 * message of hundreds), and strings that are not UTF-8 or hold a zero byte: protobuf-c ends a string there, so that what
 * we check and what another reader sees would differ. Groups and the wire types 6 and 7 are refused.
 */
#include "common/base/limits.h"
#include "common/pb/field.h"
#include "common/pb/pb.h"
#include "common/pb/utf8.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct wire {
	const uint8_t *at;
	const uint8_t *end;
};

struct check {
	size_t memory;
	bool unknown;
	struct err *e;
};

static bool check_message(struct check *c, const ProtobufCMessageDescriptor *d, struct wire w, unsigned depth);

static bool varint(struct wire *w, uint64_t *out)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 70 && w->at < w->end; shift += 7) {
		uint8_t byte = *w->at++;
		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*out = value;
			return true;
		}
	}
	return false;
}

/* The bytes of one value without its tag; for WIRE_BYTES what follows the length. */
static bool value_of(struct wire *w, unsigned wire_type, struct wire *out)
{
	uint64_t len = 0;
	const uint8_t *start = w->at;
	switch (wire_type) {
	case WIRE_VARINT:
		if (!varint(w, &len))
			return false;
		*out = (struct wire){start, w->at};
		return true;
	case WIRE_64:
		len = 8;
		break;
	case WIRE_32:
		len = 4;
		break;
	case WIRE_BYTES:
		if (!varint(w, &len))
			return false;
		break;
	default:
		return false;
	}
	if (len > (size_t)(w->end - w->at))
		return false;
	*out = (struct wire){w->at, w->at + len};
	w->at += len;
	return true;
}

static unsigned wire_type_of(ProtobufCType t)
{
	switch (t) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return WIRE_BYTES;
	case PROTOBUF_C_TYPE_DOUBLE:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return WIRE_64;
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return WIRE_32;
	default:
		return WIRE_VARINT;
	}
}

static bool check_packed(struct check *c, const ProtobufCFieldDescriptor *f, struct wire value)
{
	unsigned type = wire_type_of(f->type);
	size_t n = 0;
	struct wire item;
	while (value.at < value.end) {
		if (!value_of(&value, type, &item))
			return err_set(c->e, ERR_PEER, "%s: a packed list is cut off", f->name);
		n++;
	}
	c->memory += n * field_value_size(f);
	return true;
}

static bool check_string(struct check *c, const ProtobufCFieldDescriptor *f, struct wire value)
{
	struct str s = str_n(value.at, (size_t)(value.end - value.at));
	size_t zero;
	if (str_find(s, '\0', &zero))
		return err_set(c->e, ERR_PEER, "%s: a string holds a zero byte", f->name);
	if (utf8_valid_len(s) != s.len)
		return err_set(c->e, ERR_PEER, "%s: a string is not UTF-8", f->name);
	return true;
}

static bool check_field(
	struct check *c, const ProtobufCFieldDescriptor *f, unsigned wire_type, struct wire value, unsigned depth)
{
	unsigned expected = wire_type_of(f->type);
	c->memory += field_value_size(f) + (size_t)(value.end - value.at);
	if (wire_type != expected) {
		if (wire_type == WIRE_BYTES && f->label == PROTOBUF_C_LABEL_REPEATED)
			return check_packed(c, f, value);
		return err_set(c->e, ERR_PEER, "%s: wire type %u instead of %u", f->name, wire_type, expected);
	}
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return check_string(c, f, value);
	if (f->type != PROTOBUF_C_TYPE_MESSAGE)
		return true;
	if (check_message(c, f->descriptor, value, depth + 1))
		return true;
	/* The path to what is too deep would push the reason out of the text. */
	return c->e && c->e->kind != ERR_LIMIT ? err_in(c->e, "%s", f->name) : false;
}

static bool check_message(struct check *c, const ProtobufCMessageDescriptor *d, struct wire w, unsigned depth)
{
	if (depth > LIMIT_PB_DEPTH)
		return err_set(c->e, ERR_LIMIT, "messages are nested deeper than %u (LIMIT_PB_DEPTH)", LIMIT_PB_DEPTH);
	c->memory += d->sizeof_message;
	while (w.at < w.end) {
		uint64_t tag = 0;
		struct wire value;
		if (!varint(&w, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
			return err_set(c->e, ERR_PEER, "a field has no valid tag");
		if (!value_of(&w, (unsigned)(tag & 7), &value))
			return err_set(c->e, ERR_PEER, "field %u is cut off or has wire type %u", (unsigned)(tag >> 3),
				(unsigned)(tag & 7));
		const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
		if (!f)
			c->unknown = true;
		else if (!check_field(c, f, (unsigned)(tag & 7), value, depth))
			return false;
		if (c->memory > LIMIT_PB_UNPACKED_BYTES)
			return err_set(c->e, ERR_LIMIT,
				"unpacked, it needs more than %u bytes (LIMIT_PB_UNPACKED_BYTES)",
				LIMIT_PB_UNPACKED_BYTES);
	}
	return true;
}

bool pb_check_wire(const ProtobufCMessageDescriptor *d, const void *data, size_t len, bool *unknown, struct err *e)
{
	if (len > LIMIT_PB_MESSAGE_BYTES)
		return err_set(e, ERR_LIMIT, "%zu bytes are more than %u (LIMIT_PB_MESSAGE_BYTES)", len,
			LIMIT_PB_MESSAGE_BYTES);
	struct check c = {.e = e};
	if (len > 0 && !check_message(&c, d, (struct wire){data, (const uint8_t *)data + len}, 1))
		return false;
	*unknown = c.unknown;
	return true;
}
