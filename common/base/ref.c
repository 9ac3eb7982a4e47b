/*
 * DOC: Atomic reference counts. The last ref_put() needs acquire ordering so that the destroyer sees everything the
 * other holders did; taking a reference needs none, because whoever takes one already holds one.
 */
#include "common/base/ref.h"

void ref_init(struct ref *r, void (*destroy)(struct ref *r))
{
	atomic_init(&r->count, 1);
	r->destroy = destroy;
}

struct ref *ref_get(struct ref *r)
{
	unsigned before = atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return r;
}

void ref_put(struct ref *r)
{
	unsigned before;

	if (!r)
		return;
	before = atomic_fetch_sub_explicit(&r->count, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before == 1)
		r->destroy(r);
}
