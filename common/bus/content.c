/* DOC: The replica's table of keys. About 100 bytes a key: with the mesh of 10,000 services some megabytes. */
#include "common/bus/content.h"

#include <stdlib.h>

#include "common/mesh/kinds.h"

void content_init(struct bus_content *c)
{
	*c = (struct bus_content){.map = map_new()};
}

void content_done(struct bus_content *c)
{
	size_t cursor = 0;
	struct str id;
	void *held = NULL;
	while (c->map && map_next(c->map, &cursor, &id, &held))
		free(held);
	map_free(c->map);
	c->map = NULL;
}

size_t content_len(const struct bus_content *c)
{
	return map_len(c->map);
}

struct bus_held *content_get(const struct bus_content *c, uint32_t topic, struct str key)
{
	struct bus_id id;
	return map_get(c->map, bus_id(&id, topic, key));
}

bool content_differs(const struct bus_content *c, const struct bus_change *change)
{
	const struct bus_held *h = content_get(c, change->topic, change->key);
	if (!change->value.ptr)
		return h != NULL;
	return !h || h->hash != change->hash;
}

struct bus_held *content_apply(struct bus_content *c, const struct bus_change *change)
{
	struct bus_id id;
	const struct str name = bus_id(&id, change->topic, change->key);
	struct bus_held *h = map_get(c->map, name);
	if (h)
		content_place(c, h, 0, 0);
	if (!change->value.ptr) {
		free(map_del(c->map, name));
		return NULL;
	}
	if (!h) {
		h = xzalloc(sizeof(*h));
		(void)map_put(c->map, name, h);
	}
	h->hash = change->hash;
	return h;
}

void content_debug(const struct bus_content *c, struct strbuf *json)
{
	size_t n = 0;
	const struct topic *topics = topics_all(&n);
	size_t *keys = xzalloc(n * sizeof(*keys));
	const char *separator = "";
	struct str id;
	for (size_t cursor = 0; map_next(c->map, &cursor, &id, NULL);)
		for (size_t t = 0; t < n; t++)
			keys[t] += topics[t].id == bus_id_topic(id);
	strbuf_adds(json, "\"topics\":[");
	for (size_t t = 0; t < n; t++) {
		if (!keys[t])
			continue;
		strbuf_addf(json, "%s{\"topic\":\"%s\",\"keys\":%zu}", separator, topics[t].name, keys[t]);
		separator = ",";
	}
	strbuf_addc(json, ']');
	free(keys);
}

void content_place(struct bus_content *c, struct bus_held *h, uint64_t offset, uint32_t bytes)
{
	c->record_bytes -= h->bytes;
	c->record_bytes += bytes;
	h->offset = offset;
	h->bytes = bytes;
}
