/*
 * DOC: Whatever the file of injection's settings holds, it is refused with a reason or makes of a pod one that a second injection does not change, or refuses
 * with a reason. A pod for each template: with the sidecar and without.
 */
#include <stdio.h>
#include <stdlib.h>

#include "galley/webhook/inject_internal.h"
#include "galley/webhook/json_patch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *pod_with(const char *templates)
{
	return json_pack("{s:{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s}}, s:{s:[{s:s, s:s, s:[{s:s, s:s}]}, {s:s, s:s}]}}",
		"metadata", "name", "cart", "namespace", "shop", "labels", "app", "cart", "tier", "front",
		"annotations", "inject.istio.io/templates", templates, "say", "a: b", "spec", "containers", "name",
		"cart", "image", "c:1", "env", "name", "A", "value", "b", "name", PROXY_NAME, "image", "auto");
}

/* False: refused. */
static bool inject(const struct inject_options *o, const json_t *pod, json_t **out)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const char *skipped = NULL;
	struct diags warnings;
	struct err e = {0};
	diags_init(&warnings, a);
	*out = NULL;
	bool ok = inject_pod(o, &(struct inject_request){.pod = pod, .ns = "shop"}, out, &skipped, &warnings, &e);
	if (!ok && !*e.text)
		abort();
	return ok;
}

static void try_pod(const struct inject_options *o, const char *templates)
{
	json_t *pod = pod_with(templates), *once = NULL, *twice = NULL;
	if (inject(o, pod, &once) && once && find_proxy(json_object_get(once, "spec")) && inject(o, once, &twice) &&
		twice &&
		json_object_get(json_object_get(json_object_get(once, "metadata"), "annotations"), STATUS_ANNOTATION)) {
		json_t *patch = json_patch(once, twice);
		if (json_array_size(patch)) {
			char *text = json_dumps(patch, JSON_ENCODE_ANY);
			(void)fprintf(stderr, "a second injection: %s\n", text);
			abort();
		}
		json_decref(patch);
	}
	json_decref(twice);
	json_decref(once);
	json_decref(pod);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inject_settings *settings = NULL;
	struct err e = {0};
	if (size > 1 << 16)
		return 0;
	char *text cleanup(free_p) = xstrndup((const char *)data, size);
	if (!inject_settings_parse(text, &settings, &e)) {
		if (!*e.text)
			abort();
		return 0;
	}
	const struct inject_options o = {.image = "p:1", .settings = settings, .native_sidecars = size % 2 == 1};
	char *known cleanup(free_p) = inject_settings_known(settings);
	struct str rest = str_of(known), name;
	while (str_split(&rest, ',', &name)) {
		name = str_trim(name);
		char *alone cleanup(free_p) = xstrndup(name.ptr, name.len);
		char *both cleanup(free_p) = xasprintf("sidecar,%s", alone);
		try_pod(&o, alone);
		try_pod(&o, both);
	}
	inject_settings_free(settings);
	return 0;
}
