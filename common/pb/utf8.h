/*
 * UTF-8 by RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF.
 */
#pragma once

#include "common/base/str.h"

/* The code point at the front of s and its length in bytes; false when s does not begin with one. */
bool utf8_next(struct str s, uint32_t *code, size_t *len) MUST_CHECK;
/* How many bytes at the front of s are whole code points. */
size_t utf8_valid_len(struct str s);
