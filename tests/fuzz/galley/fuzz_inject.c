/*
 * DOC: Whatever pod an API server posts, injection refuses it with a reason, leaves it alone, or gives a pod that a second injection does not change.
 * The first line of a seed is the webhook's path, the rest the pod.
 */
#include <stdio.h>
#include <stdlib.h>

#include "galley/webhook/inject_review.h"
#include "galley/webhook/json_patch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const never[] = {"app=legacy", "internal", NULL};
static const char *const secrets[] = {"registry", NULL};

static void again(const struct inject_options *o, json_t *pod)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct diags warnings;
	struct err e = {0};
	json_t *twice = NULL;
	const char *skipped = NULL;
	diags_init(&warnings, a);
	bool ok = inject_pod(o, &(struct inject_request){.pod = pod, .ns = "shop"}, &twice, &skipped, &warnings, &e);
	json_t *patch = twice ? json_patch(pod, twice) : NULL;
	if (!ok || skipped || json_array_size(patch)) {
		char *text = json_dumps(patch ? patch : pod, JSON_ENCODE_ANY);
		(void)fprintf(stderr, "a second injection: %s%s %s\n", e.text, skipped ? skipped : "", text);
		abort();
	}
	json_decref(patch);
	json_decref(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str path, rest = str_n((const char *)data, size);
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct inject_options o = {.image = "p:1",
		.pull_secrets = (const char **)(uintptr_t)secrets,
		.never = (const char **)(uintptr_t)never,
		.platform = size % 2 ? INJECT_OPENSHIFT : "",
		.native_sidecars = size % 2 == 1};
	const struct inject_request of = {.uid_range = size % 3 ? "1000/10" : "10", .groups = size % 5 ? "7-9,1" : ""};
	struct review r = {.uid = "u", .operation = "CREATE", .ns = "shop", .kind = "Pod", .group = ""};
	struct diags warnings;
	struct err e = {0};
	enum inject_result result;
	json_t *out = NULL;
	const char *skipped = NULL;
	if (size > 1 << 16 || !str_split(&rest, '\n', &path))
		return 0;
	r.object = json_loadb(rest.ptr ? rest.ptr : "", rest.len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(r.object)) {
		json_decref(r.object);
		return 0;
	}
	char *answer = inject_review(&r, path, &o, &of, &result, &e);
	if (!answer || (result == INJECT_REFUSED) != (strstr(answer, "\"allowed\":false") != NULL) ||
		(result == INJECT_REFUSED && !*e.text))
		abort();
	diags_init(&warnings, a);
	if (inject_pod(&o, &(struct inject_request){.pod = r.object, .ns = "shop"}, &out, &skipped, &warnings, &e) &&
		out)
		again(&o, out);
	json_decref(out);
	free(answer);
	json_decref(r.object);
	return 0;
}
