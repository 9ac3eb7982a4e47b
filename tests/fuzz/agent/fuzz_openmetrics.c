/*
 * DOC: Metrics of an application in OpenMetrics, rewritten as text: whole lines come out, samples and the two comments that Prometheus' text
 * has, never the end mark in front of what other parts add; and no more of them than went in, with two for each family.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/scrape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size), line;
	struct strbuf out = {0};
	size_t lines_in = 1, lines_out = 0;
	for (size_t i = 0; i < size; i++)
		lines_in += data[i] == '\n';
	bool all = scrape_from_openmetrics(in, &out);
	assert(!out.len || out.ptr[out.len - 1] == '\n' || !all);
	for (struct str rest = strbuf_str(&out); str_split(&rest, '\n', &line); lines_out += line.len > 0)
		assert(!str_starts(line, STR("#")) || str_starts(line, STR("# HELP ")) ||
			str_starts(line, STR("# TYPE ")));
	assert(lines_out <= lines_in);
	strbuf_done(&out);
	return 0;
}
