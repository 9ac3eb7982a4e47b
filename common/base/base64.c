/*
 * DOC: Base64 by RFC 4648, section 4 for writing; reading takes the URL alphabet of section 5, too, as proto3's JSON
 * mapping asks for. Citadel reads and writes a PEM for each certificate, so it matters that this takes a nanosecond or two a character
 * (mbedTLS, which hides what it decodes, takes 40 us for a CSR).
 */
#include "common/base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void whole_group(const char *in, char out[4])
{
	uint32_t bits = (uint32_t)(uint8_t)in[0] << 16 | (uint32_t)(uint8_t)in[1] << 8 | (uint8_t)in[2];
	out[0] = alphabet[bits >> 18];
	out[1] = alphabet[bits >> 12 & 0x3f];
	out[2] = alphabet[bits >> 6 & 0x3f];
	out[3] = alphabet[bits & 0x3f];
}

/* The one or two bytes at the end. */
static void last_group(const char *in, size_t n, char out[4])
{
	const char padded[3] = {in[0], n > 1 ? in[1] : '\0', '\0'};
	whole_group(padded, out);
	out[3] = '=';
	if (n == 1)
		out[2] = '=';
}

void base64_write(struct str data, struct strbuf *out)
{
	char line[64];
	for (size_t i = 0; i < data.len; i += 48) {
		size_t len = 0, end = min_size(data.len, i + 48);
		size_t k = i;
		for (; k + 3 <= end; k += 3, len += 4)
			whole_group(data.ptr + k, line + len);
		if (k < end) {
			last_group(data.ptr + k, end - k, line + len);
			len += 4;
		}
		strbuf_add(out, str_n(line, len));
	}
}

/* 64: not of the alphabet. */
static uint32_t sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint32_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint32_t)(c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0' + 52);
	return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : 64;
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
		uint32_t six = sextet(text.ptr[i]);
		if (six > 63)
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
