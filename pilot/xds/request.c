/*
 * DOC: The wire format of the two requests. Both are flat: strings, and the messages node and error_detail, which are left packed for
 * who needs them. The first pass checks everything, so that the later ones cannot fail.
 */
#include "pilot/xds/request.h"

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/pb/utf8.h"

#define NAME_BYTES_MAX 4096u

enum { VARINT = 0, FIXED_64 = 1, LENGTH_DELIMITED = 2, FIXED_32 = 5 };

struct field {
	uint32_t number;
	bool bytes; /* length-delimited */
	struct str value;
};

/* Advances *p, which is before end; false: the number does not end. */
static inline bool varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
	if (**p < 0x80) { /* nearly all of them */
		*out = *(*p)++;
		return true;
	}
	*out = 0;
	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t c = *(*p)++;
		*out |= (uint64_t)(c & 0x7fu) << shift;
		if (!(c & 0x80u))
			return true;
	}
	return false;
}

/* *p is before end. */
static inline bool next_field(const uint8_t **p, const uint8_t *end, struct field *out)
{
	uint64_t tag, len;

	if (!varint(p, end, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
		return false;
	*out = (struct field){.number = (uint32_t)(tag >> 3), .bytes = (tag & 7) == LENGTH_DELIMITED};
	switch (tag & 7) {
	case VARINT:
		return *p < end && varint(p, end, &len);
	case FIXED_64:
		len = 8;
		break;
	case LENGTH_DELIMITED:
		if (*p == end || !varint(p, end, &len))
			return false;
		break;
	case FIXED_32:
		len = 4;
		break;
	default:
		return false;
	}
	if (len > (size_t)(end - *p))
		return false;
	out->value = str_n(*p, len);
	*p += len;
	return true;
}

/* Where the fields of a request go; the rows of names lead to items. */
enum role {
	ROLE_NONE,
	ROLE_TYPE,
	ROLE_NONCE,
	ROLE_VERSION,
	ROLE_NODE,
	ROLE_ERROR,
	ROLE_NAME,
	ROLE_UNSUBSCRIBE,
	ROLE_INITIAL
};
#define FIELDS_MAX 8
static const uint8_t roles[XDS_MODE_COUNT][FIELDS_MAX] = {
	[XDS_SOTW] = {[1] = ROLE_VERSION,
		[2] = ROLE_NODE,
		[3] = ROLE_NAME,
		[4] = ROLE_TYPE,
		[5] = ROLE_NONCE,
		[6] = ROLE_ERROR},
	[XDS_DELTA] = {[1] = ROLE_NODE,
		[2] = ROLE_TYPE,
		[3] = ROLE_NAME,
		[4] = ROLE_UNSUBSCRIBE,
		[5] = ROLE_INITIAL,
		[6] = ROLE_NONCE,
		[7] = ROLE_ERROR},
};

static enum role role_of(enum xds_mode mode, const struct field *f)
{
	return f->bytes && f->number < FIELDS_MAX ? (enum role)roles[mode][f->number] : ROLE_NONE;
}

/* An entry of initial_resource_versions. */
static bool read_entry(struct str entry, struct str *key, struct str *value)
{
	struct field f;
	const uint8_t *p = (const uint8_t *)entry.ptr, *end = p + entry.len;
	*key = *value = (struct str){0};
	while (p < end) {
		if (!next_field(&p, end, &f))
			return false;
		if (f.bytes && f.number == 1)
			*key = f.value;
		else if (f.bytes && f.number == 2)
			*value = f.value;
	}
	return true;
}

static bool check_name(struct str name, size_t *count, struct err *e)
{
	if (name.len > NAME_BYTES_MAX)
		return err_set(e, ERR_LIMIT, "a resource name has %zu bytes, at most %u are accepted", name.len,
			NAME_BYTES_MAX);
	if (name.len && memchr(name.ptr, 0, name.len))
		return err_set(e, ERR_PEER, "a resource name has a NUL byte");
	if (utf8_valid_len(name) != name.len) /* it would come back in a response, which the client could not read */
		return err_set(e, ERR_PEER, "a resource name is not UTF-8");
	if (++*count > LIMIT_XDS_NAMES)
		return err_set(e, ERR_LIMIT, "more than %u resource names", LIMIT_XDS_NAMES);
	return true;
}

static bool take_field(struct xds_request *r, const struct field *f, struct err *e)
{
	struct str name, version;

	switch (role_of(r->mode, f)) {
	case ROLE_TYPE:
		r->type_url = f->value;
		return true;
	case ROLE_NONCE:
		r->nonce = f->value;
		return true;
	case ROLE_VERSION:
		r->version = f->value;
		return true;
	case ROLE_NODE:
		r->node = f->value;
		return true;
	case ROLE_ERROR:
		r->error = f->value;
		return true;
	case ROLE_NAME:
		return check_name(f->value, &r->n_names, e);
	case ROLE_UNSUBSCRIBE:
		return check_name(f->value, &r->n_unsubscribed, e);
	case ROLE_INITIAL:
		if (!read_entry(f->value, &name, &version))
			return err_set(e, ERR_PEER, "initial_resource_versions is not well-formed");
		return check_name(name, &r->n_initial, e);
	case ROLE_NONE:
		break;
	}
	return true;
}

bool request_parse(enum xds_mode mode, const void *data, size_t len, struct xds_request *out, struct err *e)
{
	const uint8_t *p = data, *end = p + len;
	struct field f;

	*out = (struct xds_request){.mode = mode, .raw = str_n(data, len)};
	while (p < end) {
		if (!next_field(&p, end, &f))
			return err_set(e, ERR_PEER, "not a protobuf message (at byte %zu)",
				(size_t)(p - (const uint8_t *)data));
		if (!take_field(out, &f, e))
			return false;
	}
	return true;
}

bool request_next(const struct xds_request *r, size_t *cursor, struct request_item *out)
{
	const uint8_t *begin = (const uint8_t *)r->raw.ptr, *p = begin + *cursor, *end = begin + r->raw.len;
	struct field f;

	*out = (struct request_item){0};
	while (p < end && next_field(&p, end, &f)) {
		*cursor = (size_t)(p - begin);
		enum role role = role_of(r->mode, &f);
		out->name = f.value;
		if (role == ROLE_NAME || role == ROLE_UNSUBSCRIBE) {
			out->what = role == ROLE_NAME ? REQUEST_NAME : REQUEST_UNSUBSCRIBE;
			return true;
		}
		if (role == ROLE_INITIAL) {
			out->what = REQUEST_INITIAL;
			return read_entry(f.value, &out->name, &out->version);
		}
	}
	return false;
}

/* Not to be known outside: who could make two lists of equal hash could make another proxy get the wrong one. */
static uint64_t seed;

__attribute__((constructor)) static void make_seed(void)
{
	seed = random_u64();
}

void request_parts(const struct xds_request *r, const struct translator *t, struct request_part out[SCOPE_KIND_COUNT],
	bool *star, bool *unstar)
{
	struct request_item i;

	*star = *unstar = false;
	for (unsigned k = 0; k < SCOPE_KIND_COUNT; k++)
		out[k].hash = out[k].n = 0;
	for (size_t cursor = 0; request_next(r, &cursor, &i);) {
		if (i.name.len == 1 && *i.name.ptr == '*' && i.what != REQUEST_INITIAL) {
			*(i.what == REQUEST_NAME ? star : unstar) = true;
			continue;
		}
		struct request_part *p = &out[t->scope(i.name)];
		uint64_t h = hash64_seed(i.name, seed + (uint64_t)i.what);
		if (i.what == REQUEST_INITIAL)
			h = hash64_seed(i.version, h);
		p->hash += h;
		if (p->n < REQUEST_FEW)
			p->few[p->n] = i;
		p->n++;
	}
}
