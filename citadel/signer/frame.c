/* DOC: The frame format: u32 length of the rest, u8 type, u32 id, u8 count, then for each field u32 length and its bytes. */
#include "citadel/signer/frame.h"

#define HEAD 10

static void put32(struct strbuf *out, size_t v)
{
	for (unsigned shift = 0; shift < 32; shift += 8)
		strbuf_addc(out, (char)(unsigned char)(v >> shift));
}

static uint32_t get32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;
	return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

void frame_write(struct strbuf *out, const struct frame *f)
{
	size_t size = HEAD - 4;
	assert(f->n <= FRAME_FIELDS);
	for (size_t i = 0; i < f->n; i++)
		size += 4 + f->fields[i].len;
	assert(size <= FRAME_BYTES_MAX);
	put32(out, size);
	strbuf_addc(out, (char)f->type);
	put32(out, f->id);
	strbuf_addc(out, (char)f->n);
	for (size_t i = 0; i < f->n; i++) {
		put32(out, f->fields[i].len);
		strbuf_add(out, f->fields[i]);
	}
}

bool frame_read(struct str in, struct frame *out, size_t *used, struct err *e)
{
	*used = 0;
	if (in.len < 4)
		return true;
	size_t size = get32(in.ptr), at = HEAD;
	if (size > FRAME_BYTES_MAX || size < HEAD - 4)
		return err_set(e, ERR_PEER, "signer: a frame of %zu bytes", size);
	if (in.len < size + 4)
		return true;
	size_t end = size + 4;
	struct frame f = {.type = (enum frame_type)(unsigned char)in.ptr[4],
		.id = get32(in.ptr + 5),
		.n = (unsigned char)in.ptr[9]};
	if (f.type >= FRAME_TYPE_COUNT || f.n > FRAME_FIELDS)
		return err_set(e, ERR_PEER, "signer: a frame of unknown kind");
	for (size_t i = 0; i < f.n; i++) {
		size_t len = end - at >= 4 ? get32(in.ptr + at) : SIZE_MAX;
		if (len > end - at || len + 4 > end - at)
			return err_set(e, ERR_PEER, "signer: a field beyond its frame");
		f.fields[i] = str_n(in.ptr + at + 4, len);
		at += 4 + len;
	}
	if (at != end)
		return err_set(e, ERR_PEER, "signer: bytes after the last field");
	*out = f;
	*used = end;
	return true;
}
