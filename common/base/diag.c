/*
 * DOC: Collecting diagnostics. Everything is copied into the list's arena, so a diagnostic outlives the document it
 * is about. The one-line form is the compilers' one (file:line: severity: ...), which editors understand.
 */
#include "common/base/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void diags_init(struct diags *d, struct arena *a)
{
	*d = (struct diags){.arena = a};
}

static void reserve(struct diags *d)
{
	size_t cap = d->cap ? d->cap * 2 : 8;
	struct diag *bigger;

	if (d->len < d->cap)
		return;
	bigger = ARENA_ARRAY(d->arena, struct diag, cap);
	if (d->len > 0)
		memcpy(bigger, d->items, d->len * sizeof(*bigger));
	d->items = bigger;
	d->cap = cap;
}

struct diag *diag_add(
	struct diags *d, enum diag_severity severity, const char *rule, const char *path, const char *fmt, ...)
{
	struct diag *item;
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	reserve(d);
	item = &d->items[d->len++];
	*item = (struct diag){
		.severity = severity,
		.rule = arena_strdup(d->arena, rule),
		.object = "",
		.file = "",
		.path = arena_strdup(d->arena, path),
		.text = arena_strdup(d->arena, text),
		.source = "",
	};
	free(text);
	if (severity == DIAG_ERROR)
		d->errors++;
	return item;
}

const char *diag_severity_name(enum diag_severity s)
{
	static const char *const names[DIAG_SEVERITY_COUNT] = {"error", "warning", "info"};

	return (unsigned)s < DIAG_SEVERITY_COUNT ? names[s] : "unknown";
}

char *diag_format(const struct diag *d)
{
	struct strbuf b = {0};

	if (!str_empty(d->file)) {
		strbuf_adds(&b, d->file);
		if (d->line > 0)
			strbuf_addf(&b, ":%u", d->line);
		strbuf_adds(&b, ": ");
	}
	strbuf_addf(&b, "%s: ", diag_severity_name(d->severity));
	if (!str_empty(d->object))
		strbuf_addf(&b, "%s: ", d->object);
	if (!str_empty(d->path))
		strbuf_addf(&b, "%s: ", d->path);
	strbuf_adds(&b, d->text);
	if (!str_empty(d->rule))
		strbuf_addf(&b, " [%s]", d->rule);
	return strbuf_take(&b);
}
