/*
 * DOC: See the header. A list is walked with two fingers: an item of the new list that is the old list's next (equal, or an object of the same
 * name) is compared with it, any other is an insertion. When the old list's items are not all met in their order, the list is replaced.
 */
#include "galley/webhook/json_patch.h"

#include <stdlib.h>

#include "common/base/str.h"

static void compare(json_t *patch, const char *path, const json_t *from, const json_t *to);

static void operation(json_t *patch, const char *op, const char *path, const json_t *value)
{
	json_t *o = json_pack("{s:s, s:s}", "op", op, "path", path);
	if (value)
		(void)json_object_set(o, "value", (json_t *)(uintptr_t)value);
	(void)json_array_append_new(patch, o);
}

/* A key as a part of a JSON pointer (RFC 6901). */
static char *child_path(const char *path, const char *key)
{
	struct strbuf out = {0};
	strbuf_adds(&out, path);
	strbuf_addc(&out, '/');
	for (; *key; key++)
		if (*key == '~' || *key == '/')
			strbuf_adds(&out, *key == '~' ? "~0" : "~1");
		else
			strbuf_addc(&out, *key);
	return strbuf_take(&out);
}

static bool same_item(const json_t *a, const json_t *b)
{
	const char *x = json_string_value(json_object_get(a, "name"));
	const char *y = json_string_value(json_object_get(b, "name"));
	return x && y ? streq(x, y) : json_equal(a, b) != 0;
}

static bool only_insertions(const json_t *from, const json_t *to)
{
	size_t met = 0;
	for (size_t i = 0; i < json_array_size(to); i++)
		met += met < json_array_size(from) && same_item(json_array_get(from, met), json_array_get(to, i));
	return met == json_array_size(from);
}

static void compare_lists(json_t *patch, const char *path, const json_t *from, const json_t *to)
{
	size_t met = 0;
	if (!only_insertions(from, to)) {
		operation(patch, "replace", path, to);
		return;
	}
	for (size_t i = 0; i < json_array_size(to); i++) {
		const json_t *old = json_array_get(from, met), *item = json_array_get(to, i);
		char *at cleanup(free_p) = xasprintf("%s/%zu", path, i);
		if (old && same_item(old, item)) {
			compare(patch, at, old, item);
			met++;
		} else {
			operation(patch, "add", at, item);
		}
	}
}

static void compare_objects(json_t *patch, const char *path, const json_t *from, const json_t *to)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)from, key, value)
	{
		char *at cleanup(free_p) = child_path(path, key);
		if (!json_object_get(to, key))
			operation(patch, "remove", at, NULL);
	}
	json_object_foreach((json_t *)(uintptr_t)to, key, value)
	{
		char *at cleanup(free_p) = child_path(path, key);
		const json_t *old = json_object_get(from, key);
		if (old)
			compare(patch, at, old, value);
		else
			operation(patch, "add", at, value);
	}
}

static void compare(json_t *patch, const char *path, const json_t *from, const json_t *to)
{
	if (json_equal(from, to))
		return;
	if (json_is_object(from) && json_is_object(to))
		compare_objects(patch, path, from, to);
	else if (json_is_array(from) && json_is_array(to))
		compare_lists(patch, path, from, to);
	else
		operation(patch, "replace", path, to);
}

json_t *json_patch(const json_t *from, const json_t *to)
{
	json_t *patch = json_array();
	compare(patch, "", from, to);
	return patch;
}
