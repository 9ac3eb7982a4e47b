/*
 * DOC: Memory of HTTP/2 sessions. Each session of nghttp2 has a buffer for a whole frame, 16 kB, of which it uses some dozen bytes here,
 * because DATA goes out of our own queues. From malloc it would be memory that something else has used, so that all of it counts; as a
 * mapping of its own only the pages that are touched do. That is 12 kB for each connection, a third of what an idle one takes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/io/h2.h"

#define MAP_MIN 16384u

/* In front of each block; what follows is aligned to 16 bytes. */
struct block {
	size_t mapped; /* bytes of the mapping, this included; 0: from malloc */
	size_t size;
};

static void *take_block(size_t size)
{
	size_t whole = size + sizeof(struct block);
	struct block *b;
	if (whole < size)
		return NULL;
	if (size < MAP_MIN) {
		b = malloc(whole);
		if (!b)
			return NULL;
		*b = (struct block){0, size};
		return b + 1;
	}
	b = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b == MAP_FAILED)
		return NULL;
	*b = (struct block){whole, size};
	return b + 1;
}

static void *on_malloc(size_t size, void *ctx)
{
	(void)ctx;
	return take_block(size);
}

static void on_free(void *ptr, void *ctx)
{
	(void)ctx;
	struct block *b = ptr ? (struct block *)ptr - 1 : NULL;
	if (b && b->mapped)
		(void)munmap(b, b->mapped);
	else
		free(b);
}

static void *on_calloc(size_t n, size_t size, void *ctx)
{
	size_t bytes;
	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	void *p = on_malloc(bytes, ctx);
	if (p && bytes < MAP_MIN)
		memset(p, 0, bytes);
	return p;
}

static void *on_realloc(void *ptr, size_t size, void *ctx)
{
	void *p = on_malloc(size, ctx);
	if (p && ptr) {
		const struct block *b = (const struct block *)ptr - 1;
		memcpy(p, ptr, min_size(b->size, size));
		on_free(ptr, ctx);
	}
	return p;
}

nghttp2_mem *h2_memory(void)
{
	static nghttp2_mem mem = {NULL, on_malloc, on_free, on_calloc, on_realloc};
	return &mem;
}
