/* Reference-counted bytes that wait in the queues of streams: written once, then shared, on any thread. */
#pragma once

#include "common/base/ref.h"

/* An immutable, reference-counted piece of bytes; the same piece may wait in thousands of streams. */
struct buf {
	struct ref ref;
	size_t len;
	uint8_t data[];
};
/* A part of a piece: the holder has a reference to buf. */
struct buf_slice {
	struct buf *buf;
	const uint8_t *ptr;
	size_t len;
};
struct buf *buf_new(size_t len); /* content to be filled in before sharing; count 1 */
struct buf *buf_copy(const void *data, size_t len);
struct buf *buf_ref(struct buf *b);
void buf_unref(struct buf *b); /* NULL is fine */
void buf_unref_p(struct buf **b);
