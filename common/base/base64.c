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

/* One more than the value; 0: not of the alphabets. */
/* clang-format off */
static const uint8_t values[256] = {
	['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
	['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
	['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
	['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
	['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
	['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
	['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
	['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
	['-'] = 63, ['_'] = 64,
};
/* clang-format on */

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
		uint32_t value = values[(uint8_t)text.ptr[i]];
		if (!value)
			return false;
		bits = (bits << 6 | (value - 1)) & 0xffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			data[len++] = (char)(bits >> have);
		}
	}
	*out = str_n(data, len);
	return true;
}
