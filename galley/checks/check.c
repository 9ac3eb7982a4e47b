#include "galley/checks/check.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * DOC: Running rule rows and writing diagnostics. A row's path is resolved by the codec (pb_each_place), which knows lists, maps and
 * messages; here each place is handed to the row's checker. A list or document with very many faults stops at
 * LIMIT_DIAGS_PER_DOCUMENT, because nobody reads more and a hostile document must not fill the memory.
 */

#include "common/base/limits.h"

static void report(struct check *c, enum diag_severity severity, const char *rule, const char *source, const char *path,
	const char *text)
{
	bool full = c->diags->len - c->diags_before >= LIMIT_DIAGS_PER_DOCUMENT;
	/* The first error is never left out: it is what the object is refused for. */
	if (full && (severity != DIAG_ERROR || c->diags->errors > c->errors_before))
		return;
	struct diag *d = diag_add(c->diags, severity, rule, path, "%s", text);
	d->source = source ? source : "";
	const struct node *n = c->document ? node_at_path(c->document, path) : NULL;
	if (n) {
		d->line = n->line;
		d->column = n->column;
	}
}

static __attribute__((format(printf, 2, 0))) const char *format(struct check *c, const char *fmt, va_list ap)
{
	char text[1024];
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	return arena_strdup(c->arena, text);
}

void check_error(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	report(c, DIAG_ERROR, rule, source, path, format(c, fmt, ap));
	va_end(ap);
}

void check_warn(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	report(c, DIAG_WARNING, rule, source, path, format(c, fmt, ap));
	va_end(ap);
}

void check_info(struct check *c, const char *rule, const char *source, const char *path, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	report(c, DIAG_INFO, rule, source, path, format(c, fmt, ap));
	va_end(ap);
}

const char *path_at(struct check *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	const char *path = format(c, fmt, ap);
	va_end(ap);
	return path;
}

struct str place_str(const struct pb_place *p)
{
	if (!p->value || p->field->type != PROTOBUF_C_TYPE_STRING)
		return STR("");
	const char *s = *(char *const *)p->value;
	return str_of(s ? s : "");
}

const void *place_message(const struct pb_place *p)
{
	return p->value && p->field->type == PROTOBUF_C_TYPE_MESSAGE ? *(void *const *)p->value : NULL;
}

struct run {
	struct check *check;
	const struct rule *rule;
};

static void visit(void *ctx, const struct pb_place *p)
{
	struct run *run = ctx;
	const struct rule *r = run->rule;
	/* An empty text in a list was written there, and is as wrong as any other. */
	bool element = p->field->label == PROTOBUF_C_LABEL_REPEATED && p->value && str_ends(str_of(r->path), STR("[]"));
	if (!p->present && r->required) {
		check_error(run->check, "required", r->source, p->path, "is required");
		return;
	}
	if (r->check && (p->present || element))
		r->check(run->check, r, p);
}

void check_rules(struct check *c, const void *message, const char *prefix, const struct rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct run run = {c, &rules[i]};
		pb_each_place(c->arena, message, rules[i].path, prefix, visit, &run);
	}
}
