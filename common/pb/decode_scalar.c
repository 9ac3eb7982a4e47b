/*
 * DOC: Scalars to field values, as strict as Kubernetes' API server is with a typed object: a string field takes no bare
 * number or boolean, a number field no quoted number (but 64-bit integers, which JSON cannot hold and protobuf's mapping
 * therefore writes as strings). Ranges are those of the types. Enums take names, and numbers as protobuf's mapping does.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "common/base/base64.h"
#include "common/pb/codec.h"
#include "common/pb/scalar.h"
#include "wkt/struct.pb-c.h"

enum scalar_class { CLASS_SIGNED, CLASS_UNSIGNED, CLASS_REAL, CLASS_BOOL, CLASS_ENUM, CLASS_STRING, CLASS_BYTES };

static const struct {
	enum scalar_class class;
	bool wide; /* 64 bits */
} types[] = {
	[PROTOBUF_C_TYPE_INT32] = {CLASS_SIGNED, false},
	[PROTOBUF_C_TYPE_SINT32] = {CLASS_SIGNED, false},
	[PROTOBUF_C_TYPE_SFIXED32] = {CLASS_SIGNED, false},
	[PROTOBUF_C_TYPE_INT64] = {CLASS_SIGNED, true},
	[PROTOBUF_C_TYPE_SINT64] = {CLASS_SIGNED, true},
	[PROTOBUF_C_TYPE_SFIXED64] = {CLASS_SIGNED, true},
	[PROTOBUF_C_TYPE_UINT32] = {CLASS_UNSIGNED, false},
	[PROTOBUF_C_TYPE_FIXED32] = {CLASS_UNSIGNED, false},
	[PROTOBUF_C_TYPE_UINT64] = {CLASS_UNSIGNED, true},
	[PROTOBUF_C_TYPE_FIXED64] = {CLASS_UNSIGNED, true},
	[PROTOBUF_C_TYPE_FLOAT] = {CLASS_REAL, false},
	[PROTOBUF_C_TYPE_DOUBLE] = {CLASS_REAL, true},
	[PROTOBUF_C_TYPE_BOOL] = {CLASS_BOOL, false},
	[PROTOBUF_C_TYPE_ENUM] = {CLASS_ENUM, false},
	[PROTOBUF_C_TYPE_STRING] = {CLASS_STRING, false},
	[PROTOBUF_C_TYPE_BYTES] = {CLASS_BYTES, false},
};

/* The whole number of a node; 64-bit fields take it as a string, too. */
static bool whole_number(struct decoder *d, const struct node *n, bool wide, struct number *out)
{
	char words[NODE_WORDS_MAX];
	if (n->type == NODE_STRING && !wide && scalar_type(n->text) == NODE_NUMBER)
		return problem(
			d, n, "wrong-type", "a number is expected, got %s; remove the quotes", node_words(n, words));
	if (n->type != NODE_NUMBER && !(n->type == NODE_STRING && wide))
		return wrong_type(d, n, "a whole number");
	if (!scalar_number(n->text, out) || (!out->integral && !(fabs(out->real) >= 0x1p64 && isfinite(out->real))))
		return wrong_type(d, n, "a whole number");
	return true;
}

static bool decode_signed(struct decoder *d, const struct node *n, bool wide, void *value)
{
	struct number number;
	int64_t min = wide ? INT64_MIN : INT32_MIN;
	int64_t max = wide ? INT64_MAX : INT32_MAX;
	int64_t v;
	if (!whole_number(d, n, wide, &number))
		return false;
	if (!number_i64(&number, min, max, &v))
		return problem(d, n, "out-of-range", STR_FMT " is not in %lld..%lld", STR_ARG(n->text), (long long)min,
			(long long)max);
	if (wide)
		*(int64_t *)value = v;
	else
		*(int32_t *)value = (int32_t)v;
	return true;
}

static bool decode_unsigned(struct decoder *d, const struct node *n, bool wide, void *value)
{
	struct number number;
	uint64_t max = wide ? UINT64_MAX : UINT32_MAX;
	uint64_t v;
	if (!whole_number(d, n, wide, &number))
		return false;
	if (!number_u64(&number, max, &v))
		return problem(
			d, n, "out-of-range", STR_FMT " is not in 0..%llu", STR_ARG(n->text), (unsigned long long)max);
	if (wide)
		*(uint64_t *)value = v;
	else
		*(uint32_t *)value = (uint32_t)v;
	return true;
}

/* The three values that JSON has no number for. */
static bool real_name(struct str text, double *out)
{
	if (str_eqc(text, "NaN"))
		*out = NAN;
	else if (str_eqc(text, "Infinity"))
		*out = INFINITY;
	else if (str_eqc(text, "-Infinity"))
		*out = -INFINITY;
	else
		return false;
	return true;
}

static bool decode_real(struct decoder *d, const struct node *n, bool wide, void *value)
{
	struct number number = {0};
	if (n->type == NODE_NUMBER) {
		if (!scalar_number(n->text, &number) || !isfinite(number.real))
			return wrong_type(d, n, "a finite number");
		if (!wide && isinf((float)number.real))
			return problem(d, n, "out-of-range", STR_FMT " is too large for a float", STR_ARG(n->text));
	} else if (n->type != NODE_STRING || !real_name(n->text, &number.real)) {
		return wrong_type(d, n, "a number");
	}
	if (wide)
		*(double *)value = number.real;
	else
		*(float *)value = (float)number.real;
	return true;
}

static bool decode_bool(struct decoder *d, const struct node *n, void *value)
{
	if (n->type != NODE_BOOL)
		return wrong_type(d, n, "true or false");
	*(protobuf_c_boolean *)value = scalar_is_true(n->text);
	return true;
}

/* "A, B, C", as much of it as fits. */
static void enum_names(const ProtobufCEnumDescriptor *e, char *out, size_t size)
{
	size_t len = 0;
	out[0] = '\0';
	for (unsigned i = 0; i < e->n_values && len + 4 < size; i++) {
		int n = snprintf(out + len, size - len, "%s%s", i ? ", " : "", e->values[i].name);
		len += n > 0 ? (size_t)n : 0;
	}
	if (len >= size)
		memcpy(out + size - 4, "...", 4);
}

static bool bad_enum(struct decoder *d, const ProtobufCEnumDescriptor *e, const struct node *n)
{
	char names[600];
	char words[NODE_WORDS_MAX];
	enum_names(e, names, sizeof(names));
	return problem(d, n, "bad-enum", "one of %s is expected, got %s%s", names, node_words(n, words),
		n->type == NODE_BOOL ? "; quote it" : "");
}

static bool decode_enum(struct decoder *d, const ProtobufCFieldDescriptor *f, const struct node *n, void *value)
{
	const ProtobufCEnumDescriptor *e = f->descriptor;
	struct number number;
	int64_t v;
	if (e == &wkt__null_value__descriptor && n->type == NODE_NULL) {
		*(int32_t *)value = WKT__NULL_VALUE__NULL_VALUE;
		return true;
	}
	if (n->type == NODE_NUMBER && scalar_number(n->text, &number) &&
		number_i64(&number, INT32_MIN, INT32_MAX, &v)) {
		*(int32_t *)value = (int32_t)v;
		return true;
	}
	if (n->type != NODE_STRING)
		return bad_enum(d, e, n);
	const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value_by_name(e, n->text.ptr);
	if (!named)
		return bad_enum(d, e, n);
	*(int32_t *)value = named->value;
	return true;
}

static bool decode_string(struct decoder *d, const struct node *n, void *value)
{
	if (n->type != NODE_STRING)
		return wrong_type(d, n, "a string");
	*(char **)value = arena_cstr(d->arena, n->text);
	return true;
}

static bool decode_bytes(struct decoder *d, const struct node *n, void *value)
{
	struct str bytes;
	if (n->type != NODE_STRING)
		return wrong_type(d, n, "a string in base64");
	if (!base64_read(d->arena, n->text, &bytes))
		return problem(d, n, "bad-base64", "the text is not base64 (RFC 4648)");
	((ProtobufCBinaryData *)value)->len = bytes.len;
	((ProtobufCBinaryData *)value)->data = (uint8_t *)(uintptr_t)bytes.ptr;
	return true;
}

bool decode_scalar(struct decoder *d, const ProtobufCFieldDescriptor *f, const struct node *n, void *value)
{
	bool wide = types[f->type].wide;
	switch (types[f->type].class) {
	case CLASS_SIGNED:
		return decode_signed(d, n, wide, value);
	case CLASS_UNSIGNED:
		return decode_unsigned(d, n, wide, value);
	case CLASS_REAL:
		return decode_real(d, n, wide, value);
	case CLASS_BOOL:
		return decode_bool(d, n, value);
	case CLASS_ENUM:
		return decode_enum(d, f, n, value);
	case CLASS_STRING:
		return decode_string(d, n, value);
	case CLASS_BYTES:
		return decode_bytes(d, n, value);
	}
	return false;
}

/* Keys are always text in the document; the field's type says what they must look like. */
bool decode_map_key(
	struct decoder *d, const ProtobufCFieldDescriptor *f, struct str key, const struct node *n, void *value)
{
	struct node k = {.type = NODE_STRING, .line = n->line, .column = n->column, .text = key};
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return decode_string(d, &k, value);
	k.type = scalar_type(key);
	if (k.type == NODE_STRING || k.type == NODE_NULL)
		return wrong_type(
			d, &k, f->type == PROTOBUF_C_TYPE_BOOL ? "a key true or false" : "a key that is a number");
	return decode_scalar(d, f, &k, value);
}
