/*
 * DOC: gRPC message reassembly. The first byte says in what pieces the rest arrives; the messages must not depend on it. Header values
 * are decoded from the same bytes: decode(encode(x)) == x.
 */
#include <assert.h>
#include <stdlib.h>

#include "common/io/grpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum grpc_read read_all(const uint8_t *data, size_t size, size_t step, struct strbuf *out)
{
	struct grpc_reader r = {0};
	enum grpc_read result = GRPC_READ_MORE;
	while (size && (result == GRPC_READ_MORE || result == GRPC_READ_MESSAGE)) {
		size_t n = min_size(step, size);
		const uint8_t *piece = data;
		size_t len = n;
		struct str m;
		while ((result = grpc_reader_next(&r, 4096, &piece, &len, &m)) == GRPC_READ_MESSAGE) {
			strbuf_add(out, m);
			strbuf_addc(out, '|');
		}
		data += n;
		size -= n;
	}
	grpc_reader_done(&r);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	struct strbuf whole = {0}, cut = {0}, wire = {0}, back = {0};
	enum grpc_read a = read_all(data + 1, size - 1, size, &whole),
		       b = read_all(data + 1, size - 1, data[0] % 16u + 1, &cut);
	assert(a == b && str_eq(strbuf_str(&whole), strbuf_str(&cut)));
	struct str text = str_n(data, min_size(size, 4096));
	grpc_message_encode(&wire, text);
	grpc_message_decode(&back, strbuf_str(&wire));
	assert(str_eq(strbuf_str(&back), text));
	uint64_t ms;
	if (grpc_timeout_parse(str_n(data, size), &ms))
		assert(size <= 9);
	strbuf_done(&whole);
	strbuf_done(&cut);
	strbuf_done(&wire);
	strbuf_done(&back);
	return 0;
}
