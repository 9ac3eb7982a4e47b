/* DOC: See the header. What is no pod is allowed as it is: the webhook's configuration asks for pods only. */
#include "galley/webhook/inject_review.h"

#include <stdlib.h>

#include "galley/webhook/json_patch.h"

#define SLASH "--slash--" /* Istio's, for a name with a slash in the path */

static char *unescaped(struct str text)
{
	struct strbuf out = {0};
	while (text.len > 0)
		if (str_starts(text, STR(SLASH))) {
			strbuf_addc(&out, '/');
			text = str_from(text, sizeof(SLASH) - 1);
		} else {
			strbuf_addc(&out, *text.ptr);
			text = str_from(text, 1);
		}
	return strbuf_take(&out);
}

/* The value behind a key of the path; NULL: none. The caller frees it. */
static char *path_value(struct str path, const char *key)
{
	struct str rest = str_from(path, sizeof("/inject/") - 1), part, name, value;
	if (str_starts(rest, STR(":ENV:"))) {
		while (str_split(&rest, ':', &part)) /* "", "ENV", "cluster=x", "ENV", ... */
			if (str_cut(part, '=', &name, &value) && str_eqc(name, key))
				return unescaped(value);
		return NULL;
	}
	while (str_split(&rest, '/', &name) && str_split(&rest, '/', &value))
		if (str_eqc(name, key))
			return unescaped(value);
	return NULL;
}

static bool is_pod(const struct review *r)
{
	return r->object && streq(r->kind, "Pod") && !*r->group && !streq(r->operation, "DELETE");
}

char *inject_review(const struct review *r, struct str path, const struct inject_options *o,
	const struct inject_request *base, enum inject_result *result, struct err *why)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	char *cluster cleanup(free_p) = path_value(path, "cluster"), *network cleanup(free_p) = path_value(path, "net");
	struct diags warnings;
	json_t *pod = NULL, *patch = NULL;
	const char *skipped = NULL;
	diags_init(&warnings, a);
	const struct inject_request q = {.pod = r->object,
		.ns = r->ns,
		.cluster_id = cluster,
		.network = network,
		.uid_range = base->uid_range,
		.groups = base->groups};
	bool ok = true;
	if (!is_pod(r))
		skipped = "not a pod that is made or changed";
	else
		ok = inject_pod(o, &q, &pod, &skipped, &warnings, why);
	if (!ok)
		(void)err_in(why, "sidecar injection");
	if (skipped)
		(void)err_set(why, ERR_NONE, "%s", skipped);
	if (pod)
		patch = json_patch(r->object, pod);
	*result = !ok                      ? INJECT_REFUSED
		  : skipped                ? INJECT_SKIPPED
		  : json_array_size(patch) ? INJECT_INJECTED
					   : INJECT_UNCHANGED;
	const struct review_answer answer = {
		.allowed = ok, .message = why->text, .warnings = &warnings, .patch = patch};
	char *text = review_answer(r, &answer);
	json_decref(patch);
	json_decref(pod);
	return text;
}
