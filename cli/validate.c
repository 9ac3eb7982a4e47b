/*
 * DOC: `fairlead validate`: galley's own pipeline over the given paths, in this process. What it says is what the daemon would say, so a
 * file that passes here is accepted there, and a file that fails is refused there for the same reason.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "common/base/limits.h"
#include "galley/galley.h"

struct validate_config {
	const char *output;
	const char *domain_suffix;
};

static bool read_stdin(struct galley *g, struct err *e)
{
	struct strbuf text = {0};
	char buf[65536];
	size_t n;
	while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0 && text.len <= LIMIT_FILE_BYTES)
		strbuf_add(&text, str_n(buf, n));
	bool ok = !ferror(stdin) || err_errno(e, "read standard input");
	if (ok && text.len > LIMIT_FILE_BYTES)
		ok = err_set(e, ERR_LIMIT, "standard input is longer than %u bytes", LIMIT_FILE_BYTES);
	if (ok)
		galley_put(g, STR("stdin"), strbuf_str(&text));
	strbuf_done(&text);
	return ok;
}

static bool load(struct galley *g, const struct invocation *i, struct err *e)
{
	for (size_t k = 0; k < i->n_args; k++)
		if (!(streq(i->args[k], "-") ? read_stdin(g, e) : galley_load(g, i->args[k], e)))
			return false;
	return true;
}

static size_t of_severity(const struct diags *d, enum diag_severity severity)
{
	size_t n = 0;
	for (size_t i = 0; i < d->len; i++)
		n += d->items[i].severity == severity;
	return n;
}

static void print_text(const struct diags *d, struct galley_counts n)
{
	for (size_t i = 0; i < d->len; i++) {
		cleanup(free_p) char *line = diag_format(&d->items[i]);
		(void)printf("%s\n", line);
	}
	size_t warnings = of_severity(d, DIAG_WARNING);
	(void)printf("%zu file%s, %zu object%s accepted, %zu of kinds that are not read: %zu error%s, %zu warning%s\n",
		n.files, n.files == 1 ? "" : "s", n.objects, n.objects == 1 ? "" : "s", n.foreign, d->errors,
		d->errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
}

static void print_json(const struct galley *g, const struct diags *d, struct galley_counts n)
{
	struct strbuf out = {0};
	strbuf_addf(&out,
		"{\"files\":%zu,\"accepted\":%zu,\"foreign\":%zu,\"errors\":%zu,\"warnings\":%zu,\"problems\":",
		n.files, n.objects, n.foreign, d->errors, of_severity(d, DIAG_WARNING));
	galley_debug_diagnostics(g, &out);
	(void)printf("%s}\n", out.ptr);
	strbuf_done(&out);
}

static int run(const struct invocation *i)
{
	const struct validate_config *c = i->config;
	const struct galley_options options = {.domain_suffix = c->domain_suffix};
	enum output output;
	struct err e = {0};
	if (!output_parse(c->output, &output, &e))
		return command_fail("validate", 2, &e);
	struct galley *g = galley_new(&options);
	if (!load(g, i, &e)) {
		galley_free(g);
		return command_fail("validate", 1, &e);
	}
	size_t n_changes;
	(void)galley_commit(g, &n_changes);
	struct diags diags;
	diags_init(&diags, i->arena);
	galley_diags(g, &diags);
	struct galley_counts counts = galley_counts(g);
	if (output == OUTPUT_JSON)
		print_json(g, &diags, counts);
	else
		print_text(&diags, counts);
	galley_free(g);
	return diags.errors ? 1 : 0;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct validate_config, output),
	{.name = "domain-suffix",
		OPT_STR(struct validate_config, domain_suffix, "cluster.local", "suffix of the names of services")},
};

const struct command validate_command = {
	.name = "validate",
	.arguments = "PATH...",
	.summary = "check configuration as galley would",
	.text = "Files, directories (*.yaml, *.yml, *.json below them), or - for standard input; together they are "
		"one\n"
		"configuration. Every problem is printed with file, line, object, path and rule. The exit code is 0 "
		"when\n"
		"there is no error (warnings are allowed), 1 otherwise, 2 for wrong usage.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct validate_config),
	.min_args = 1,
	.max_args = 1000,
	.run = run,
};
