/*
 * DOC: ProxyConfig resources. As Istio ranks them: one that selects the pod is over the pod's annotation; those of its namespace without a selector
 * are under the annotation, those of the root namespace under these, and the mesh's defaultConfig is under all. Where several are equal the
 * first of the list has the word.
 */
#include "galley/webhook/inject_internal.h"

/* A ProxyConfig resource says three things of what ProxyConfig in the mesh config says. */
static json_t *config_of(const json_t *resource)
{
	static const char *const names[][2] = {
		{"concurrency", "concurrency"}, {"environmentVariables", "proxyMetadata"}, {"image", "image"}};
	json_t *out = json_object();
	for (size_t k = 0; k < ARRAY_LEN(names); k++) {
		json_t *value = json_object_get(json_object_get(resource, "spec"), names[k][0]);
		if (value)
			(void)json_object_set(out, names[k][1], value);
	}
	return out;
}

static const json_t *selector_of(const json_t *resource)
{
	const json_t *labels = json_object_get(
		json_object_get(json_object_get(resource, "spec"), "selector"), "matchLabels");
	return json_object_size(labels) ? labels : NULL;
}

static bool selects(const json_t *selector, const json_t *labels)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)selector, key,
		value) if (!json_equal(value, json_object_get(labels, key))) return false;
	return true;
}

/* What the resources of a namespace say: those that select the pod, or those for all. */
static json_t *merged(const json_t *list, const char *ns, const json_t *labels, bool selecting)
{
	json_t *out = json_object(), *resource;
	size_t at;
	json_array_foreach(list, at, resource)
	{
		const json_t *selector = selector_of(resource);
		const char *where = json_string_value(
			json_object_get(json_object_get(resource, "metadata"), "namespace"));
		if (!streq(where, ns) || !!selector != selecting || (selector && !selects(selector, labels)))
			continue;
		json_t *config = config_of(resource);
		config_add_missing(out, config);
		json_decref(config);
	}
	return out;
}

bool config_add_resources(struct injection *i, struct err *e)
{
	const char *text = i->o->proxy_configs;
	json_error_t error;
	json_t *list = json_loads(str_empty(text) ? "[]" : text, 0, &error);
	if (!json_is_array(list)) {
		json_decref(list);
		return err_set(e, ERR_PEER, "the ProxyConfig resources are not a JSON list");
	}
	json_t *own = merged(list, i->ns, i->labels, true), *space = merged(list, i->ns, i->labels, false);
	json_t *root = merged(
		list, str_empty(i->o->root_namespace) ? "istio-system" : i->o->root_namespace, i->labels, false);
	config_add_missing(own, i->config);
	json_decref(i->config);
	i->config = own;
	config_add_missing(i->config, space);
	config_add_missing(i->config, root);
	json_decref(space);
	json_decref(root);
	json_decref(list);
	return true;
}
