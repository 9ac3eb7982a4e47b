/*
 * DOC: Bump allocation in chunks. The first chunk is small, because thousands of arenas hold one small thing (a
 * request, a watch); each further chunk doubles up to a bound. A request that is large compared with the next chunk
 * gets a chunk of its own, linked behind the current one, so that the room left in the current one is not lost.
 * Under AddressSanitizer the unused part of every chunk is poisoned and every allocation is followed by a poisoned
 * gap, so that running past the end of an allocation is found as it would be with malloc.
 */
#include "common/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_GAP ((size_t)16)
#else
#define ARENA_GAP ((size_t)0)
#define ASAN_POISON_MEMORY_REGION(ptr, size) ((void)(ptr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(ptr, size) ((void)(ptr), (void)(size))
#endif

#define FIRST_CHUNK ((size_t)1024)
#define LARGEST_CHUNK ((size_t)1 << 20)
#define ALIGNMENT ((size_t)16)

struct chunk {
	struct chunk *next;
	size_t size; /* of data */
	size_t used;
	_Alignas(16) char data[];
};

struct attachment {
	struct attachment *next;
	struct ref *ref;
};

struct arena {
	struct chunk *current; /* where small allocations go; list of all through next */
	struct attachment *attached;
	size_t bytes;
	size_t next_size;
	bool sized; /* the first chunk is expected to be all */
};

static struct chunk *chunk_new(struct arena *a, size_t size)
{
	struct chunk *c;

	if (size > SIZE_MAX - sizeof(*c))
		abort();
	c = xzalloc(sizeof(*c) + size);
	c->size = size;
	a->bytes += sizeof(*c) + size;
	ASAN_POISON_MEMORY_REGION(c->data, size);
	return c;
}

static void *chunk_take(struct chunk *c, size_t size, size_t step)
{
	char *p = c->data + c->used;

	c->used += step;
	ASAN_UNPOISON_MEMORY_REGION(p, size);
	return p;
}

struct arena *arena_new(void)
{
	struct arena *a = xzalloc(sizeof(*a));

	a->bytes = sizeof(*a);
	a->next_size = FIRST_CHUNK;
	return a;
}

struct arena *arena_new_sized(size_t bytes)
{
	struct arena *a = arena_new();

	a->next_size = max_size(bytes, ALIGNMENT);
	a->sized = true;
	return a;
}

size_t arena_used(const struct arena *a)
{
	size_t used = 0;

	for (const struct chunk *c = a->current; c; c = c->next)
		used += c->used;
	return used;
}

void arena_free(struct arena *a)
{
	struct chunk *c;

	if (!a)
		return;
	/* References first: their records live in the chunks. */
	for (struct attachment *at = a->attached; at; at = at->next)
		ref_put(at->ref);
	c = a->current;
	while (c) {
		struct chunk *next = c->next;

		ASAN_UNPOISON_MEMORY_REGION(c->data, c->size);
		free(c);
		c = next;
	}
	free(a);
}

void arena_free_p(struct arena **a)
{
	arena_free(*a);
}

static void *alloc_slow(struct arena *a, size_t size, size_t step)
{
	struct chunk *c;

	if (a->current && step > a->next_size / 4) {
		c = chunk_new(a, step);
		c->next = a->current->next;
		a->current->next = c;
		return chunk_take(c, size, step);
	}
	c = chunk_new(a, max_size(a->next_size, step));
	c->next = a->current;
	a->current = c;
	if (a->sized) /* a little more than was expected */
		a->next_size = max_size(a->next_size / 4, 256);
	else
		a->next_size = min_size(a->next_size * 2, LARGEST_CHUNK);
	a->sized = false;
	return chunk_take(c, size, step);
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t step;

	if (size > SIZE_MAX / 2)
		abort();
	step = ((size ? size : 1) + ARENA_GAP + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (a->current && a->current->size - a->current->used >= step)
		return chunk_take(a->current, size, step);
	return alloc_slow(a, size, step);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		abort();
	return arena_alloc(a, bytes);
}

void *arena_dup(struct arena *a, const void *data, size_t size)
{
	void *copy = arena_alloc(a, size);

	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}

char *arena_cstr(struct arena *a, struct str s)
{
	char *copy;

	if (s.len == SIZE_MAX)
		abort();
	copy = arena_alloc(a, s.len + 1); /* zeroed, so NUL-terminated */
	if (s.len > 0)
		memcpy(copy, s.ptr, s.len);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_cstr(a, str_of(s));
}

struct str arena_str(struct arena *a, struct str s)
{
	return str_n(arena_cstr(a, s), s.len);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	char small[256];
	char *out;
	int len;
	va_list ap;

	va_start(ap, fmt);
	len = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (len < 0)
		abort();
	if ((size_t)len < sizeof(small))
		return arena_cstr(a, str_n(small, (size_t)len));
	out = arena_alloc(a, (size_t)len + 1);
	va_start(ap, fmt);
	vsnprintf(out, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return out;
}

void arena_attach(struct arena *a, struct ref *r)
{
	struct attachment *at = ARENA_NEW(a, struct attachment);

	at->ref = ref_get(r);
	at->next = a->attached;
	a->attached = at;
}

size_t arena_bytes(const struct arena *a)
{
	return a->bytes;
}
