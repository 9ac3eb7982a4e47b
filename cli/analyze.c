/*
 * DOC: `fairlead analyze`: what is wrong with a configuration as a whole. Galley's own pipeline reads the paths in this process; its analysis
 * tells what the objects say about one another in the codes of `istioctl analyze`, and for every route rule whether a request can
 * reach it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "galley/galley.h"

struct analyze_config {
	const char *output;
	const char *domain_suffix;
	bool verdicts;
};

static void print_message(const struct diag *d)
{
	(void)printf("%s:%u: %s: %s: %s%s%s [%s %s]\n", d->file, d->line, diag_severity_name(d->severity), d->object,
		d->path, *d->path ? ": " : "", d->text, d->rule, d->source);
}

static void print_json(const struct galley *g, const struct diags *d)
{
	struct strbuf out = {0};
	strbuf_adds(&out, "{\"messages\":");
	galley_diags_json(d, &out);
	strbuf_adds(&out, ",\"verdicts\":");
	galley_debug_verdicts(g, &out);
	(void)printf("%s}\n", out.ptr);
	strbuf_done(&out);
}

static void print_text(const struct galley *g, const struct diags *d, bool verdicts)
{
	struct strbuf list = {0};
	size_t counts[DIAG_SEVERITY_COUNT] = {0};
	for (size_t i = 0; i < d->len; i++) {
		counts[d->items[i].severity]++;
		print_message(&d->items[i]);
	}
	if (verdicts) {
		galley_print_verdicts(g, &list);
		(void)fwrite(list.ptr, 1, list.len, stdout);
	}
	(void)printf(
		"%zu errors, %zu warnings, %zu infos\n", counts[DIAG_ERROR], counts[DIAG_WARNING], counts[DIAG_INFO]);
	strbuf_done(&list);
}

static int run(const struct invocation *i)
{
	const struct analyze_config *c = i->config;
	const struct galley_options options = {.domain_suffix = c->domain_suffix, .assume_sidecars = true};
	enum output output;
	struct err e = {0};
	if (!output_parse(c->output, &output, &e))
		return command_fail("analyze", 2, &e);
	struct galley *g = galley_new(&options);
	for (size_t k = 0; k < i->n_args; k++)
		if (!galley_load(g, i->args[k], &e)) {
			galley_free(g);
			return command_fail("analyze", 1, &e);
		}
	size_t n_changes;
	(void)galley_commit(g, &n_changes);
	struct diags diags;
	diags_init(&diags, i->arena);
	galley_analyze(g, &diags);
	if (output == OUTPUT_JSON)
		print_json(g, &diags);
	else
		print_text(g, &diags, c->verdicts);
	galley_free(g);
	return diags.errors ? 1 : 0;
}

static const struct option_row options[] = {
	OUTPUT_ROW(struct analyze_config, output),
	{.name = "domain-suffix",
		OPT_STR(struct analyze_config, domain_suffix, "cluster.local", "suffix of the names of services")},
	{.name = "verdicts", OPT_BOOL(struct analyze_config, verdicts, "list every route rule with its verdict")},
};

const struct command analyze_command = {
	.name = "analyze",
	.arguments = "PATH...",
	.summary = "find what is wrong with a configuration as a whole",
	.text = "Files and directories (*.yaml, *.yml, *.json below them); together they are one configuration. Each\n"
		"message has the code that Istio gives it. With --verdicts, and always in JSON, every route rule of\n"
		"every VirtualService is told to be live, shadowed (by which rule) or never to match (why). The exit\n"
		"code is 0 when there is no error, 1 otherwise, 2 for wrong usage.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.config_size = sizeof(struct analyze_config),
	.min_args = 1,
	.max_args = 1000,
	.run = run,
};
