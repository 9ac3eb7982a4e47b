#include "galley/reports.h"

#include <stdlib.h>

#include "cfg/model.pb-c.h"
#include "common/base/map.h"
#include "common/pb/json.h"
#include "common/pb/pb.h"

/* DOC: Reports are kept as the JSON that the page shows: {"kind", "name", "annotations": {"error": Envoy's words, "objects", "isolated" ...}}. */

#define REPORTS_MAX 10000

struct reports {
	struct map *json; /* by "<role> <instance> <topic>/<key>" */
};

struct reports *reports_new(void)
{
	struct reports *r = xzalloc(sizeof(*r));
	r->json = map_new();
	return r;
}

void reports_free(struct reports *r)
{
	struct str key;
	void *value;
	if (!r)
		return;
	for (size_t i = 0; map_next(r->json, &i, &key, &value);)
		free(value);
	map_free(r->json);
	free(r);
}

static char *as_json(const struct bus_change *c)
{
	static const struct pb_encode_options plain = {0};
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct strbuf out = {0};
	struct err e = {0};
	const ProtobufCMessage *o = pb_unpack(a, &fl__object__descriptor, c->value.ptr, c->value.len, &e);
	if (o)
		pb_to_json(o, &plain, &out);
	else
		strbuf_add_json(&out, str_of(e.text));
	return out.ptr;
}

void reports_note(struct reports *r, const char *role, const char *instance, const struct bus_change *c)
{
	char *key cleanup(free_p) = xasprintf("%s %s " STR_FMT, role, instance, STR_ARG(c->key));
	struct str id = str_of(key);
	if (!c->value.ptr)
		free(map_del(r->json, id));
	else if (map_get(r->json, id) || map_len(r->json) < REPORTS_MAX)
		free(map_put(r->json, id, as_json(c)));
}

void reports_debug(const struct reports *r, struct strbuf *json)
{
	struct str key;
	void *value;
	bool first = true;
	strbuf_addc(json, '{');
	for (size_t i = 0; map_next(r->json, &i, &key, &value);) {
		if (!first)
			strbuf_addc(json, ',');
		first = false;
		strbuf_add_json(json, key);
		strbuf_addc(json, ':');
		strbuf_adds(json, value);
	}
	strbuf_addc(json, '}');
}
