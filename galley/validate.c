#include "galley/galley.h"

#include "galley/source/directory.h"

/* DOC: `fairlead validate` and tests: everything below a path, read once, without a daemon. */

struct reader {
	void (*fn)(void *ctx, struct str file, struct str text);
	void *ctx;
};

static void put(void *ctx, struct str file, struct str text)
{
	const struct reader *r = ctx;
	r->fn(r->ctx, file, text);
}

static void drop(void *ctx, struct str file)
{
	(void)ctx; /* nothing was there before */
	(void)file;
}

bool galley_read(const char *path, void (*fn)(void *ctx, struct str file, struct str text), void *ctx, struct err *e)
{
	static const struct directory_ops ops = {.put = put, .remove = drop};
	struct reader r = {fn, ctx};
	struct directory *d = directory_new(path);
	uint64_t retry;
	struct err why = {0};
	/* At the end of time nothing is fresh, and nobody waits: a file that could not be read is what holds the first scan up. */
	bool ok = directory_scan(d, INT64_MAX / 2, &ops, &r, &retry, &why);
	if (ok && retry)
		ok = directory_scan(d, INT64_MAX, &ops, &r, &retry, &why);
	directory_free(d);
	ok = ok && why.kind == ERR_NONE;
	if (!ok && e)
		*e = why;
	return ok;
}

static void load(void *ctx, struct str file, struct str text)
{
	galley_put(ctx, file, text);
}

bool galley_load(struct galley *g, const char *path, struct err *e)
{
	return galley_read(path, load, g, e);
}
