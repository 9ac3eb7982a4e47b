#include "galley/galley.h"

#include "galley/source/directory.h"

/* DOC: `fairlead validate` and tests: everything below a path, read once, without a daemon. */

static void put(void *ctx, struct str file, struct str text)
{
	galley_put(ctx, file, text);
}

static void drop(void *ctx, struct str file)
{
	galley_remove(ctx, file);
}

bool galley_load(struct galley *g, const char *path, struct err *e)
{
	static const struct directory_ops ops = {.put = put, .remove = drop};
	struct directory *d = directory_new(path);
	uint64_t retry;
	struct err why = {0};
	/* At the end of time nothing is fresh, and nobody waits. */
	bool ok = directory_scan(d, INT64_MAX / 2, &ops, g, &retry, &why);
	if (!ok || why.kind != ERR_NONE) {
		ok = false;
		if (e)
			*e = why;
	}
	if (ok && retry)
		ok = directory_scan(d, INT64_MAX, &ops, g, &retry, e);
	directory_free(d);
	return ok;
}
