/* DOC: See the header. An object of a kind that galley does not read is allowed: it is somebody else's business. */
#include "galley/webhook/validate.h"

#include <stdlib.h>

#include "galley/galley.h"

#define MESSAGE_MAX 16000
/* Istio's controller tries whether its webhook answers with an object that carries this. */
#define ALWAYS_REJECT "internal.istio.io/webhook-always-reject"

/* An object that is yet to be named by the server is checked under a name that it could get. */
static void give_name(json_t *object, const char *ns)
{
	json_t *meta = json_object_get(object, "metadata");
	const char *prefix = json_string_value(json_object_get(meta, "generateName"));
	if (!json_object_get(meta, "name") && prefix) {
		char *name cleanup(free_p) = xasprintf("%sx", prefix);
		(void)json_object_set_new(meta, "name", json_string(name));
	}
	if (!json_object_get(meta, "namespace") && *ns)
		(void)json_object_set_new(meta, "namespace", json_string(ns));
}

static void list_errors(const struct diags *d, struct strbuf *out)
{
	for (size_t i = 0; i < d->len; i++)
		if (d->items[i].severity == DIAG_ERROR && out->len < MESSAGE_MAX)
			strbuf_addf(out, "%s%s%s%s [%s]",
				out->len ? "; " : "configuration is invalid: ", d->items[i].path,
				*d->items[i].path ? ": " : "", d->items[i].text, d->items[i].rule);
}

char *validate_review(const struct review *r, const struct validate_options *o, bool *refused)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct diags diags;
	struct strbuf message cleanup(strbuf_done) = {0};
	const struct galley_options options = {.domain_suffix = o->domain_suffix, .slices_only = true};
	diags_init(&diags, a);
	if (r->object && !streq(r->operation, "DELETE")) {
		const json_t *annotations = json_object_get(json_object_get(r->object, "metadata"), "annotations");
		give_name(r->object, r->ns);
		(void)json_object_del(json_object_get(r->object, "metadata"), "managedFields");
		char *text = json_dumps(r->object, JSON_COMPACT);
		struct galley *g = galley_new(&options);
		size_t n;
		galley_put(g, STR("request"), str_of(text));
		(void)galley_commit(g, &n);
		galley_diags(g, &diags);
		galley_free(g);
		free(text);
		list_errors(&diags, &message);
		if (json_object_get(annotations, ALWAYS_REJECT))
			strbuf_adds(&message,
				"configuration is invalid: the object asks to be refused (" ALWAYS_REJECT ")");
	}
	const struct review_answer answer = {
		.allowed = message.len == 0, .message = message.ptr ? message.ptr : "", .warnings = &diags};
	*refused = !answer.allowed;
	return review_answer(r, &answer);
}
