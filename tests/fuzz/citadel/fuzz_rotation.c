/* DOC: rotation.json. Oracle: what is taken has a phase and a time, and what is refused says why. */
#include "citadel/ca/rotation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rotation r = {0};
	struct err e = {0};
	if (rotation_parse(str_n(data, size), &r, &e))
		assert(r.phase > ROTATION_NONE && r.phase < ROTATION_PHASE_COUNT);
	else
		assert(e.text[0]);
	return 0;
}
