/* DOC: Volumes and mounts that the proxy needs, at Istio's places, and those that the user adds by annotation. */
#include "galley/webhook/inject_internal.h"

#include "common/base/util.h"

/* Both forms that are in use: {"name": {...}} and [{"name": "...", ...}]. */
static void append_users(json_t *list, const char *annotation)
{
	json_t *users = annotation ? json_loads(annotation, 0, NULL) : NULL, *item;
	const char *name;
	size_t at;
	json_object_foreach(users, name, item)
	{
		json_t *copy = json_deep_copy(item);
		(void)json_object_set_new(copy, "name", json_string(name));
		(void)json_array_append_new(list, copy);
	}
	json_array_foreach(users, at, item)(void) json_array_append(list, item);
	json_decref(users);
}

json_t *proxy_volume_mounts(const struct injection *i)
{
	static const struct {
		const char *name, *path;
	} mounts[] = {{"istiod-ca-cert", "/var/run/secrets/istio"}, {"istio-data", "/var/lib/istio/data"},
		{"istio-envoy", "/etc/istio/proxy"}, {"istio-token", "/var/run/secrets/tokens"},
		{"istio-podinfo", "/etc/istio/pod"}};
	json_t *out = json_array();
	for (size_t k = 0; k < ARRAY_LEN(mounts); k++)
		(void)json_array_append_new(
			out, json_pack("{s:s, s:s}", "name", mounts[k].name, "mountPath", mounts[k].path));
	if (annotation_of(i, BOOTSTRAP_ANNOTATION, NULL))
		(void)json_array_append_new(
			out, json_pack("{s:s, s:s}", "name", "custom-bootstrap-volume", "mountPath", BOOTSTRAP_DIR));
	append_users(out, annotation_of(i, "sidecar.istio.io/userVolumeMount", NULL));
	return out;
}

static json_t *field_file(const char *path, const char *field)
{
	return json_pack("{s:s, s:{s:s}}", "path", path, "fieldRef", "fieldPath", field);
}

json_t *proxy_volumes(const struct injection *i)
{
	const char *roots = str_empty(i->o->roots_config_map) ? INJECT_ROOTS : i->o->roots_config_map;
	json_t *out = json_pack("[{s:s, s:{s:s}}, {s:s, s:{}}]", "name", "istio-envoy", "emptyDir", "medium", "Memory",
		"name", "istio-data", "emptyDir");
	(void)json_array_append_new(out,
		json_pack("{s:s, s:{s:[o, o]}}", "name", "istio-podinfo", "downwardAPI", "items",
			field_file("labels", "metadata.labels"), field_file("annotations", "metadata.annotations")));
	(void)json_array_append_new(out, json_pack("{s:s, s:{s:[{s:{s:s, s:i, s:s}}]}}", "name", "istio-token",
						 "projected", "sources", "serviceAccountToken", "path", "istio-token",
						 "expirationSeconds", 43200, "audience", "istio-ca"));
	(void)json_array_append_new(
		out, json_pack("{s:s, s:{s:s}}", "name", "istiod-ca-cert", "configMap", "name", roots));
	if (annotation_of(i, BOOTSTRAP_ANNOTATION, NULL))
		(void)json_array_append_new(
			out, json_pack("{s:s, s:{s:s}}", "name", "custom-bootstrap-volume", "configMap", "name",
				     annotation_of(i, BOOTSTRAP_ANNOTATION, "")));
	append_users(out, annotation_of(i, "sidecar.istio.io/userVolume", NULL));
	return out;
}
