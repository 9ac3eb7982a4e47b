/*
 * DOC: What comes from Envoy's admin, or from whoever sits at its port: renaming never makes a text longer by more than its last line's
 * end, never leaves one of our names with Envoy's prefix, and does nothing the second time; readiness always gives a reason when it says no.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A name left over: at the start of a line, or behind "# TYPE " or "# HELP ". */
static bool has_old_name(struct str text)
{
	static const char *const starts[] = {"envoy_istio_", "# TYPE envoy_istio_", "# HELP envoy_istio_"};
	struct str line;
	while (str_split(&text, '\n', &line))
		for (size_t i = 0; i < ARRAY_LEN(starts); i++)
			if (str_starts(line, str_of(starts[i])))
				return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size);
	struct strbuf once = {0}, twice = {0};
	char why[128] = "";
	status_rename_metrics(in, &once);
	assert(once.len <= size + 1);
	assert(!has_old_name(strbuf_str(&once)));
	status_rename_metrics(strbuf_str(&once), &twice);
	assert(str_eq(strbuf_str(&once), strbuf_str(&twice)));
	bool ready = status_is_ready(in, why);
	assert(ready || (why[0] && memchr(why, '\0', sizeof(why))));
	(void)status_connections(in);
	strbuf_done(&once);
	strbuf_done(&twice);
	return 0;
}
