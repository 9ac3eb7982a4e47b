/*
 * Regular expressions by RE2, the engine that Envoy uses: what compiles here compiles there, and matching takes linear time.
 * re.cc is the C++ side, four functions of plain types; re.c is what others call. Pure computation, safe on any thread.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

struct re;

/* Whether the pattern compiles (and is within LIMIT_REGEX_BYTES and LIMIT_REGEX_PROGRAM); else e says why, in RE2's words. */
bool re_check(struct str pattern, struct err *e) MUST_CHECK;

struct re *re_new(struct str pattern, struct err *e); /* NULL on error */
void re_free(struct re *r); /* NULL is fine */
bool re_full_match(const struct re *r, struct str text);
