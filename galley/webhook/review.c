/* DOC: See the header. Kubernetes limits a warning to 256 characters and all of them to 4096; longer ones are cut here rather than by it. */
#include "galley/webhook/review.h"

#include <stdlib.h>

#include "common/base/base64.h"

#define WARNING_MAX 256
#define WARNINGS_MAX 16

static const char *text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

bool review_parse(struct str body, struct review *out, struct err *e)
{
	json_error_t error;
	json_t *root = json_loadb(body.ptr ? body.ptr : "", body.len, JSON_REJECT_DUPLICATES, &error);
	json_t *request = json_object_get(root, "request"), *kind = json_object_get(request, "kind");
	if (!root)
		return err_set(e, ERR_PEER, "the body is not JSON: %s", error.text);
	struct review r = {.root = root,
		.uid = text(request, "uid"),
		.operation = text(request, "operation"),
		.ns = text(request, "namespace"),
		.kind = text(kind, "kind"),
		.group = text(kind, "group"),
		.object = json_object_get(request, "object"),
		.dry_run = json_is_true(json_object_get(request, "dryRun"))};
	bool version = str_eqc(str_of(text(root, "apiVersion")), "admission.k8s.io/v1");
	if (!version || str_empty(r.uid)) {
		(void)err_set(e, ERR_PEER,
			version ? "the review has no request with a uid" : "apiVersion is not admission.k8s.io/v1");
		json_decref(root);
		return false;
	}
	if (!json_is_object(r.object))
		r.object = NULL;
	*out = r;
	return true;
}

void review_done(struct review *r)
{
	json_decref(r->root);
	*r = (struct review){0};
}

static void add_warnings(json_t *response, const struct diags *d)
{
	json_t *list = json_array();
	for (size_t i = 0; d && i < d->len && json_array_size(list) < WARNINGS_MAX; i++) {
		if (d->items[i].severity != DIAG_WARNING)
			continue;
		char *line cleanup(free_p) = xasprintf(
			"%s: %s [%s]", d->items[i].path, d->items[i].text, d->items[i].rule);
		(void)json_array_append_new(list, json_stringn_nocheck(line, min_size(strlen(line), WARNING_MAX)));
	}
	if (json_array_size(list))
		(void)json_object_set(response, "warnings", list);
	json_decref(list);
}

static void add_patch(json_t *response, json_t *patch)
{
	char *plain = json_dumps(patch, JSON_COMPACT);
	struct strbuf encoded = {0};
	base64_write(str_of(plain), &encoded);
	(void)json_object_set_new(response, "patchType", json_string("JSONPatch"));
	(void)json_object_set_new(response, "patch", json_string(encoded.ptr));
	strbuf_done(&encoded);
	free(plain);
}

char *review_answer(const struct review *r, const struct review_answer *a)
{
	json_t *response = json_pack("{s:s, s:b}", "uid", r->uid, "allowed", a->allowed);
	if (!a->allowed)
		(void)json_object_set_new(response, "status",
			json_pack("{s:s, s:i, s:s, s:s}", "status", "Failure", "code", 400, "reason", "BadRequest",
				"message", a->message));
	add_warnings(response, a->warnings);
	if (a->patch && json_array_size(a->patch))
		add_patch(response, a->patch);
	json_t *root = json_pack("{s:s, s:s, s:o}", "apiVersion", "admission.k8s.io/v1", "kind", "AdmissionReview",
		"response", response);
	char *out = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return out;
}
