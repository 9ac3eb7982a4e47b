/* DOC: Pages that pilot's workers write together: a list with an item per proxy, or {"busy"} for a worker that did not answer. */
#include "cli/proxies.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/table.h"

const char *proxy_name(struct arena *a, const char *proxy, const char *ns)
{
	return str_empty(ns) || strchr(proxy, '.') ? proxy : arena_printf(a, "%s.%s", proxy, ns);
}

/* Takes the list; returns it sorted, without what is no proxy. */
static json_t *tidy(json_t *list, const char *pilot)
{
	json_t *out = json_array(), *item;
	size_t i;
	json_array_foreach(list, i, item)
	{
		if (json_at(item, "busy")) {
			(void)fprintf(
				stderr, "fairlead: pilot's %s is busy and left out\n", json_text_at(item, "busy"));
			continue;
		}
		(void)json_object_set_new(item, "pilot", json_string(pilot));
		(void)json_array_append(out, item);
	}
	json_decref(list);
	rows_sort(out, "proxy", "id");
	return out;
}

/* In a query string: what is not plain is percent-encoded. */
static char *query_text(const char *text)
{
	struct strbuf out = {0};
	for (const char *c = text; *c; c++) {
		bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
			     strchr("-._~", *c);
		if (plain)
			strbuf_addc(&out, *c);
		else
			strbuf_addf(&out, "%%%02x", (unsigned)(unsigned char)*c);
	}
	return strbuf_take(&out);
}

json_t *proxies_of_pilot(const char *address, const char *page, const char *name, uint64_t timeout_ms, struct err *e)
{
	char *query cleanup(free_p) = query_text(name);
	char *path cleanup(free_p) = xasprintf("%s?proxyID=%s", page, query);
	json_t *version = ask_json(address, "/version", timeout_ms, e);
	json_t *list = version ? ask_json(address, path, timeout_ms, e) : NULL;
	if (list && !json_is_array(list)) {
		(void)err_set(e, ERR_PEER, "%s%s: no list", address, page);
		json_decref(list);
		list = NULL;
	}
	json_t *out = list ? tidy(list, json_text_at(version, "instance")) : NULL;
	json_decref(version);
	return out;
}
