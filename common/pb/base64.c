/*
 * DOC: Base64 by RFC 4648, section 4 for writing; reading takes the URL alphabet of section 5, too, as proto3's JSON
 * mapping asks for.
 */
#include "common/pb/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_write(struct str data, struct strbuf *out)
{
	for (size_t i = 0; i < data.len; i += 3) {
		size_t n = min_size(data.len - i, 3);
		uint32_t bits = 0;
		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (k < n ? (uint8_t)data.ptr[i + k] : 0);
		for (size_t k = 0; k < 4; k++)
			strbuf_addc(out, k <= n ? alphabet[bits >> (18 - 6 * k) & 0x3f] : '=');
	}
}

static bool sextet(char c, uint32_t *out)
{
	if (c == '-')
		c = '+';
	if (c == '_')
		c = '/';
	const char *at = c ? strchr(alphabet, c) : NULL;
	if (at)
		*out = (uint32_t)(at - alphabet);
	return at != NULL;
}

bool base64_read(struct arena *a, struct str text, struct str *out)
{
	for (unsigned padding = 0; padding < 2 && text.len > 0 && text.ptr[text.len - 1] == '='; padding++)
		text.len--;
	if (text.len % 4 == 1)
		return false;
	char *data = arena_alloc(a, text.len / 4 * 3 + 3);
	size_t len = 0;
	uint32_t bits = 0;
	unsigned have = 0;
	for (size_t i = 0; i < text.len; i++) {
		uint32_t six;
		if (!sextet(text.ptr[i], &six))
			return false;
		bits = (bits << 6 | six) & 0xffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			data[len++] = (char)(bits >> have);
		}
	}
	*out = str_n(data, len);
	return true;
}
