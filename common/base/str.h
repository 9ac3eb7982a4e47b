/*
 * struct str is a view: pointer and length, not owned, not necessarily NUL-terminated. strbuf is an owned, growing
 * buffer that stays NUL-terminated. Numbers are parsed by the checked helpers here, never by atoi or strtol.
 */
#pragma once

#include <string.h>

#include "common/base/util.h"

struct str {
	const char *ptr;
	size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FMT "%.*s"
#define STR_ARG(s) ((int)(s).len), ((s).ptr ? (s).ptr : "")

static inline struct str str_of(const char *s)
{
	return (struct str){s, s ? strlen(s) : 0};
}

static inline struct str str_n(const void *ptr, size_t len)
{
	return (struct str){ptr, len};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_eqc(struct str a, const char *b)
{
	return str_eq(a, str_of(b));
}

/* NULL counts as the empty string, for protobuf-c's fields. */
static inline bool streq(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static inline bool str_empty(const char *s)
{
	return !s || !*s;
}

int str_cmp(struct str a, struct str b); /* bytes, shorter first on a common prefix */
bool str_ieq(struct str a, struct str b); /* ASCII case folded */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
struct str str_trim(struct str s); /* without white space at both ends */
struct str str_from(struct str s, size_t start); /* s[start..], empty when past the end */
struct str str_sub(struct str s, size_t start, size_t len);
bool str_find(struct str s, char c, size_t *at);
bool str_rfind(struct str s, char c, size_t *at);
/* Takes what stands before `sep` (or all) off the front of *rest; false when *rest is already used up. */
bool str_split(struct str *rest, char sep, struct str *part);
/* "a/b/c" at the first / last sep; false and head = s when there is none. */
bool str_cut(struct str s, char sep, struct str *head, struct str *tail);

/* Whole string, decimal, no sign for the unsigned ones; false leaves *out alone. */
bool str_u64(struct str s, uint64_t max, uint64_t *out) MUST_CHECK;
bool str_i64(struct str s, int64_t min, int64_t max, int64_t *out) MUST_CHECK;
bool str_u32(struct str s, uint32_t max, uint32_t *out) MUST_CHECK;
bool str_double(struct str s, double *out) MUST_CHECK;
/* Go durations as Istio's YAML has them: "1h30m", "250ms", "0s", "1.5s"; nanoseconds. */
bool str_duration(struct str s, int64_t *out_ns) MUST_CHECK;

struct strbuf {
	char *ptr; /* NUL-terminated, or NULL while empty */
	size_t len;
	size_t cap;
};

void strbuf_done(struct strbuf *b);
void strbuf_add(struct strbuf *b, struct str s);
void strbuf_addc(struct strbuf *b, char c);
void strbuf_adds(struct strbuf *b, const char *s);
void strbuf_addf(struct strbuf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strbuf_clear(struct strbuf *b);
struct str strbuf_str(const struct strbuf *b);
char *strbuf_take(struct strbuf *b); /* the caller frees it; never NULL */
/* Appends s as a JSON string with quotes, escaped; bytes that are not UTF-8 become U+FFFD. */
void strbuf_add_json(struct strbuf *b, struct str s);
