/*
 * Reference counts for what is shared between threads and lifetimes. The count is atomic; the object behind it is
 * immutable once shared. The object embeds `struct ref` and says how it is destroyed.
 */
#pragma once

#include <stdatomic.h>

#include "common/base/util.h"

struct ref {
	atomic_uint count;
	void (*destroy)(struct ref *r);
};

void ref_init(struct ref *r, void (*destroy)(struct ref *r)); /* count 1 */
struct ref *ref_get(struct ref *r); /* one more; returns r */
void ref_put(struct ref *r); /* one less; NULL is fine */
