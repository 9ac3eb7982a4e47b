/* DOC: Names of output formats. */
#include "cli/output.h"

bool output_parse(const char *text, enum output *out, struct err *e)
{
	static const char *const names[OUTPUT_COUNT] = {"table", "json"};
	for (unsigned i = 0; i < OUTPUT_COUNT; i++) {
		if (streq(text, names[i])) {
			*out = (enum output)i;
			return true;
		}
	}
	return err_set(e, ERR_PEER, "--output: \"%.40s\" is neither table nor json", text);
}
