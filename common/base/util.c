/*
 * DOC: Checked allocation. A control plane that cannot get memory cannot do anything sensible about it, so these
 * functions end the process; the limits of limits.h are what keeps inputs from causing that. Sizes of zero give a
 * valid, freeable pointer, so callers need no special case for empty content.
 */
#include "common/base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/vec.h"

static void *checked(void *p)
{
	if (!p) {
		static const char text[] = "fatal: out of memory\n";
		ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);

		(void)ignored;
		abort();
	}
	return p;
}

void *xmalloc(size_t size)
{
	return checked(malloc(size ? size : 1));
}

void *xzalloc(size_t size)
{
	return checked(calloc(1, size ? size : 1));
}

void *xrealloc(void *old, size_t size)
{
	return checked(realloc(old, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s ? s : ""));
}

char *xstrndup(const char *s, size_t len)
{
	char *copy = xmalloc(len + 1);

	if (len > 0)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&out, fmt, ap) < 0)
		out = NULL;
	va_end(ap);
	return checked(out);
}

void free_p(void *pointer_to_pointer)
{
	void *p;

	/* memcpy, because the pointed-to pointer may have any type. */
	memcpy(&p, pointer_to_pointer, sizeof(p));
	free(p);
}

void close_p(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

void *vec_grow(void *items, size_t *cap, size_t item_size)
{
	size_t first = item_size < 64 ? 64 / item_size : 1;
	size_t bigger = *cap ? *cap * 2 : first;
	size_t bytes = 0;

	if (bigger < *cap || __builtin_mul_overflow(bigger, item_size, &bytes))
		checked(NULL);
	*cap = bigger;
	return xrealloc(items, bytes);
}
