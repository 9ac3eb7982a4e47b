/* DOC: See the header. */
#include "agent/subcommand.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/str.h"
#include "common/base/util.h"

int subcommand_main(const struct subcommand *s, int argc, char **argv, void *config)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *const *rest = NULL;
	struct err e = {0};
	if (!options_parse(
		    a, arena_printf(a, "agent-%s", s->name), s->rows, s->n_rows, argc, argv, config, &rest, &e)) {
		(void)fprintf(stderr, "agent %s: %s\n", s->name, e.text);
		return 2;
	}
	if (!*(const bool *)((const char *)config + s->help))
		return s->run(config);
	struct strbuf out cleanup(strbuf_done) = {0};
	options_help(arena_printf(a, "agent %s", s->name), s->summary, s->rows, s->n_rows, &out);
	(void)fputs(out.ptr, stdout);
	return 0;
}
