/*
 * DOC: Errors travel in a struct of the caller. The text is cut at the struct's size rather than allocated, so that
 * reporting an error can never fail; what is cut is the innermost part, because context is put in front.
 */
#include "common/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return false;
	e->kind = kind;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return false;
}

bool err_errno(struct err *e, const char *fmt, ...)
{
	int number = errno;
	char reason[128];
	size_t len;
	va_list ap;

	if (!e)
		return false;
	e->kind = ERR_SYSTEM;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	len = strlen(e->text);
	snprintf(e->text + len, sizeof(e->text) - len, ": %s", strerror_r(number, reason, sizeof(reason)));
	return false;
}

bool err_in(struct err *e, const char *fmt, ...)
{
	char inner[sizeof(e->text)];
	size_t len;
	va_list ap;

	if (!e)
		return false;
	memcpy(inner, e->text, sizeof(inner));
	inner[sizeof(inner) - 1] = '\0';
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	len = strlen(e->text);
	snprintf(e->text + len, sizeof(e->text) - len, ": %s", inner);
	return false;
}

const char *err_kind_name(enum err_kind kind)
{
	static const char *const names[ERR_COUNT] = {
		[ERR_NONE] = "none",
		[ERR_BUG] = "bug",
		[ERR_PEER] = "peer",
		[ERR_SYSTEM] = "system",
		[ERR_LIBRARY] = "library",
		[ERR_LIMIT] = "limit",
		[ERR_DENIED] = "denied",
	};

	return (unsigned)kind < ERR_COUNT ? names[kind] : "unknown";
}
