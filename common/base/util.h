/*
 * Small words that the whole tree is written with: attributes, scope-bound ownership, checked allocation.
 *
 * Memory does not run out here: allocation aborts the process, and in exchange every input has a limit (limits.h).
 * A local that owns something is declared `cleanup(fn)`; `take(p)` hands it over and leaves NULL behind.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))
#define cleanup(fn) __attribute__((cleanup(fn)))

#define take(p) \
	({ \
		__auto_type take_from_ = &(p); \
		__auto_type taken_ = *take_from_; \
		*take_from_ = NULL; \
		taken_; \
	})

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Never NULL; xcalloc and xzalloc give zeroed memory. Freed with free(). */
void *xmalloc(size_t size);
void *xzalloc(size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* For `cleanup(free_p)` on a pointer of any type that came from xmalloc. */
void free_p(void *pointer_to_pointer);
void close_p(const int *fd); /* for `cleanup(close_p) int fd = -1` */
