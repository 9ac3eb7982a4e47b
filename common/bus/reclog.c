/*
 * DOC: Records in a file. The checksum covers length, type and payload, so a record is whole or it is not there.
 * Writers collect the records of one batch and write them with one call; when that fails, the file is cut back to its
 * last good end, so that what is in the file always ends with a whole batch or with a tail that readers drop.
 */
#include "common/bus/reclog.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/limits.h"

static const char magic[RECLOG_START] = {'F', 'L', 'B', 'U', 'S', 'L', 'G', '1'};

struct reclog {
	int fd;
	uint64_t size; /* flushed */
	struct strbuf pending;
	char *path;
};

struct reclog_reader {
	int fd;
	uint64_t size;
	uint64_t at;
	bool torn;
	struct strbuf buf;
	char *path;
};

struct head {
	uint32_t len;
	uint32_t type;
	uint64_t sum;
};

static uint64_t checksum(uint32_t len, uint32_t type, struct str payload)
{
	return hash64_seed(payload, (uint64_t)len << 32 | type);
}

struct reclog *reclog_open(const char *path, uint64_t keep, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)keep) != 0) {
		(void)err_errno(e, "%s", path);
		if (fd >= 0)
			(void)close(fd);
		return NULL;
	}
	struct reclog *w = xzalloc(sizeof(*w));
	*w = (struct reclog){.fd = fd, .size = keep, .path = xstrdup(path)};
	if (keep < RECLOG_START) {
		w->size = 0;
		strbuf_add(&w->pending, str_n(magic, sizeof(magic)));
	}
	return w;
}

void reclog_close(struct reclog *w)
{
	if (!w)
		return;
	(void)close(w->fd);
	strbuf_done(&w->pending);
	free(w->path);
	free(w);
}

uint64_t reclog_add(struct reclog *w, enum reclog_type type, struct str payload)
{
	const uint64_t offset = reclog_size(w);
	const uint32_t len = (uint32_t)payload.len;
	const struct head h = {htole32(len), htole32((uint32_t)type), htole64(checksum(len, (uint32_t)type, payload))};
	strbuf_add(&w->pending, str_n(&h, sizeof(h)));
	strbuf_add(&w->pending, payload);
	return offset;
}

uint64_t reclog_add_raw(struct reclog *w, struct str record)
{
	const uint64_t offset = reclog_size(w);
	strbuf_add(&w->pending, record);
	return offset;
}

bool reclog_flush(struct reclog *w, struct err *e)
{
	size_t done = 0;
	while (done < w->pending.len) {
		ssize_t n = pwrite(w->fd, w->pending.ptr + done, w->pending.len - done, (off_t)(w->size + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			(void)err_errno(e, "writing %s", w->path);
			if (ftruncate(w->fd, (off_t)w->size) != 0)
				(void)err_in(e, "and it could not be cut back");
			strbuf_clear(&w->pending);
			return false;
		}
		done += (size_t)n;
	}
	w->size += done;
	if (w->pending.cap > LIMIT_BUS_FRAME_BYTES)
		strbuf_done(&w->pending); /* a large snapshot's buffer is not kept */
	else
		strbuf_clear(&w->pending);
	return true;
}

bool reclog_sync(struct reclog *w, struct err *e)
{
	return fdatasync(w->fd) == 0 || err_errno(e, "fdatasync of %s", w->path);
}

uint64_t reclog_size(const struct reclog *w)
{
	return w->size + w->pending.len;
}

size_t reclog_collected(const struct reclog *w)
{
	return w->pending.len;
}

/* ---- reading */

static bool read_at(struct reclog_reader *r, uint64_t offset, void *out, size_t len, struct err *e)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(r->fd, (char *)out + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, "reading %s at %llu", r->path, (unsigned long long)offset);
		done += (size_t)n;
	}
	return true;
}

static void reserve(struct strbuf *b, size_t len)
{
	strbuf_clear(b);
	if (b->cap < len + 1) {
		b->ptr = xrealloc(b->ptr, len + 1);
		b->cap = len + 1;
	}
	b->len = len;
	b->ptr[len] = 0;
}

struct reclog_reader *reclog_read(const char *path, struct err *e)
{
	cleanup(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0) {
		(void)err_errno(e, "%s", path);
		return NULL;
	}
	struct reclog_reader *r = xzalloc(sizeof(*r));
	*r = (struct reclog_reader){.fd = fd, .size = (uint64_t)st.st_size, .at = RECLOG_START, .path = xstrdup(path)};
	fd = -1;
	char start[RECLOG_START] = {0};
	if (r->size < RECLOG_START || !read_at(r, 0, start, sizeof(start), NULL) ||
		memcmp(start, magic, sizeof(magic)) != 0) {
		(void)err_set(e, ERR_PEER, "%s is not a recording or snapshot of the bus", path);
		reclog_read_close(r);
		return NULL;
	}
	return r;
}

static bool torn(struct reclog_reader *r)
{
	r->torn = true;
	return false;
}

bool reclog_next(struct reclog_reader *r, struct reclog_record *out, struct err *e)
{
	struct head h;
	if (r->at == r->size || r->torn)
		return false;
	if (r->size - r->at < sizeof(h))
		return torn(r);
	if (!read_at(r, r->at, &h, sizeof(h), e))
		return false;
	h = (struct head){le32toh(h.len), le32toh(h.type), le64toh(h.sum)};
	if (h.type == 0)
		return torn(r); /* blocks that a crash left unwritten read as zeros */
	const uint64_t end = r->at + sizeof(h) + h.len;
	if (end > r->size)
		return torn(r);
	if (h.len > LIMIT_BUS_FRAME_BYTES)
		return err_set(
			e, ERR_LIMIT, "%s: record of %u bytes at %llu", r->path, h.len, (unsigned long long)r->at);
	reserve(&r->buf, h.len);
	if (!read_at(r, r->at + sizeof(h), r->buf.ptr, h.len, e))
		return false;
	if (checksum(h.len, h.type, strbuf_str(&r->buf)) != h.sum) {
		if (end == r->size)
			return torn(r); /* the length reached the disk and the content did not */
		return err_set(e, ERR_PEER, "%s: broken record at %llu", r->path, (unsigned long long)r->at);
	}
	*out = (struct reclog_record){(enum reclog_type)h.type, r->at, strbuf_str(&r->buf)};
	r->at = end;
	return true;
}

bool reclog_torn(const struct reclog_reader *r)
{
	return r->torn;
}

bool reclog_raw(struct reclog_reader *r, uint64_t offset, uint32_t len, struct strbuf *out, struct err *e)
{
	reserve(out, len);
	return read_at(r, offset, out->ptr, len, e);
}

void reclog_read_close(struct reclog_reader *r)
{
	if (!r)
		return;
	(void)close(r->fd);
	strbuf_done(&r->buf);
	free(r->path);
	free(r);
}
