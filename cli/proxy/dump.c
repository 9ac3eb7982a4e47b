/*
 * DOC: Two sources, one form. Envoy's dump is a list of sections by type; a table says in which member of which section the resources of a part
 * lie, and which of them are not in use yet.
 */
#include "cli/proxy/dump.h"

#include <ctype.h>
#include <stdlib.h>

#include "common/base/str.h"

const char *const dump_part_names[DUMP_PART_COUNT] = {
	"listeners", "routes", "clusters", "endpoints", "secrets", "bootstrap"};

/* "filter_chain_match" -> "filterChainMatch" */
static json_t *member(const json_t *object, struct str name)
{
	char camel[128];
	size_t n = 0;
	json_t *v = json_object_getn(object, name.ptr, name.len);
	if (v || name.len >= sizeof(camel))
		return v;
	for (size_t i = 0; i < name.len; i++) {
		bool raise = name.ptr[i] == '_' && i + 1 < name.len;
		i += raise;
		camel[n++] = raise ? (char)toupper((unsigned char)name.ptr[i]) : name.ptr[i];
	}
	return json_object_getn(object, camel, n);
}

json_t *dump_at(const json_t *value, const char *path)
{
	struct str rest = str_of(path), part;
	json_t *at = (json_t *)(uintptr_t)value;
	uint64_t index;
	while (at && str_split(&rest, '.', &part))
		at = json_is_array(at) ? (str_u64(part, SIZE_MAX, &index) ? json_array_get(at, index) : NULL)
				       : member(at, part);
	return at;
}

const char *dump_text(const json_t *value, const char *path)
{
	const char *text = json_string_value(dump_at(value, path));
	return text ? text : "";
}

static void init(struct dump *d)
{
	*d = (struct dump){0};
	for (size_t i = 0; i < DUMP_PART_COUNT; i++)
		d->parts[i] = json_array();
}

void dump_done(struct dump *d)
{
	for (size_t i = 0; i < DUMP_PART_COUNT; i++)
		json_decref(d->parts[i]);
	json_decref(d->health);
}

static const char *resource_name(const json_t *resource)
{
	const char *name = dump_text(resource, "name");
	return *name ? name : dump_text(resource, "cluster_name");
}

static void add(json_t *list, const char *version, const char *state, json_t *resource)
{
	json_t *item = json_object();
	(void)json_object_set_new(item, "name", json_string(resource_name(resource)));
	(void)json_object_set_new(item, "version", json_string(version));
	(void)json_object_set_new(item, "state", json_string(state));
	(void)json_object_set(item, "resource", resource);
	(void)json_array_append_new(list, item);
}

void dump_from_pilot(const json_t *item, struct dump *out)
{
	static const struct {
		const char *key;
		enum dump_part part;
	} types[] = {{"cds", DUMP_CLUSTERS}, {"eds", DUMP_ENDPOINTS}, {"lds", DUMP_LISTENERS}, {"rds", DUMP_ROUTES}};
	size_t i;
	json_t *r;
	init(out);
	for (size_t t = 0; t < ARRAY_LEN(types); t++)
		json_array_foreach(dump_at(item, types[t].key), i, r) if (json_is_object(dump_at(r, "resource")))
			add(out->parts[types[t].part], dump_text(r, "version"), "SENT", dump_at(r, "resource"));
}

/* Where Envoy's dump holds what. */
static const struct section {
	const char *type; /* end of the section's @type */
	const char *list; /* member with the items */
	const char *resource; /* of an item */
	const char *version; /* of an item */
	const char *state;
	enum dump_part part;
} sections[] = {
	{"ListenersConfigDump", "static_listeners", "listener", "version_info", "STATIC", DUMP_LISTENERS},
	{"ListenersConfigDump", "dynamic_listeners", "active_state.listener", "active_state.version_info", "ACTIVE",
		DUMP_LISTENERS},
	{"ListenersConfigDump", "dynamic_listeners", "warming_state.listener", "warming_state.version_info", "WARMING",
		DUMP_LISTENERS},
	{"RoutesConfigDump", "static_route_configs", "route_config", "version_info", "STATIC", DUMP_ROUTES},
	{"RoutesConfigDump", "dynamic_route_configs", "route_config", "version_info", "ACTIVE", DUMP_ROUTES},
	{"ClustersConfigDump", "static_clusters", "cluster", "version_info", "STATIC", DUMP_CLUSTERS},
	{"ClustersConfigDump", "dynamic_active_clusters", "cluster", "version_info", "ACTIVE", DUMP_CLUSTERS},
	{"ClustersConfigDump", "dynamic_warming_clusters", "cluster", "version_info", "WARMING", DUMP_CLUSTERS},
	{"EndpointsConfigDump", "static_endpoint_configs", "endpoint_config", "version_info", "STATIC", DUMP_ENDPOINTS},
	{"EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config", "version_info", "ACTIVE",
		DUMP_ENDPOINTS},
	{"SecretsConfigDump", "static_secrets", "secret", "version_info", "STATIC", DUMP_SECRETS},
	{"SecretsConfigDump", "dynamic_active_secrets", "secret", "version_info", "ACTIVE", DUMP_SECRETS},
	{"SecretsConfigDump", "dynamic_warming_secrets", "secret", "version_info", "WARMING", DUMP_SECRETS},
	{"BootstrapConfigDump", "", "bootstrap", "", "STATIC", DUMP_BOOTSTRAP},
};

/* Envoy redacts keys itself; nothing here depends on that. */
static void drop_private(json_t *value)
{
	const char *key;
	json_t *v;
	size_t i;
	void *next;
	json_object_foreach_safe(value, next, key, v)
	{
		if (streq(key, "private_key") || streq(key, "privateKey") || streq(key, "private_key_provider") ||
			streq(key, "session_ticket_keys"))
			(void)json_object_del(value, key);
		else
			drop_private(v);
	}
	json_array_foreach(value, i, v) drop_private(v);
}

static void take_item(const struct section *s, const json_t *item, struct dump *out)
{
	json_t *resource = dump_at(item, s->resource);
	if (!json_is_object(resource))
		return;
	drop_private(resource);
	add(out->parts[s->part], *s->version ? dump_text(item, s->version) : "", s->state, resource);
}

bool dump_from_envoy(const json_t *config_dump, struct dump *out, struct err *e)
{
	const json_t *configs = dump_at(config_dump, "configs");
	size_t i, k;
	json_t *config, *item;
	if (!json_is_array(configs))
		return err_set(e, ERR_PEER, "this is not a config dump of Envoy: it has no list \"configs\"");
	init(out);
	json_array_foreach(configs, i, config)
	{
		struct str type = str_of(dump_text(config, "@type"));
		for (size_t s = 0; s < ARRAY_LEN(sections); s++) {
			if (!str_ends(type, str_of(sections[s].type)))
				continue;
			if (!*sections[s].list)
				take_item(&sections[s], config, out);
			json_array_foreach(dump_at(config, sections[s].list), k, item)
				take_item(&sections[s], item, out);
		}
	}
	return true;
}
