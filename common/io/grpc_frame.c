/*
 * DOC: gRPC framing, pure. The reader hands out a message straight from the input when it lies there whole, and copies only
 * what crosses a chunk. Its buffer doubles with what has arrived: a prefix that promises 64 MiB costs nothing until they come.
 */
#include "common/io/grpc_frame.h"

#include <stdio.h>
#include <stdlib.h>

void grpc_prefix(uint8_t out[GRPC_PREFIX], size_t len)
{
	out[0] = 0;
	out[1] = (uint8_t)(len >> 24);
	out[2] = (uint8_t)(len >> 16);
	out[3] = (uint8_t)(len >> 8);
	out[4] = (uint8_t)len;
}

static void take_head(struct grpc_reader *r, const uint8_t **data, size_t *len)
{
	while (r->head_len < GRPC_PREFIX && *len) {
		r->head[r->head_len++] = *(*data)++;
		(*len)--;
	}
	r->need = (uint32_t)r->head[1] << 24 | (uint32_t)r->head[2] << 16 | (uint32_t)r->head[3] << 8 | r->head[4];
}

static void keep(struct grpc_reader *r, const uint8_t **data, size_t *len)
{
	size_t n = min_size(*len, r->need - r->part_len);
	if (r->part_len + n > r->part_cap) {
		r->part_cap = min_size(max_size((r->part_len + n) * 2, 1024), r->need);
		r->part = xrealloc(r->part, r->part_cap);
	}
	if (n)
		memcpy(r->part + r->part_len, *data, n);
	r->part_len += n;
	*data += n;
	*len -= n;
}

enum grpc_read grpc_reader_next(
	struct grpc_reader *r, size_t max_bytes, const uint8_t **data, size_t *len, struct str *message)
{
	if (r->head_len == GRPC_PREFIX && r->part_len == r->need)
		grpc_reader_done(r); /* the message handed out before */
	take_head(r, data, len);
	if (r->head_len < GRPC_PREFIX)
		return GRPC_READ_MORE;
	if (r->head[0] > 1)
		return GRPC_READ_BAD_FLAG;
	if (r->head[0])
		return GRPC_READ_COMPRESSED;
	if (r->need > max_bytes)
		return GRPC_READ_TOO_LARGE;
	if (!r->part_len && *len >= r->need) {
		*message = str_n(*data, r->need);
		*data += r->need;
		*len -= r->need;
		r->head_len = 0;
		r->need = 0;
		return GRPC_READ_MESSAGE;
	}
	keep(r, data, len);
	if (r->part_len < r->need)
		return GRPC_READ_MORE;
	*message = str_n(r->part, r->part_len);
	return GRPC_READ_MESSAGE;
}

bool grpc_reader_midway(const struct grpc_reader *r)
{
	return r->head_len && !(r->head_len == GRPC_PREFIX && r->part_len == r->need);
}

void grpc_reader_done(struct grpc_reader *r)
{
	free(r->part);
	*r = (struct grpc_reader){0};
}

/* ---- header values */

static const struct {
	char unit;
	uint64_t num, den; /* milliseconds = value * num / den */
} units[] = {
	{'H', 3600000, 1},
	{'M', 60000, 1},
	{'S', 1000, 1},
	{'m', 1, 1},
	{'u', 1, 1000},
	{'n', 1, 1000000},
};

bool grpc_timeout_parse(struct str value, uint64_t *out_ms)
{
	uint64_t n;
	if (value.len < 2 || value.len > 9) /* at most eight digits and a unit */
		return false;
	if (!str_u64(str_sub(value, 0, value.len - 1), 99999999, &n))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (units[i].unit == value.ptr[value.len - 1]) {
			*out_ms = (n * units[i].num + units[i].den - 1) / units[i].den;
			return true;
		}
	}
	return false;
}

void grpc_timeout_format(uint64_t ms, char out[16])
{
	const uint64_t most = 99999999;
	if (ms <= most)
		(void)snprintf(out, 16, "%llum", (unsigned long long)ms);
	else if (ms / 1000 <= most)
		(void)snprintf(out, 16, "%lluS", (unsigned long long)(ms / 1000));
	else
		(void)snprintf(out, 16, "%lluH", (unsigned long long)(ms / 3600000 < most ? ms / 3600000 : most));
}

#define MESSAGE_MAX 4096u /* of a grpc-message before encoding; peers limit all headers together to 8 or 16 KiB */

void grpc_message_encode(struct strbuf *out, struct str message)
{
	for (size_t i = 0; i < min_size(message.len, MESSAGE_MAX); i++) {
		uint8_t c = (uint8_t)message.ptr[i];
		if (c < 0x20 || c > 0x7e || c == '%')
			strbuf_addf(out, "%%%02X", c);
		else
			strbuf_addc(out, (char)c);
	}
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

void grpc_message_decode(struct strbuf *out, struct str value)
{
	for (size_t i = 0; i < value.len; i++) {
		int high = -1, low = -1;
		if (value.ptr[i] == '%' && i + 2 < value.len) {
			high = hex(value.ptr[i + 1]);
			low = hex(value.ptr[i + 2]);
		}
		if (high >= 0 && low >= 0) {
			strbuf_addc(out, (char)(high * 16 + low));
			i += 2;
		} else {
			strbuf_addc(out, value.ptr[i]);
		}
	}
}

static const struct {
	enum grpc_status status;
	const char *name;
} names[] = {
	{GRPC_OK, "OK"},
	{GRPC_CANCELLED, "CANCELLED"},
	{GRPC_UNKNOWN, "UNKNOWN"},
	{GRPC_INVALID_ARGUMENT, "INVALID_ARGUMENT"},
	{GRPC_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"},
	{GRPC_NOT_FOUND, "NOT_FOUND"},
	{GRPC_PERMISSION_DENIED, "PERMISSION_DENIED"},
	{GRPC_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"},
	{GRPC_FAILED_PRECONDITION, "FAILED_PRECONDITION"},
	{GRPC_UNIMPLEMENTED, "UNIMPLEMENTED"},
	{GRPC_INTERNAL, "INTERNAL"},
	{GRPC_UNAVAILABLE, "UNAVAILABLE"},
	{GRPC_UNAUTHENTICATED, "UNAUTHENTICATED"},
};

const char *grpc_status_name(enum grpc_status s)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].status == s)
			return names[i].name;
	return "OTHER"; /* 6, 10, 11 and 15 are never ours */
}

static const struct {
	unsigned from;
	enum grpc_status to;
} http_map[] =
	{
		{400, GRPC_INTERNAL},
		{401, GRPC_UNAUTHENTICATED},
		{403, GRPC_PERMISSION_DENIED},
		{404, GRPC_UNIMPLEMENTED},
		{429, GRPC_UNAVAILABLE},
		{502, GRPC_UNAVAILABLE},
		{503, GRPC_UNAVAILABLE},
		{504, GRPC_UNAVAILABLE},
},
  rst_map[] = {
	  /* RFC 9113, 7: NO_ERROR..., CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, REFUSED_STREAM; others are INTERNAL. */
	  {7, GRPC_UNAVAILABLE},
	  {8, GRPC_CANCELLED},
	  {11, GRPC_RESOURCE_EXHAUSTED},
	  {12, GRPC_PERMISSION_DENIED},
};

enum grpc_status grpc_status_of_http(unsigned http_status)
{
	for (size_t i = 0; i < ARRAY_LEN(http_map); i++)
		if (http_map[i].from == http_status)
			return http_map[i].to;
	return GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_rst(uint32_t http2_error)
{
	for (size_t i = 0; i < ARRAY_LEN(rst_map); i++)
		if (rst_map[i].from == http2_error)
			return rst_map[i].to;
	return GRPC_INTERNAL;
}

bool grpc_content_type(struct str value)
{
	struct str base = STR("application/grpc");
	if (!str_starts(value, base))
		return false;
	return value.len == base.len || value.ptr[base.len] == '+' || value.ptr[base.len] == ';';
}
