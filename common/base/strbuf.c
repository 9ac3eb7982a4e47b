/*
 * DOC: The growing buffer. It doubles, stays NUL-terminated, and its content may be appended to itself only after a
 * copy was made (the array moves). JSON strings are written here because the log, the admin pages and the codec all
 * need the same escaping.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/str.h"

static void reserve(struct strbuf *b, size_t more)
{
	size_t need;
	size_t cap = b->cap ? b->cap : 64;

	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 4)
		abort();
	need++;
	if (need <= b->cap)
		return;
	while (cap < need)
		cap *= 2;
	b->ptr = xrealloc(b->ptr, cap);
	b->cap = cap;
}

void strbuf_done(struct strbuf *b)
{
	free(b->ptr);
	*b = (struct strbuf){0};
}

void strbuf_add(struct strbuf *b, struct str s)
{
	reserve(b, s.len);
	if (s.len > 0)
		memcpy(b->ptr + b->len, s.ptr, s.len);
	b->len += s.len;
	b->ptr[b->len] = '\0';
}

void strbuf_addc(struct strbuf *b, char c)
{
	strbuf_add(b, str_n(&c, 1));
}

void strbuf_adds(struct strbuf *b, const char *s)
{
	strbuf_add(b, str_of(s));
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	int len;

	reserve(b, 64);
	va_start(ap, fmt);
	len = vsnprintf(b->ptr + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (len < 0)
		abort();
	if ((size_t)len >= b->cap - b->len) {
		reserve(b, (size_t)len);
		va_start(ap, fmt);
		vsnprintf(b->ptr + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)len;
}

void strbuf_clear(struct strbuf *b)
{
	b->len = 0;
	if (b->ptr)
		b->ptr[0] = '\0';
}

struct str strbuf_str(const struct strbuf *b)
{
	return str_n(b->ptr ? b->ptr : "", b->len);
}

char *strbuf_take(struct strbuf *b)
{
	char *out = b->ptr ? b->ptr : xstrdup("");

	*b = (struct strbuf){0};
	return out;
}

/* Length of the valid UTF-8 sequence at the start of s, 0 when there is none (RFC 3629: no surrogates, no overlong forms). */
static size_t utf8_len(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < n)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

static void add_escaped(struct strbuf *b, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t";
	static const char to[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		strbuf_addc(b, '\\');
		strbuf_addc(b, to[at - from]);
	} else if (c < 0x20 || c == 0x7f) {
		strbuf_addf(b, "\\u%04x", c);
	} else {
		strbuf_addc(b, (char)c);
	}
}

void strbuf_add_json(struct strbuf *b, struct str s)
{
	reserve(b, s.len + 2);
	strbuf_addc(b, '"');
	while (s.len > 0) {
		size_t n = utf8_len(s);

		if (n == 0)
			strbuf_adds(b, "\xef\xbf\xbd");
		else if (n == 1)
			add_escaped(b, (unsigned char)s.ptr[0]);
		else
			strbuf_add(b, str_sub(s, 0, n));
		s = str_from(s, max_size(n, 1));
	}
	strbuf_addc(b, '"');
}
