/*
 * DOC: Istio's way to tell a proxy something is its environment, which proxyMetadata of the mesh config and of annotations ends up in. Every
 * ISTIO_META_ variable is a text of the node's metadata; ISTIO_METAJSON_ variables are objects whose members are added (LABELS is the usual one).
 *
 * Envoy's own locality decides in zone-aware routing, so it must stand in the bootstrap: pilot could not tell it later.
 */
#include "agent/metadata.h"

#include <string.h>

#include "common/base/str.h"
#include "common/base/util.h"

#define TEXT_PREFIX "ISTIO_META_"
#define JSON_PREFIX "ISTIO_METAJSON_"

static bool cut_prefix(struct str s, const char *prefix, struct str *key, struct str *value)
{
	if (!str_starts(s, str_of(prefix)))
		return false;
	return str_cut(str_from(s, strlen(prefix)), '=', key, value) && key->len;
}

static void add_text(json_t *metadata, struct str key, struct str value)
{
	char *name cleanup(free_p) = xstrndup(key.ptr, key.len);
	if (!json_object_get(metadata, name))
		(void)json_object_set_new(metadata, name, json_stringn(value.ptr, value.len));
}

static bool add_object(json_t *metadata, struct str key, struct str value, struct err *e)
{
	char *name cleanup(free_p) = xstrndup(key.ptr, key.len);
	json_error_t error;
	json_t *more = json_loadb(value.ptr, value.len, 0, &error), *have = json_object_get(metadata, name);
	if (!json_is_object(more)) {
		json_decref(more);
		return err_set(e, ERR_PEER, JSON_PREFIX "%s: a JSON object is expected", name);
	}
	if (json_is_object(have))
		(void)json_object_update_missing(have, more);
	else if (!have)
		(void)json_object_set(metadata, name, more);
	json_decref(more);
	return true;
}

bool metadata_from_env(json_t *metadata, char *const *environment, struct err *e)
{
	for (; environment && *environment; environment++) {
		struct str key, value;
		if (cut_prefix(str_of(*environment), TEXT_PREFIX, &key, &value))
			add_text(metadata, key, value);
		else if (cut_prefix(str_of(*environment), JSON_PREFIX, &key, &value) &&
			 !add_object(metadata, key, value, e))
			return false;
	}
	return true;
}

bool metadata_is_true(const json_t *metadata, const char *key)
{
	const char *text = json_string_value(json_object_get(metadata, key));
	return text && (streq(text, "true") || streq(text, "1"));
}

/* ---- locality */

static json_t *of_parts(struct str text, char separator)
{
	static const char *const keys[] = {"region", "zone", "sub_zone"};
	json_t *locality = json_object();
	struct str part;
	for (size_t i = 0; i < ARRAY_LEN(keys) && str_split(&text, separator, &part); i++)
		(void)json_object_set_new(locality, keys[i], json_stringn(part.ptr, part.len));
	return locality;
}

static json_t *of_machine(const json_t *labels)
{
	static const struct {
		const char *label, *key;
	} parts[] = {{"topology.kubernetes.io/region", "region"}, {"topology.kubernetes.io/zone", "zone"},
		{"topology.istio.io/subzone", "sub_zone"}};
	json_t *locality = json_object();
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (json_is_string(json_object_get(labels, parts[i].label)))
			(void)json_object_set(locality, parts[i].key, json_object_get(labels, parts[i].label));
	return locality;
}

json_t *metadata_locality(const char *option, const json_t *labels)
{
	const char *label = json_string_value(json_object_get(labels, "topology.istio.io/locality"));
	if (!str_empty(option))
		return of_parts(str_of(option), '/');
	if (!label)
		label = json_string_value(json_object_get(labels, "istio-locality"));
	if (label)
		return of_parts(str_of(label), strchr(label, '/') ? '/' : '.');
	return of_machine(labels);
}
