/*
 * DOC: The galley side of the golden tests: one file in, its diagnostics and what galley publishes out, as text that people can
 * review. Lists are in galley's own order, so that the order is tested too. The default mesh config is left out where a case has none.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/io/file.h"
#include "common/mesh/kinds.h"
#include "common/pb/json.h"
#include "galley/galley.h"

static void print_diags(const struct galley *g, struct arena *a)
{
	struct diags diags;
	diags_init(&diags, a);
	galley_diags(g, &diags);
	for (size_t i = 0; i < diags.len; i++) {
		const struct diag *d = &diags.items[i];
		(void)printf("%s:%u: %s: %s: %s%s%s [%s]%s%s%s\n", d->file, d->line, diag_severity_name(d->severity),
			d->object, d->path, *d->path ? ": " : "", d->text, d->rule, *d->source ? " (" : "", d->source,
			*d->source ? ")" : "");
	}
}

static const struct kind *kind_named(const char *name)
{
	for (int i = 0; i < KIND_COUNT; i++)
		if (streq(kind_get((enum kind_id)i)->name, name))
			return kind_get((enum kind_id)i);
	return NULL;
}

static void print_message(const void *m)
{
	static const struct pb_encode_options pretty = {.indent = 2};
	struct strbuf text = {0};
	pb_to_json(m, &pretty, &text);
	(void)printf("%s\n", text.ptr);
	strbuf_done(&text);
}

static bool print_change(struct arena *a, const struct bus_change *c)
{
	const struct topic *t = topic_get(c->topic);
	struct err e;
	if (c->topic == TOPIC_MESH && str_eqc(c->origin, "default"))
		return true;
	(void)printf("\n%s " STR_FMT "%s\n", t->name, STR_ARG(c->key), c->value.ptr ? "" : " deleted");
	if (!c->value.ptr)
		return true;
	ProtobufCMessage *m = pb_unpack(a, t->message, c->value.ptr, c->value.len, &e);
	if (!m)
		return false;
	if (t->message == &fl__object__descriptor) {
		Fl__Object *o = (Fl__Object *)m;
		const struct kind *k = kind_named(o->kind);
		ProtobufCMessage *spec = k ? pb_unpack(a, k->message, o->spec.data, o->spec.len, &e) : NULL;
		if (!spec)
			return false;
		o->spec.len = 0;
		print_message(o);
		m = spec;
	}
	print_message(m);
	return true;
}

int main(int argc, char **argv)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct galley *g = galley_new(&(struct galley_options){.assume_sidecars = true});
	bool ok = argc > 1;
	for (int i = 1; ok && i < argc; i++) {
		char *text = NULL;
		size_t len;
		struct err e;
		const char *name = strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i];
		ok = file_read(argv[i], 1 << 20, &text, &len, &e);
		if (ok)
			galley_put(g, str_of(name), str_n(text, len));
		else
			(void)fprintf(stderr, "%s\n", e.text);
		free(text);
	}
	size_t n;
	const struct bus_change *changes = galley_commit(g, &n);
	print_diags(g, a);
	for (size_t i = 0; ok && i < n; i++)
		ok = print_change(a, &changes[i]);
	/* The same again publishes nothing. */
	(void)galley_commit(g, &n);
	galley_free(g);
	return ok && n == 0 ? 0 : 1;
}
