/*
 * DOC: The byte queue behind every stream and connection. Large pieces are references (a push to a thousand proxies holds one
 * copy), pieces up to COPY_MAX bytes are copied, because an iovec entry and a reference cost more than that.
 */
#include "common/io/outq.h"

#include <stdlib.h>
#include <string.h>

#define COPY_MAX 256u
#define CHUNK_MIN 128u
#define CHUNK_MAX 4096u

static void push(struct outq *q, struct buf *owned, const uint8_t *ptr, size_t len)
{
	if (q->len == q->cap && q->head) {
		memmove(q->items, q->items + q->head, (q->len - q->head) * sizeof(*q->items));
		q->len -= q->head;
		q->head = 0;
	}
	if (q->len == q->cap) {
		q->cap = q->cap ? q->cap * 2 : 4;
		q->items = xrealloc(q->items, q->cap * sizeof(*q->items));
	}
	q->items[q->len++] = (struct buf_slice){owned, ptr, len};
	q->bytes += len;
}

static void new_tail(struct outq *q, size_t need)
{
	/* Twice the last one: a queue that is used for one message takes little. */
	size_t size = q->tail ? min_size(q->tail->len * 2, CHUNK_MAX) : CHUNK_MIN;
	buf_unref(q->tail);
	q->tail = buf_new(max_size(size, need));
	q->tail_used = 0;
}

void outq_copy(struct outq *q, const void *data, size_t len)
{
	if (!len)
		return;
	if (!q->tail || q->tail->len - q->tail_used < len)
		new_tail(q, len);
	uint8_t *at = q->tail->data + q->tail_used;
	memcpy(at, data, len);
	q->tail_used += len;
	struct buf_slice *last = q->len > q->head ? &q->items[q->len - 1] : NULL;
	if (last && last->buf == q->tail && last->ptr + last->len == at) {
		last->len += len;
		q->bytes += len;
		return;
	}
	push(q, buf_ref(q->tail), at, len);
}

void outq_ref(struct outq *q, struct buf *b, const uint8_t *ptr, size_t len)
{
	if (len <= COPY_MAX)
		outq_copy(q, ptr, len);
	else
		push(q, buf_ref(b), ptr, len);
}

void outq_move(struct outq *dst, struct outq *src, size_t n)
{
	assert(n <= src->bytes);
	while (n) {
		struct buf_slice *p = &src->items[src->head];
		size_t part = min_size(n, p->len);
		outq_ref(dst, p->buf, p->ptr, part);
		outq_consume(src, part);
		n -= part;
	}
}

size_t outq_iov(const struct outq *q, struct iovec *iov, size_t max)
{
	size_t n = 0;
	for (size_t i = q->head; i < q->len && n < max; i++, n++)
		iov[n] = (struct iovec){.iov_base = (void *)(uintptr_t)q->items[i].ptr, .iov_len = q->items[i].len};
	return n;
}

void outq_consume(struct outq *q, size_t n)
{
	assert(n <= q->bytes);
	q->bytes -= n;
	while (n) {
		struct buf_slice *p = &q->items[q->head];
		size_t part = min_size(n, p->len);
		p->ptr += part;
		p->len -= part;
		n -= part;
		if (!p->len) {
			buf_unref(p->buf);
			q->head++;
		}
	}
	if (q->head == q->len)
		outq_done(q);
}

void outq_done(struct outq *q)
{
	for (size_t i = q->head; i < q->len; i++)
		buf_unref(q->items[i].buf);
	free(q->items);
	buf_unref(q->tail);
	*q = (struct outq){0};
}
