/*
 * DOC: Custom templates of injection: text that becomes a patch of the pod. Istio's are Go templates; of Go's language there is what puts a value
 * in a place: {{ .ObjectMeta.Name }}, {{ index .ObjectMeta.Labels "app" }}, behind it `| default "x"` and `| quote`, comments, and the dashes that
 * trim white space. The names of the values are Istio's, as far as they are in the table. Everything else (conditions, loops, variables, other
 * functions) is refused with the line when the template is read, not when a pod comes. As in Go the text is made first and read as YAML then.
 */
#include <ctype.h>
#include <stdlib.h>

#include "galley/webhook/inject_template.h"

#define RENDERED_MAX (1u << 20) /* a template may put a long annotation in many places */
#define WHERE "template \"%.60s\", line %u: "

struct render {
	const char *name;
	const json_t *data;
	struct strbuf *out;
	struct str action; /* as written, for errors */
	unsigned line;
};

static bool refuse(const struct render *r, const char *rule, struct err *e)
{
	return err_set(
		e, ERR_PEER, WHERE "{{ " STR_FMT " }}: %s", r->name, r->line, STR_ARG(str_sub(r->action, 0, 80)), rule);
}

/* ---- words of an action */

static bool is_end(char c)
{
	return isspace((unsigned char)c) || c == '|';
}

/* Takes the next word; a text in quotes or backticks is one, with them. False: there is none. */
static bool next_word(struct str *rest, struct str *word)
{
	*rest = str_trim(*rest);
	size_t n = 0;
	if (!rest->len)
		return false;
	if (*rest->ptr == '|') {
		n = 1;
	} else if (*rest->ptr == '"' || *rest->ptr == '`') {
		for (n = 1; n < rest->len && rest->ptr[n] != *rest->ptr; n++)
			n += *rest->ptr == '"' && rest->ptr[n] == '\\';
		n = min_size(n + 1, rest->len);
	} else {
		while (n < rest->len && !is_end(rest->ptr[n]))
			n++;
	}
	*word = str_sub(*rest, 0, n);
	*rest = str_from(*rest, n);
	return true;
}

/* A word that is a text, without its quotes. The caller frees it; NULL: it is none. */
static char *literal_of(struct str word)
{
	bool quoted = word.len >= 2 && word.ptr[0] == word.ptr[word.len - 1];
	if (!quoted || (*word.ptr != '"' && *word.ptr != '`'))
		return NULL;
	if (*word.ptr == '`')
		return xstrndup(word.ptr + 1, word.len - 2);
	json_t *text = json_loadb(word.ptr, word.len, JSON_DECODE_ANY, NULL);
	char *out = json_is_string(text) ? xstrdup(json_string_value(text)) : NULL;
	json_decref(text);
	return out;
}

/* ---- values */

static char *text_of(const json_t *value)
{
	return json_is_integer(value) ? xasprintf("%lld", (long long)json_integer_value(value))
				      : xstrdup(json_is_string(value) ? json_string_value(value) : "");
}

/* What ".A.B" leads to; NULL: no such name. */
static const json_t *find(const json_t *data, struct str path)
{
	struct str rest = str_from(path, 1), part;
	if (!path.len || *path.ptr != '.' || !rest.len)
		return NULL;
	while (data && str_split(&rest, '.', &part)) {
		char *key cleanup(free_p) = xstrndup(part.ptr, part.len);
		data = json_object_get(data, key);
	}
	return data;
}

static bool read_index(const struct render *r, struct str *rest, char **value, struct err *e)
{
	struct str path, word;
	if (!next_word(rest, &path) || !next_word(rest, &word))
		return refuse(r, "index takes a map and a key", e);
	const json_t *map = find(r->data, path);
	char *key cleanup(free_p) = literal_of(word);
	if (!json_is_object(map) || !key || !(str_ends(path, STR(".Labels")) || str_ends(path, STR(".Annotations"))))
		return refuse(r, "index takes .ObjectMeta.Labels or .ObjectMeta.Annotations, and a text", e);
	*value = text_of(json_object_get(map, key));
	return true;
}

static bool read_value(const struct render *r, struct str *rest, char **value, struct err *e)
{
	struct str word = {0};
	(void)next_word(rest, &word);
	if (str_eqc(word, "index"))
		return read_index(r, rest, value, e);
	*value = literal_of(word);
	const json_t *found = *value ? NULL : find(r->data, word);
	if (json_is_object(found))
		return refuse(r, "a map cannot be put into a text; index takes one of its values", e);
	if (found)
		*value = text_of(found);
	return *value ||
	       refuse(r, "is not supported: templates may use " TEMPLATE_NAMES ", index, default, quote and comments",
		       e);
}

static bool read_function(const struct render *r, struct str *rest, char **value, struct err *e)
{
	struct str word = {0}, argument = {0};
	struct strbuf quoted = {0};
	(void)next_word(rest, &word);
	if (str_eqc(word, "quote")) {
		strbuf_add_json(&quoted, str_of(*value));
		free(*value);
		*value = strbuf_take(&quoted);
		return true;
	}
	if (!str_eqc(word, "default"))
		return refuse(r, "behind | only default and quote are supported", e);
	char *fallback = next_word(rest, &argument) ? literal_of(argument) : NULL;
	if (!fallback)
		return refuse(r, "default takes a text in quotes", e);
	if (!**value) {
		free(*value);
		*value = take(fallback);
	}
	free(fallback);
	return true;
}

static bool put_action(struct render *r, struct err *e)
{
	struct str rest = r->action, word;
	char *value = NULL;
	bool ok = read_value(r, &rest, &value, e);
	while (ok && next_word(&rest, &word))
		ok = str_eqc(word, "|") ? read_function(r, &rest, &value, e)
					: refuse(r, "is not supported: one value, then functions behind |", e);
	if (ok)
		strbuf_adds(r->out, value);
	free(value);
	return ok;
}

/* ---- the text */

static void trim_end(struct strbuf *out)
{
	while (out->len && isspace((unsigned char)out->ptr[out->len - 1]))
		out->ptr[--out->len] = '\0';
}

static bool find_pair(struct str text, const char *pair, size_t *at)
{
	const char *found = text.len ? memmem(text.ptr, text.len, pair, 2) : NULL;
	if (found)
		*at = (size_t)(found - text.ptr);
	return found != NULL;
}

/* The end of an action; what is in quotes is not looked at, as in Go. */
static bool find_end(struct str text, size_t *at)
{
	char quote = 0;
	for (size_t i = 0; i + 1 < text.len; i++) {
		char c = text.ptr[i];
		if (quote) {
			i += quote == '"' && c == '\\';
			quote = c == quote ? 0 : quote;
		} else if (c == '"' || c == '`') {
			quote = c;
		} else if (c == '}' && text.ptr[i + 1] == '}') {
			*at = i;
			return true;
		}
	}
	return false;
}

/* A comment ends with its own mark, whatever is in it. */
static bool find_comment_end(struct str text, size_t *at)
{
	size_t mark, end;
	if (!find_pair(text, "*/", &mark) || !find_pair(str_from(text, mark), "}}", &end))
		return false;
	*at = mark + end;
	return true;
}

static void count_lines(struct render *r, struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		r->line += text.ptr[i] == '\n';
}

static bool is_comment(struct str action)
{
	return str_starts(action, STR("/*")) && str_ends(action, STR("*/")) && action.len >= 4;
}

/* *rest begins behind "{{" and is left behind "}}", and behind white space that a dash takes. */
static bool read_action(struct render *r, struct str *rest, struct err *e)
{
	size_t end = 0;
	bool before = rest->len > 1 && *rest->ptr == '-' && isspace((unsigned char)rest->ptr[1]);
	struct str from = str_from(*rest, before ? 1 : 0);
	bool comment = str_starts(str_trim(from), STR("/*"));
	r->action = from;
	if (!(comment ? find_comment_end(from, &end) : find_end(from, &end)))
		return err_set(e, ERR_PEER, WHERE "{{ without }}", r->name, r->line);
	struct str inner = str_sub(from, 0, end);
	bool after = end > 1 && inner.ptr[end - 1] == '-' && isspace((unsigned char)inner.ptr[end - 2]);
	r->action = str_trim(str_sub(inner, 0, after ? end - 1 : end));
	if (before)
		trim_end(r->out);
	if (!is_comment(r->action) && !put_action(r, e))
		return false;
	count_lines(r, inner);
	*rest = str_from(from, end + 2);
	while (after && rest->len && isspace((unsigned char)*rest->ptr)) {
		r->line += *rest->ptr == '\n';
		*rest = str_from(*rest, 1);
	}
	return true;
}

bool template_render(const char *name, const char *text, const json_t *data, struct strbuf *out, struct err *e)
{
	struct render r = {.name = name, .data = data, .out = out, .line = 1};
	struct str rest = str_of(text);
	size_t at;
	while (find_pair(rest, "{{", &at)) {
		strbuf_add(out, str_sub(rest, 0, at));
		count_lines(&r, str_sub(rest, 0, at));
		rest = str_from(rest, at + 2);
		if (!read_action(&r, &rest, e))
			return false;
		if (out->len > RENDERED_MAX)
			return err_set(e, ERR_LIMIT, WHERE "the text would be longer than %u bytes", name, r.line,
				RENDERED_MAX);
	}
	strbuf_add(out, rest);
	return true;
}

/* ---- the patch */

static bool wrong(const char *name, const char *path, const char *rule, struct err *e)
{
	return err_set(e, ERR_PEER, "template \"%.60s\": %.200s: %s", name, path, rule);
}

static bool check_value(const char *name, const char *path, const char *key, const json_t *value, struct err *e);

static bool check_items(const char *name, const char *path, const char *list, const json_t *items, struct err *e)
{
	const char *key = list_key(list);
	json_t *item;
	size_t at;
	json_array_foreach((json_t *)(uintptr_t)items, at, item)
	{
		char *place cleanup(free_p) = xasprintf("%s[%zu]", path, at);
		bool bare = json_object_get(item, "$patch") && json_object_size(item) == 1;
		if (key && !bare && !json_is_object(item))
			return wrong(name, place, "an object is expected", e);
		if (key && !bare && !json_object_get(item, key))
			return err_set(e, ERR_PEER, "template \"%.60s\": %.200s.%s: is needed", name, place, key);
		if (!check_value(name, place, "", item, e))
			return false;
	}
	return true;
}

static bool check_value(const char *name, const char *path, const char *key, const json_t *value, struct err *e)
{
	const char *inner;
	json_t *item;
	const char *text = json_string_value(value);
	if (streq(key, "$patch") && !streq(text, "delete") && !streq(text, "replace"))
		return wrong(name, path, "delete or replace is expected", e);
	if (*key == '$' && !streq(key, "$patch"))
		return wrong(name, path, "of the merge's own words only $patch is supported", e);
	if (json_is_array(value))
		return check_items(name, path, key, value, e);
	json_object_foreach((json_t *)(uintptr_t)value, inner, item)
	{
		char *place cleanup(free_p) = xasprintf("%s%s%s", path, *path ? "." : "", inner);
		if (!check_value(name, place, inner, item, e))
			return false;
	}
	return true;
}

static bool check_map(const char *name, const json_t *parent, const char *key, bool texts, struct err *e)
{
	const json_t *map = json_object_get(parent, key);
	const char *inner;
	json_t *item;
	bool ok = !map || json_is_object(map) || json_is_null(map);
	json_object_foreach((json_t *)(uintptr_t)(texts ? map : NULL), inner, item)
		ok = ok && (json_is_string(item) || json_is_null(item));
	return ok || wrong(name, key, texts ? "an object of texts is expected" : "an object is expected", e);
}

static bool check_patch(const char *name, const json_t *patch, struct err *e)
{
	static const char *const known[] = {"apiVersion", "kind", "metadata", "spec"};
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)patch, key, value)
	{
		bool found = false;
		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			found = found || streq(key, known[i]);
		if (!found)
			return wrong(name, key, "is not in a pod's template: metadata and spec are", e);
	}
	const json_t *metadata = json_object_get(patch, "metadata");
	return check_map(name, patch, "metadata", false, e) && check_map(name, patch, "spec", false, e) &&
	       check_map(name, metadata, "labels", true, e) && check_map(name, metadata, "annotations", true, e) &&
	       check_value(name, "", "", patch, e);
}

bool template_patch(const char *name, const char *text, const json_t *data, json_t **out, struct err *e)
{
	struct strbuf yaml cleanup(strbuf_done) = {0};
	if (!template_render(name, text, data, &yaml, e))
		return false;
	if (!yaml_object(yaml.ptr, out, e)) {
		(void)err_in(e, "template \"%.60s\"", name);
		return false;
	}
	if (check_patch(name, *out, e))
		return true;
	json_decref(*out);
	return false;
}
