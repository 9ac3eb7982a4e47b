/*
 * DOC: What the user wrote in a container named like ours wins over ours, as in Kubernetes' strategic merge: objects are merged, lists with a key
 * (environment by name, ports by number and protocol, mounts by path) item by item, other lists are replaced. A probe or hook has one handler:
 * where the user names one, ours goes. The image `auto` is a place for ours.
 */
#include "galley/webhook/inject_internal.h"

static const char *const handlers[] = {"httpGet", "tcpSocket", "grpc", "exec", "sleep"};

static bool same_key(const char *list, const json_t *a, const json_t *b)
{
	static const struct {
		const char *list, *key, *fallback;
	} keys[] = {{"env", "name", ""}, {"volumeMounts", "mountPath", ""}, {"ports", "containerPort", ""},
		{"ports", "protocol", "TCP"}};
	bool same = false;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (!streq(list, keys[i].list))
			continue;
		const json_t *x = json_object_get(a, keys[i].key), *y = json_object_get(b, keys[i].key);
		const char *s = x && !json_is_string(x) ? NULL : json_string_value(x);
		const char *t = y && !json_is_string(y) ? NULL : json_string_value(y);
		bool equal = x && y ? json_equal(x, y) != 0
				    : *keys[i].fallback && streq(x ? s : keys[i].fallback, y ? t : keys[i].fallback);
		if (!equal)
			return false;
		same = true;
	}
	return same;
}

static bool has_key(const char *list)
{
	return streq(list, "env") || streq(list, "volumeMounts") || streq(list, "ports");
}

static void merge_list(const char *name, json_t *ours, const json_t *users)
{
	size_t at, i;
	json_t *item, *old;
	json_array_foreach((json_t *)(uintptr_t)users, at, item)
	{
		bool found = false;
		json_array_foreach(ours, i, old)
		{
			if (found || !same_key(name, old, item))
				continue;
			(void)json_array_set(ours, i, item);
			found = true;
		}
		if (!found)
			(void)json_array_append(ours, item);
	}
}

static bool has_handler(const json_t *o)
{
	for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
		if (json_object_get(o, handlers[i]))
			return true;
	return false;
}

static void merge_object(json_t *ours, const json_t *users)
{
	const char *key;
	json_t *value;
	for (size_t i = 0; has_handler(users) && i < ARRAY_LEN(handlers); i++)
		(void)json_object_del(ours, handlers[i]);
	json_object_foreach((json_t *)(uintptr_t)users, key, value)
	{
		json_t *old = json_object_get(ours, key);
		if (json_is_object(old) && json_is_object(value))
			merge_object(old, value);
		else if (json_is_array(old) && json_is_array(value) && has_key(key))
			merge_list(key, old, value);
		else if (!json_is_null(value))
			(void)json_object_set(ours, key, value);
	}
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
	merge_object(out, user);
	json_decref(user);
	return out;
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
