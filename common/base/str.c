/*
 * DOC: Views of bytes: comparing, trimming, cutting. Nothing here allocates or copies; every result points into its
 * argument. Case folding is ASCII only, because host names and header names are.
 */
#include "common/base/str.h"

int str_cmp(struct str a, struct str b)
{
	size_t common = min_size(a.len, b.len);
	int order = common > 0 ? memcmp(a.ptr, b.ptr, common) : 0;

	if (order != 0)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool str_ieq(struct str a, struct str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	}
	return true;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && str_eq(str_n(s.ptr, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_eq(str_from(s, s.len - suffix.len), suffix);
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str str_trim(struct str s)
{
	while (s.len > 0 && is_space(s.ptr[0]))
		s = str_n(s.ptr + 1, s.len - 1);
	while (s.len > 0 && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

struct str str_from(struct str s, size_t start)
{
	if (start == 0)
		return s;
	if (start >= s.len)
		return str_n(s.ptr ? s.ptr + s.len : NULL, 0);
	return str_n(s.ptr + start, s.len - start);
}

struct str str_sub(struct str s, size_t start, size_t len)
{
	struct str rest = str_from(s, start);

	rest.len = min_size(rest.len, len);
	return rest;
}

bool str_find(struct str s, char c, size_t *at)
{
	const char *found = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;

	if (!found)
		return false;
	*at = (size_t)(found - s.ptr);
	return true;
}

bool str_rfind(struct str s, char c, size_t *at)
{
	for (size_t i = s.len; i > 0; i--) {
		if (s.ptr[i - 1] == c) {
			*at = i - 1;
			return true;
		}
	}
	return false;
}

/*
 * A used-up rest is a NULL pointer, so that "a," gives "a" and "" while an empty string that was never split gives
 * one empty part only when it has a pointer.
 */
bool str_split(struct str *rest, char sep, struct str *part)
{
	size_t at;

	if (!rest->ptr)
		return false;
	if (str_find(*rest, sep, &at)) {
		*part = str_n(rest->ptr, at);
		*rest = str_n(rest->ptr + at + 1, rest->len - at - 1);
		return true;
	}
	*part = *rest;
	*rest = (struct str){0};
	return true;
}

bool str_cut(struct str s, char sep, struct str *head, struct str *tail)
{
	size_t at;

	if (!str_find(s, sep, &at)) {
		*head = s;
		*tail = (struct str){0};
		return false;
	}
	*head = str_n(s.ptr, at);
	*tail = str_from(s, at + 1);
	return true;
}
