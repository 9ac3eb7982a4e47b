/*
 * struct err says that *we could not do it*: I/O, protocol, a bug of ours. (The user's configuration being wrong is
 * data, not an error: see diag.h.) A function that can fail takes `struct err *e` last and returns false; callers add
 * where they were with err_in() on the way up; only the top of the chain logs or answers. `e` may be NULL.
 */
#pragma once

#include "common/base/util.h"

enum err_kind {
	ERR_NONE,
	ERR_BUG, /* ours */
	ERR_PEER, /* what the other side sent is wrong */
	ERR_SYSTEM, /* the kernel said no */
	ERR_LIBRARY, /* a library said no */
	ERR_LIMIT, /* a documented bound was reached */
	ERR_DENIED, /* not allowed: authentication, authorisation, policy */
	ERR_COUNT
};

struct err {
	enum err_kind kind;
	char text[480];
};

/* All return false, so that `return err_set(...)` reads well. */
bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool err_errno(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3); /* adds ": strerror(errno)"; ERR_SYSTEM */
bool err_in(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3); /* prefixes "<context>: " */
const char *err_kind_name(enum err_kind kind);
