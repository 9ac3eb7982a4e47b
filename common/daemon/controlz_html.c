/*
 * DOC: ControlZ's pages for people are made of its JSON: a list of objects is a table with a row for each, an object
 * a table of names and values, anything else text. So a topic is written once, and what a script reads is what a
 * person sees. Everything that comes from the JSON is escaped; the forms are ours.
 */
#include <jansson.h>
#include <stdlib.h>

#include "common/base/vec.h"
#include "common/daemon/controlz.h"

#define DEPTH_MAX 8 /* what is nested deeper is shown as JSON */

static const char head[] = "<!doctype html><meta charset=\"utf-8\"><style>"
			   "body{font:14px/1.5 sans-serif;margin:1.5em}nav "
			   "a{margin-right:1em}table{border-collapse:collapse;margin:.3em 0}"
			   "td,th{border:1px solid #ccc;padding:.15em .5em;text-align:left;vertical-align:top}"
			   "form,button{margin:.5em 0}</style>"
			   "<script>function put(path,body){fetch(path,{method:'PUT',body:body}).then(async r=>{"
			   "document.getElementById('said').textContent=r.status+' '+await r.text();"
			   "if(r.ok)setTimeout(()=>location.reload(),300)});return false}</script>";

static void add_text(struct strbuf *out, struct str text)
{
	static const struct {
		char c;
		const char *entity;
	} special[] = {{'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'"', "&quot;"}, {'\'', "&#39;"}};

	for (size_t i = 0; i < text.len; i++) {
		const char *entity = NULL;

		for (size_t k = 0; k < ARRAY_LEN(special); k++) {
			if (special[k].c == text.ptr[i])
				entity = special[k].entity;
		}
		if (entity)
			strbuf_adds(out, entity);
		else
			strbuf_addc(out, text.ptr[i]);
	}
}

static void add_value(struct strbuf *out, const json_t *v, unsigned depth);

static void add_row(struct strbuf *out, const char *name, const json_t *v, unsigned depth)
{
	strbuf_adds(out, "<tr><th>");
	add_text(out, str_of(name));
	strbuf_adds(out, "<td>");
	add_value(out, v, depth + 1);
}

static void add_object(struct strbuf *out, json_t *object, unsigned depth)
{
	const char *name;
	json_t *v;

	strbuf_adds(out, "<table>");
	json_object_foreach(object, name, v) add_row(out, name, v, depth);
	strbuf_adds(out, "</table>");
}

/* The columns of a list of objects: every member that any of them has, in the order of first appearance. */
static json_t *columns_of(const json_t *list)
{
	json_t *columns = json_object();
	const json_t *item;
	const char *name;
	size_t i;
	json_t *v;

	json_array_foreach(list, i, item)
	{
		if (!json_is_object(item)) {
			json_decref(columns);
			return NULL;
		}
		json_object_foreach((json_t *)(uintptr_t)item, name, v) json_object_set_new(columns, name, json_null());
	}
	return columns;
}

static void add_list(struct strbuf *out, const json_t *list, unsigned depth)
{
	json_t *columns = columns_of(list);
	const json_t *item;
	const char *name;
	json_t *none;
	size_t i;

	strbuf_adds(out, "<table>");
	if (columns)
		strbuf_adds(out, "<tr>");
	json_object_foreach(columns, name, none)
	{
		strbuf_adds(out, "<th>");
		add_text(out, str_of(name));
	}
	json_array_foreach(list, i, item)
	{
		strbuf_adds(out, columns ? "<tr>" : "<tr><td>");
		if (!columns)
			add_value(out, item, depth + 1);
		json_object_foreach(columns, name, none)
		{
			strbuf_adds(out, "<td>");
			add_value(out, json_object_get(item, name), depth + 1);
		}
	}
	strbuf_adds(out, "</table>");
	json_decref(columns);
}

static void add_value(struct strbuf *out, const json_t *v, unsigned depth)
{
	char *text;

	if (!v)
		return;
	if (json_is_string(v)) {
		add_text(out, str_n(json_string_value(v), json_string_length(v)));
	} else if (json_is_object(v) && depth < DEPTH_MAX) {
		add_object(out, (json_t *)(uintptr_t)v, depth);
	} else if (json_is_array(v) && depth < DEPTH_MAX) {
		add_list(out, v, depth);
	} else {
		text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
		add_text(out, str_of(text));
		free(text);
	}
}

void controlz_html(const char *title, const char *const *links, const char *form, struct str json, struct strbuf *out)
{
	json_t *v = json_loadb(json.ptr ? json.ptr : "", json.len, JSON_DECODE_ANY, NULL);

	strbuf_adds(out, head);
	strbuf_adds(out, "<title>");
	add_text(out, str_of(title));
	strbuf_adds(out, "</title><nav>");
	for (; links[0]; links += 2) {
		strbuf_addf(out, "<a href=\"%s\">", links[0]);
		add_text(out, str_of(links[1]));
		strbuf_adds(out, "</a>");
	}
	strbuf_adds(out, "</nav><h1>");
	add_text(out, str_of(title));
	strbuf_addf(out, "</h1>%s<p id=\"said\"></p>", form);
	if (v)
		add_value(out, v, 0);
	else
		add_text(out, json);
	strbuf_addc(out, '\n');
	json_decref(v);
}
