/*
 * DOC: Whatever text a file holds, galley must not crash, must publish nothing for the same text again, and must give the same bytes in
 * a second instance. The seeds are the golden cases of every kind.
 */
#include <stdlib.h>

#include "galley/galley.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1 << 16)
		return 0;
	struct galley *g = galley_new(NULL), *h = galley_new(NULL);
	size_t n, m;
	galley_put(g, STR("f.yaml"), str_n(data, size));
	galley_put(h, STR("other.yaml"), str_n(data, size));
	const struct bus_change *x = galley_commit(g, &n), *y = galley_commit(h, &m);
	if (n != m)
		abort();
	for (size_t i = 0; i < n; i++)
		if (x[i].hash != y[i].hash || !str_eq(x[i].key, y[i].key))
			abort();
	galley_put(g, STR("f.yaml"), str_n(data, size));
	(void)galley_commit(g, &n);
	if (n != 0)
		abort();
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags diags;
	diags_init(&diags, a);
	galley_analyze(g, &diags);
	cleanup(strbuf_done) struct strbuf verdicts = {0};
	galley_debug_verdicts(g, &verdicts);
	galley_free(g);
	galley_free(h);
	return 0;
}
