/* DOC: The API server's answer about a token. Oracle: whoever is let through is a service account, and always has a text. */
#include "citadel/authn/authn.h"
#include "citadel/kube/token_review.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const audiences[] = {"istio-ca", NULL};
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str text = {0}, ns, name;
	struct authn_pod pod = {0};
	enum review_result result = review_parse(a, str_n(data, size), audiences, &text, &pod);
	assert(text.len && (result == REVIEW_GOOD || (!pod.name.len && !pod.uid.len)));
	if (result == REVIEW_GOOD)
		assert(str_starts(text, STR("system:serviceaccount:")) &&
			(authn_account(text, &ns, &name) || !memchr(text.ptr + 22, ':', text.len - 22)));
	return 0;
}
