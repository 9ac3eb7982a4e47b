/*
 * Growing arrays of any type: `VEC(struct foo *) list = {0}; vec_push(&list, x); list.items[i]; vec_done(&list);`
 * The vector owns its array, not what the items point to.
 */
#pragma once

#include "common/base/util.h"

#define VEC(type) \
	struct { \
		type *items; \
		size_t len; \
		size_t cap; \
	}

#define vec_push(v, item) \
	do { \
		if ((v)->len == (v)->cap) \
			(v)->items = vec_grow((v)->items, &(v)->cap, sizeof(*(v)->items)); \
		(v)->items[(v)->len++] = (item); \
	} while (0)

#define vec_done(v) \
	do { \
		free((v)->items); \
		(v)->items = NULL; \
		(v)->len = (v)->cap = 0; \
	} while (0)

void *vec_grow(void *items, size_t *cap, size_t item_size);
