/* DOC: Whatever an API server posts, galley answers with a review of the same uid, or says that it is none. */
#include <stdio.h>
#include <stdlib.h>

#include "galley/webhook/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct review r;
	struct err e = {0};
	bool refused;
	if (size > 1 << 16 || !review_parse(str_n((const char *)data, size), &r, &e))
		return 0;
	char *uid = xstrdup(r.uid);
	char *text = validate_review(&r, &(struct validate_options){NULL}, &refused);
	json_t *answer = json_loads(text, 0, NULL), *response = json_object_get(answer, "response");
	if (!streq(json_string_value(json_object_get(response, "uid")), uid) ||
		json_is_true(json_object_get(response, "allowed")) == refused) {
		(void)fprintf(stderr, "not an answer: %s\n", text);
		abort();
	}
	json_decref(answer);
	free(text);
	free(uid);
	review_done(&r);
	return 0;
}
