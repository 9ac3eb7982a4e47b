/* DOC: Frames between citadel and its signer. Oracle: what is read is written back as the same bytes. */
#include "citadel/signer/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame f;
	struct err e = {0};
	size_t used = 0;
	if (!frame_read(str_n(data, size), &f, &used, &e)) {
		assert(e.text[0]);
		return 0;
	}
	if (!used)
		return 0;
	struct strbuf again cleanup(strbuf_done) = {0};
	frame_write(&again, &f);
	assert(str_eq(strbuf_str(&again), str_n(data, used)));
	return 0;
}
