/*
 * DOC: Kubernetes' strategic merge. A container of the user's over the one of ours, so that what the user wrote wins, and the patch of a custom
 * template over the pod. Objects are merged, lists with a key (containers and environment by name, ports by number and protocol, mounts by
 * path) item by item, new items at the end, other lists are replaced. A probe, a hook and a variable have one source: where the new one is
 * named, the old one goes. In a patch a null deletes, and `$patch` says "delete" of an item or a map, "replace" of a map or a list. The image
 * `auto` is a place for ours.
 */
#include "galley/webhook/inject_internal.h"

#define DIRECTIVE "$patch"

/* Of several sources an object has one. */
static const char *const sources[][5] = {
	{"httpGet", "tcpSocket", "grpc", "exec", "sleep"},
	{"value", "valueFrom"},
};

static const struct list_key {
	const char *list, *key, *fallback;
} keys[] = {
	{"containers", "name", ""},
	{"initContainers", "name", ""},
	{"ephemeralContainers", "name", ""},
	{"volumes", "name", ""},
	{"imagePullSecrets", "name", ""},
	{"schedulingGates", "name", ""},
	{"resourceClaims", "name", ""},
	{"hostAliases", "ip", ""},
	{"topologySpreadConstraints", "topologyKey", ""},
	{"ownerReferences", "uid", ""},
	{"env", "name", ""},
	{"volumeMounts", "mountPath", ""},
	{"volumeDevices", "devicePath", ""},
	{"ports", "containerPort", ""},
	{"ports", "protocol", "TCP"},
};

static void merge_object(json_t *ours, const json_t *theirs, bool patch);

static bool same_value(const json_t *x, const json_t *y, const char *fallback)
{
	const char *s = x && !json_is_string(x) ? NULL : json_string_value(x);
	const char *t = y && !json_is_string(y) ? NULL : json_string_value(y);
	return x && y ? json_equal(x, y) != 0 : *fallback && streq(x ? s : fallback, y ? t : fallback);
}

static bool same_key(const char *list, const json_t *a, const json_t *b)
{
	bool same = false;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (!streq(list, keys[i].list))
			continue;
		if (!same_value(json_object_get(a, keys[i].key), json_object_get(b, keys[i].key), keys[i].fallback))
			return false;
		same = true;
	}
	return same;
}

const char *list_key(const char *list)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (streq(list, keys[i].list))
			return keys[i].key;
	return NULL;
}

static bool says(const json_t *o, const char *what, bool patch)
{
	return patch && streq(json_string_value(json_object_get(o, DIRECTIVE)), what);
}

/* A new value as it is to be: without what is for the merge alone. */
static json_t *plain(const json_t *value, bool patch)
{
	json_t *out = json_is_object(value) ? json_object() : NULL;
	if (!out || !patch) {
		json_decref(out);
		return json_deep_copy(value);
	}
	merge_object(out, value, true);
	return out;
}

static void merge_item(const char *name, json_t *ours, json_t *item, bool patch)
{
	size_t at;
	json_t *old;
	json_array_foreach(ours, at, old)
	{
		if (!same_key(name, old, item))
			continue;
		if (says(item, "delete", patch))
			(void)json_array_remove(ours, at);
		else if (json_is_object(old) && !says(item, "replace", patch))
			merge_object(old, item, patch);
		else
			(void)json_array_set_new(ours, at, plain(item, patch));
		return;
	}
	if (!says(item, "delete", patch))
		(void)json_array_append_new(ours, plain(item, patch));
}

/* An item that is nothing but the directive is of the list. */
static bool replaces_list(const json_t *item, bool patch)
{
	return says(item, "replace", patch) && json_object_size(item) == 1;
}

static void merge_list(const char *name, json_t *ours, const json_t *theirs, bool patch)
{
	size_t at;
	json_t *item;
	json_array_foreach((json_t *)(uintptr_t)theirs, at, item) if (replaces_list(item, patch))(void)
		json_array_clear(ours);
	json_array_foreach((json_t *)(uintptr_t)theirs, at, item) if (!replaces_list(item, patch))
		merge_item(name, ours, item, patch);
}

static void drop_other_sources(json_t *ours, const json_t *theirs)
{
	for (size_t g = 0; g < ARRAY_LEN(sources); g++) {
		bool named = false;
		for (size_t i = 0; i < ARRAY_LEN(sources[g]) && sources[g][i]; i++)
			named = named || json_object_get(theirs, sources[g][i]);
		for (size_t i = 0; named && i < ARRAY_LEN(sources[g]) && sources[g][i]; i++)
			if (!json_object_get(theirs, sources[g][i]))
				(void)json_object_del(ours, sources[g][i]);
	}
}

static void merge_value(json_t *ours, const char *key, json_t *value, bool patch)
{
	json_t *old = json_object_get(ours, key);
	if (json_is_null(value) || says(value, "delete", patch)) {
		if (patch)
			(void)json_object_del(ours, key);
	} else if (json_is_object(old) && json_is_object(value)) {
		merge_object(old, value, patch);
	} else if (json_is_array(value) && list_key(key) && (patch || json_is_array(old))) {
		if (!json_is_array(old))
			(void)json_object_set_new(ours, key, json_array());
		merge_list(key, json_object_get(ours, key), value, patch);
	} else {
		(void)json_object_set_new(ours, key, plain(value, patch));
	}
}

static void merge_object(json_t *ours, const json_t *theirs, bool patch)
{
	const char *key;
	json_t *value;
	if (says(theirs, "replace", patch))
		(void)json_object_clear(ours);
	drop_other_sources(ours, theirs);
	json_object_foreach((json_t *)(uintptr_t)theirs, key, value) if (!patch || !streq(key, DIRECTIVE))
		merge_value(ours, key, value, patch);
}

json_t *container_merge(const json_t *ours, const json_t *users)
{
	json_t *out = json_deep_copy(ours), *user = json_deep_copy(users);
	const char *image = json_string_value(json_object_get(user, "image"));
	if (streq(image, "auto") || str_empty(image)) {
		(void)json_object_del(user, "image");
		/* The API server filled it in for an image without a tag (Always), before it called us. */
		(void)json_object_del(user, "imagePullPolicy");
	}
	merge_object(out, user, false);
	json_decref(user);
	return out;
}

void patch_apply(json_t *target, const json_t *patch)
{
	merge_object(target, patch, true);
}

json_t *list_named(const json_t *list, const char *name, size_t *at)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *item = json_array_get(list, i);
		if (!streq(json_string_value(json_object_get(item, "name")), name))
			continue;
		if (at)
			*at = i;
		return item;
	}
	return NULL;
}

void list_add_named(json_t *list, json_t *item, size_t at)
{
	if (list_named(list, json_string_value(json_object_get(item, "name")), NULL))
		json_decref(item);
	else
		(void)json_array_insert_new(list, min_size(at, json_array_size(list)), item);
}
