/*
 * An arena owns everything allocated from it and frees it at once. There is one arena per index, push, request or
 * parse; nothing inside is freed singly. Memory is zeroed and aligned to 16 bytes. An arena belongs to one thread
 * while it is filled; afterwards its content may be read by any. A pointer may lead from an arena to something that
 * lives longer only if arena_attach() recorded a reference to it.
 */
#pragma once

#include "common/base/ref.h"
#include "common/base/str.h"
#include "common/base/util.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a); /* NULL is fine */
void arena_free_p(struct arena **a);

void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size); /* aborts when count * size overflows */
void *arena_dup(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_cstr(struct arena *a, struct str s); /* NUL-terminated copy */
struct str arena_str(struct arena *a, struct str s); /* copy, also NUL-terminated */
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_attach(struct arena *a, struct ref *r); /* takes one reference, dropped with the arena */

/* For what lives long and whose size is known, about: its first piece has this size, the next one a quarter of it. */
struct arena *arena_new_sized(size_t bytes);
size_t arena_used(const struct arena *a); /* of what was taken from the system: what allocations took */
/* Bytes taken from the system, for debug pages and budgets. */
size_t arena_bytes(const struct arena *a);

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_array((a), (n), sizeof(type)))
