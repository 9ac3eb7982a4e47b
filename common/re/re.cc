// DOC: The only C++ of the tree. RE2 has no C interface, and Envoy checks every regular expression of its configuration
// with RE2: checking with another engine would accept what Envoy refuses, and one refused expression costs a proxy the
// whole update. RE2 reports errors by value and throws nothing, so that no exception crosses into C. The border is four
// functions of plain types (declared in re.c); limits and error texts are on the C side.

#include <re2/re2.h>

struct re {
	RE2 compiled;
	re(const char *pattern, size_t len, const RE2::Options &options) : compiled(re2::StringPiece(pattern, len), options) {}
};

extern "C" {

// Never null. A pattern that does not compile sets *error, which lives as long as the object.
struct re *re_compile(const char *pattern, size_t len, const char **error, size_t *error_len)
{
	RE2::Options options;
	options.set_log_errors(false);
	struct re *r = new re(pattern, len, options);
	*error = r->compiled.ok() ? nullptr : r->compiled.error().data();
	*error_len = r->compiled.error().size();
	return r;
}

void re_destroy(struct re *r)
{
	delete r;
}

size_t re_program_size(const struct re *r)
{
	return static_cast<size_t>(r->compiled.ProgramSize());
}

bool re_matches(const struct re *r, const char *text, size_t len)
{
	return RE2::FullMatch(re2::StringPiece(text, len), r->compiled);
}

}
