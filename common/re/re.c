#include "common/re/re.h"

#include "common/base/limits.h"

/*
 * DOC: The C side of the RE2 shim: limits and error texts. A pattern is bounded by its length, as Istio does, and by
 * the size of its program, which Envoy refuses beyond what its bootstrap says.
 */

struct re *re_compile(const char *pattern, size_t len, const char **error, size_t *error_len);
void re_destroy(struct re *r);
size_t re_program_size(const struct re *r);
bool re_matches(const struct re *r, const char *text, size_t len);

struct re *re_new(struct str pattern, struct err *e)
{
	if (pattern.len > LIMIT_REGEX_BYTES) {
		(void)err_set(e, ERR_LIMIT, "regular expression is %zu bytes long, at most %u are allowed", pattern.len,
			LIMIT_REGEX_BYTES);
		return NULL;
	}
	const char *error;
	size_t error_len;
	struct re *r = re_compile(pattern.len ? pattern.ptr : "", pattern.len, &error, &error_len);
	if (!error && re_program_size(r) <= LIMIT_REGEX_PROGRAM)
		return r;
	if (!error)
		(void)err_set(e, ERR_LIMIT, "regular expression compiles to %zu instructions, Envoy takes %u",
			re_program_size(r), LIMIT_REGEX_PROGRAM);
	else
		(void)err_set(e, ERR_PEER, "not an RE2 expression: " STR_FMT, STR_ARG(str_n(error, error_len)));
	re_destroy(r);
	return NULL;
}

void re_free(struct re *r)
{
	if (r)
		re_destroy(r);
}

bool re_full_match(const struct re *r, struct str text)
{
	return re_matches(r, text.len ? text.ptr : "", text.len);
}

bool re_check(struct str pattern, struct err *e)
{
	struct re *r = re_new(pattern, e);
	bool ok = r != NULL;
	re_free(r);
	return ok;
}
