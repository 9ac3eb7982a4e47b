/*
 * DOC: UTF-8 by RFC 3629, section 4, read as a table: the first byte decides the length and the smallest code point that
 * may be written with it; a smaller one is an overlong form.
 */
#include "common/pb/utf8.h"

static const struct {
	uint8_t mask;
	uint8_t lead;
	uint8_t len;
	uint32_t min;
} forms[] = {
	{0x80, 0x00, 1, 0},
	{0xe0, 0xc0, 2, 0x80},
	{0xf0, 0xe0, 3, 0x800},
	{0xf8, 0xf0, 4, 0x10000},
};

bool utf8_next(struct str s, uint32_t *code, size_t *len)
{
	const uint8_t *p = (const uint8_t *)s.ptr;
	for (size_t i = 0; s.len > 0 && i < ARRAY_LEN(forms); i++) {
		if ((p[0] & forms[i].mask) != forms[i].lead)
			continue;
		uint32_t c = p[0] & (uint8_t)~forms[i].mask;
		if (forms[i].len > s.len)
			return false;
		for (size_t k = 1; k < forms[i].len; k++) {
			if ((p[k] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[k] & 0x3f);
		}
		if (c < forms[i].min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
		*code = c;
		*len = forms[i].len;
		return true;
	}
	return false;
}

size_t utf8_valid_len(struct str s)
{
	size_t at = 0;
	while (at < s.len) {
		uint32_t code;
		size_t len;
		if ((uint8_t)s.ptr[at] < 0x80) {
			at++;
			continue;
		}
		if (!utf8_next(str_from(s, at), &code, &len))
			break;
		at += len;
	}
	return at;
}
