/* Random edits of a folder, the same in every run: files that are there or not, with one of several contents. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct slot {
	const char *file;
	const char *variants[8]; /* NULL-terminated */
};

static inline size_t n_variants(const struct slot *s)
{
	size_t n = 0;

	while (s->variants[n])
		n++;
	return n;
}

static inline uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}
