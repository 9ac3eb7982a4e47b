/*
 * A queue of bytes made of references to shared buffers; short pieces are copied together into small chunks of its own, so
 * that a frame header costs no entry and no system call. Used per stream (messages waiting) and per connection (frames).
 * An empty queue holds no memory.
 */
#pragma once

#include <sys/uio.h>

#include "common/io/buf.h"

struct outq {
	struct buf_slice *items;
	size_t head, len, cap; /* items[head .. len) wait */
	size_t bytes;
	struct buf *tail; /* chunk that short pieces go into */
	size_t tail_used;
};

void outq_copy(struct outq *q, const void *data, size_t len);
void outq_ref(struct outq *q, struct buf *b, const uint8_t *ptr, size_t len);
/* The first n bytes of src go to the end of dst. */
void outq_move(struct outq *dst, struct outq *src, size_t n);
size_t outq_iov(const struct outq *q, struct iovec *iov, size_t max);
void outq_consume(struct outq *q, size_t n);
void outq_done(struct outq *q);
