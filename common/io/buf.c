/* DOC: Reference-counted bytes. Written once by who makes them, then shared by streams on any thread. */
#include <stdlib.h>
#include <string.h>

#include "common/io/buf.h"

static void destroy(struct ref *r)
{
	free(container_of(r, struct buf, ref));
}

struct buf *buf_new(size_t len)
{
	struct buf *b = xmalloc(sizeof(*b) + len);
	ref_init(&b->ref, destroy);
	b->len = len;
	return b;
}

struct buf *buf_copy(const void *data, size_t len)
{
	struct buf *b = buf_new(len);
	if (len)
		memcpy(b->data, data, len);
	return b;
}

struct buf *buf_ref(struct buf *b)
{
	(void)ref_get(&b->ref);
	return b;
}

void buf_unref(struct buf *b)
{
	if (b)
		ref_put(&b->ref);
}

void buf_unref_p(struct buf **b)
{
	buf_unref(*b);
	*b = NULL;
}
