/*
 * DOC: Reading trees: members by name, dotted paths, and the node at a concrete path of a message. Schema paths use JSON's
 * names of fields while a document may have the proto's names, so a path part matches a key that differs only in how its
 * words are joined ("maxRetries", "max_retries").
 */
#include "common/pb/node.h"

#include "common/pb/json.h"

const struct node *node_get(const struct node *map, const char *key)
{
	if (!map || map->type != NODE_MAP)
		return NULL;
	for (size_t i = 0; i < map->len; i++)
		if (str_eqc(map->pairs[i].key, key))
			return map->pairs[i].value;
	return NULL;
}

static struct str text_of(const struct node *n)
{
	if (!n || n->type == NODE_LIST || n->type == NODE_MAP || n->type == NODE_NULL)
		return STR("");
	return n->text;
}

struct str node_text(const struct node *map, const char *key)
{
	return text_of(node_get(map, key));
}

static const struct node *get_str(const struct node *map, struct str key)
{
	if (!map || map->type != NODE_MAP)
		return NULL;
	for (size_t i = 0; i < map->len; i++)
		if (str_eq(map->pairs[i].key, key))
			return map->pairs[i].value;
	return NULL;
}

struct str node_text_at(const struct node *map, const char *dotted_path)
{
	struct str rest = str_of(dotted_path);
	struct str part;
	const struct node *n = map;
	while (str_split(&rest, '.', &part))
		n = get_str(n, part);
	return text_of(n);
}

/* Equal but for underscores and the case of the letter after one. */
static bool same_words(struct str json_name, struct str key)
{
	size_t at = 0;
	bool raise = false;
	for (size_t i = 0; i < key.len; i++) {
		char c = key.ptr[i];
		if (c == '_') {
			raise = true;
			continue;
		}
		if (raise && c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		raise = false;
		if (at >= json_name.len || json_name.ptr[at++] != c)
			return false;
	}
	return at == json_name.len;
}

static const struct node *get_field(const struct node *map, struct str name)
{
	const struct node *n = get_str(map, name);
	for (size_t i = 0; !n && map->type == NODE_MAP && i < map->len; i++)
		if (same_words(name, map->pairs[i].key))
			n = map->pairs[i].value;
	return n;
}

/* The key of `["key"]` at the front, without its escapes; false when it is not of this form. */
static bool quoted_key(struct str *rest, struct strbuf *key)
{
	size_t at = 2;
	for (; at < rest->len && rest->ptr[at] != '"'; at++) {
		if (rest->ptr[at] == '\\' && at + 1 < rest->len)
			at++;
		strbuf_addc(key, rest->ptr[at]);
	}
	if (at + 1 >= rest->len || rest->ptr[at + 1] != ']')
		return false;
	*rest = str_from(*rest, at + 2);
	return true;
}

static const struct node *index_step(const struct node *n, struct str *rest)
{
	size_t end;
	uint64_t index;
	if (str_starts(*rest, STR("[\""))) {
		struct strbuf key = {0};
		const struct node *found = quoted_key(rest, &key) ? get_str(n, strbuf_str(&key)) : NULL;
		strbuf_done(&key);
		return found;
	}
	if (!str_find(*rest, ']', &end) || !str_u64(str_sub(*rest, 1, end - 1), SIZE_MAX, &index))
		return NULL;
	*rest = str_from(*rest, end + 1);
	return n->type == NODE_LIST && index < n->len ? n->items[index] : NULL;
}

static const struct node *name_step(const struct node *n, struct str *rest)
{
	size_t len = 0;
	if (rest->ptr[0] == '.')
		*rest = str_from(*rest, 1);
	while (len < rest->len && rest->ptr[len] != '.' && rest->ptr[len] != '[')
		len++;
	struct str name = str_sub(*rest, 0, len);
	*rest = str_from(*rest, len);
	return len ? get_field(n, name) : NULL;
}

const struct node *node_at_path(const struct node *n, const char *path)
{
	struct str rest = str_of(path);
	while (n && rest.len > 0) {
		const struct node *next = rest.ptr[0] == '[' ? index_step(n, &rest) : name_step(n, &rest);
		if (!next)
			break;
		n = next;
	}
	return n;
}
