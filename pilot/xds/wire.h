/* The wire format of length-delimited fields, for what is written by hand around packed messages. */
#pragma once

#include "common/base/str.h"

static inline size_t wire_varint_len(size_t v)
{
	size_t n = 1;
	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

/* Of a field with a number below 16 and so many bytes. */
static inline size_t wire_field_len(size_t len)
{
	return 1 + wire_varint_len(len) + len;
}

/* Tag and length; returns where the content goes. */
static inline uint8_t *wire_put_field(uint8_t *p, unsigned field, size_t len)
{
	*p++ = (uint8_t)((field << 3) | 2u);
	while (len >= 0x80) {
		*p++ = (uint8_t)(len | 0x80u);
		len >>= 7;
	}
	*p++ = (uint8_t)len;
	return p;
}

static inline uint8_t *wire_put_bytes(uint8_t *p, unsigned field, const void *bytes, size_t len)
{
	p = wire_put_field(p, field, len);
	memcpy(p, bytes, len);
	return p + len;
}
