/*
 * DOC: Templates of the user's, by the names in the pod's annotation or the settings' defaults. As in Istio each is a patch of the pod, one after
 * another; what the pod itself says of a container that a template names is laid over it again, so that the pod's own word stays the last. The
 * built-in template comes first wherever it is listed, and its labels and environment know what the templates add to the pod's labels. A container is
 * patched where it is: a proxy that became a native sidecar is no second one among the containers.
 */
#include <stdlib.h>

#include "galley/webhook/inject_template.h"

static const char *const lists[] = {"initContainers", "containers", "volumes", "imagePullSecrets"};

/* ---- which */

static bool read_name(struct injection *i, const char *name, json_t *custom, struct err *e)
{
	bool gateway = streq(name, "gateway");
	if (inject_settings_template(i->o->settings, name)) {
		(void)json_array_append_new(custom, json_string(name));
		return true;
	}
	char *known cleanup(free_p) = inject_settings_known(i->o->settings);
	if (!gateway && !streq(name, "sidecar"))
		return err_set(e, ERR_PEER, "template \"%.60s\" does not exist; there are %s", name, known);
	if (i->built_in && gateway != i->gateway)
		return err_set(e, ERR_PEER, "one of gateway and sidecar is expected");
	i->gateway = gateway;
	i->built_in = true;
	return true;
}

bool custom_choose(struct injection *i, struct err *e)
{
	const char *annotation = annotation_of(i, "inject.istio.io/templates", NULL);
	json_t *names = inject_settings_names(i->o->settings, annotation);
	bool ok = true;
	i->custom = json_array();
	for (size_t k = 0; ok && k < json_array_size(names); k++)
		ok = read_name(i, json_string_value(json_array_get(names, k)), i->custom, e);
	json_decref(names);
	return ok || err_in(e, "%s", annotation ? "annotation inject.istio.io/templates" : "defaultTemplates");
}

/* ---- their patches */

static json_t *data_of(const struct injection *i)
{
	char *image cleanup(free_p) = proxy_image(i);
	return json_pack("{s:{s:s, s:s, s:s, s:O, s:O}, s:{s:s, s:s}, s:{s:s}, s:{s:s}, s:s, s:I, s:I, s:s}",
		"ObjectMeta", "Name", text_at(i->metadata, "name"), "GenerateName",
		text_at(i->metadata, "generateName"), "Namespace", i->ns, "Labels", i->labels, "Annotations",
		i->annotations, "DeploymentMeta", "Name", i->workload, "Namespace", i->ns, "Spec", "ServiceAccountName",
		text_at(i->spec, "serviceAccountName"), "MeshConfig", "TrustDomain",
		str_empty(i->o->trust_domain) ? "cluster.local" : i->o->trust_domain, "ProxyImage", image, "ProxyUID",
		(json_int_t)i->user, "ProxyGID", (json_int_t)i->group, "Revision",
		i->o->revision ? i->o->revision : "");
}

bool custom_read(struct injection *i, struct err *e)
{
	json_t *data = json_array_size(i->custom) ? data_of(i) : NULL, *patch = NULL;
	bool ok = true;
	for (size_t k = 0; ok && k < json_array_size(i->custom); k++) {
		const char *name = json_string_value(json_array_get(i->custom, k));
		ok = template_patch(name, inject_settings_template(i->o->settings, name), data, &patch, e);
		if (ok)
			(void)json_array_set_new(i->custom, k, patch);
	}
	json_decref(data);
	return ok;
}

/* ---- what becomes of them */

/* Labels and annotations, before anything is made that depends on them. */
void custom_metadata(struct injection *i)
{
	json_t *patch;
	size_t at;
	json_array_foreach(i->custom, at, patch)
	{
		json_t *metadata = json_object_get(patch, "metadata");
		json_t *annotations = json_object_get(metadata, "annotations");
		if (metadata)
			patch_apply(i->metadata, metadata);
		if (annotations)
			patch_apply(i->seen, annotations);
	}
}

/* What the patch says of a container that is in the other list of the pod's goes there. */
static void follow(json_t *patch, const json_t *spec, const char *from, const char *to)
{
	json_t *list = json_object_get(patch, from);
	for (size_t k = json_array_size(list); k-- > 0;) {
		json_t *item = json_array_get(list, k);
		if (!list_named(json_object_get(spec, to), text_at(item, "name"), NULL))
			continue;
		(void)json_array_insert(list_in(patch, to), 0, item);
		(void)json_array_remove(list, k);
	}
}

/* The pod's own word of what the patch names. */
static void users_again(const struct injection *i, const json_t *patch, const char *list)
{
	const json_t *items = json_object_get(patch, list);
	for (size_t k = 0; k < json_array_size(items); k++) {
		const char *name = text_at(json_array_get(items, k), "name");
		const json_t *users = list_named(json_object_get(i->original, "containers"), name, NULL);
		json_t *target = json_object_get(i->spec, list);
		size_t at = 0;
		users = users ? users : list_named(json_object_get(i->original, "initContainers"), name, NULL);
		if (users && list_named(target, name, &at))
			(void)json_array_set_new(target, at, container_merge(json_array_get(target, at), users));
	}
}

static void note_names(const json_t *patch, const char *list, json_t *status)
{
	const json_t *items = json_object_get(patch, list);
	json_t *names = json_array_size(items) ? list_in(status, list) : NULL;
	for (size_t k = 0; k < json_array_size(items); k++) {
		json_t *name = json_object_get(json_array_get(items, k), "name");
		bool known = !name || json_object_get(json_array_get(items, k), "$patch");
		for (size_t n = 0; !known && n < json_array_size(names); n++)
			known = json_equal(json_array_get(names, n), name);
		if (!known)
			(void)json_array_append(names, name);
	}
}

static void move(json_t *list, const char *name, size_t to)
{
	size_t at = 0;
	json_t *item = list_named(list, name, &at);
	if (!item)
		return;
	json_incref(item);
	(void)json_array_remove(list, at);
	(void)json_array_insert_new(list, min_size(to, json_array_size(list)), item);
}

/* What came to the end of a list may not be behind those that are to be last. */
static void reorder(const struct injection *i)
{
	if (i->gateway || i->native)
		return;
	move(json_object_get(i->spec, "containers"), PROXY_NAME, i->hold ? 0 : SIZE_MAX);
	if (!i->o->cni)
		move(json_object_get(i->spec, "initContainers"), INIT_NAME, SIZE_MAX);
}

void custom_spec(const struct injection *i, json_t *status)
{
	json_t *patch;
	size_t at;
	json_array_foreach(i->custom, at, patch)
	{
		json_t *spec = json_object_get(patch, "spec");
		if (!spec)
			continue;
		follow(spec, i->spec, "containers", "initContainers");
		follow(spec, i->spec, "initContainers", "containers");
		patch_apply(i->spec, spec);
		users_again(i, spec, "containers");
		users_again(i, spec, "initContainers");
		for (size_t k = 0; k < ARRAY_LEN(lists); k++)
			note_names(spec, lists[k], status);
	}
	if (json_array_size(i->custom))
		reorder(i);
}
