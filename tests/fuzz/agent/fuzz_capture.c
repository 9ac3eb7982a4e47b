/*
 * DOC: The pod's annotations in the capture script: whatever they hold, the script has only lines that begin as ours do, and the table is
 * closed; so no annotation adds a rule of its own.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_ours(struct str line)
{
	static const char *const starts[] = {"add table inet fairlead_capture", "delete table inet fairlead_capture",
		"table inet fairlead_capture {", "\tchain ", "\t}", "}", "\t\ttype ", "\t\tmeta ", "\t\tct ",
		"\t\ttcp dport ", "\t\tip", "\t\toifname \"", "\t\tiifname \""};
	for (size_t i = 0; i < ARRAY_LEN(starts); i++)
		if (str_starts(line, str_of(starts[i])))
			return !memchr(line.ptr, ';', line.len) || str_starts(line, STR("\t\ttype "));
	return !line.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *annotations = xstrndup((const char *)data, size), *out = NULL;
	struct capture_config c = {.outbound_port = 15001,
		.inbound_port = 15006,
		.proxy_uid = "1337",
		.proxy_gid = "1337",
		.mode = "REDIRECT",
		.include_outbound_groups = "*",
		.loopback_range = "127.0.0.1/32",
		.include_inbound_ports = "*",
		.include_outbound_ranges = "*",
		.annotations = annotations};
	struct err e = {0};
	if (capture_script(&c, &out, &e)) {
		struct str rest = str_of(out), line;
		while (str_split(&rest, '\n', &line))
			assert(is_ours(line));
	} else {
		assert(e.text[0]);
	}
	free(out);
	free(annotations);
	return 0;
}
