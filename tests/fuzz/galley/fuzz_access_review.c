/* DOC: The API server's answer about an account. Oracle: a refusal has a reason, a right has none. */
#include "galley/access_review.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *why = NULL;
	bool allowed = false;
	if (access_review_answer(a, str_n(data, size), &allowed, &why))
		assert(why && !*why == allowed);
	else
		assert(!allowed && !why);
	return 0;
}
