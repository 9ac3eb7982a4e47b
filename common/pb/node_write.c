/*
 * DOC: Trees to text. JSON is written on one line; YAML in block style with two spaces, strings quoted whenever the reader
 * would take the plain form for something else. Numbers keep their text in YAML and are written in decimal in JSON, which
 * has no hexadecimal; infinities, which JSON has not at all, become strings.
 */
#include "common/pb/node.h"
#include "common/pb/scalar.h"
#include "common/pb/utf8.h"

static void write_number_json(const struct node *n, struct strbuf *out)
{
	struct number number;
	char text[REAL_TEXT_MAX];
	if (!scalar_number(n->text, &number) || number.real - number.real != 0) {
		strbuf_add_json(out, n->text);
	} else if (number.integral) {
		strbuf_addf(out, "%s%llu", number.negative ? "-" : "", (unsigned long long)number.magnitude);
	} else {
		real_text(number.real, false, text);
		strbuf_adds(out, text);
	}
}

static void write_scalar_json(const struct node *n, struct strbuf *out)
{
	switch (n->type) {
	case NODE_NULL:
		strbuf_adds(out, "null");
		break;
	case NODE_BOOL:
		strbuf_adds(out, scalar_is_true(n->text) ? "true" : "false");
		break;
	case NODE_NUMBER:
		write_number_json(n, out);
		break;
	case NODE_STRING:
	case NODE_LIST:
	case NODE_MAP:
		strbuf_add_json(out, n->text);
		break;
	}
}

void node_write_json(const struct node *n, struct strbuf *out)
{
	bool map = n->type == NODE_MAP;
	if (!map && n->type != NODE_LIST) {
		write_scalar_json(n, out);
		return;
	}
	strbuf_addc(out, map ? '{' : '[');
	for (size_t i = 0; i < n->len; i++) {
		if (i > 0)
			strbuf_addc(out, ',');
		if (map) {
			strbuf_add_json(out, n->pairs[i].key);
			strbuf_addc(out, ':');
		}
		node_write_json(map ? n->pairs[i].value : n->items[i], out);
	}
	strbuf_addc(out, map ? '}' : ']');
}

static bool plain_char(char c, bool first)
{
	bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	bool digit = c >= '0' && c <= '9';
	return letter || c == '_' || c == '/' || digit || (!first && (c == '.' || c == '-'));
}

/* JSON's text in quotes is YAML's, too, but for what YAML folds (NEL, LS, PS) or does not allow in its text. */
static void write_quoted_yaml(struct str s, struct strbuf *out)
{
	strbuf_addc(out, '"');
	while (s.len > 0) {
		uint32_t c;
		size_t len = 1;
		if (!utf8_next(s, &c, &len))
			c = 0xfffd;
		if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xa0))
			strbuf_addf(out, "\\x%02x", (unsigned)c);
		else if (c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffd || c == 0xfffe || c == 0xffff)
			strbuf_addf(out, "\\u%04x", (unsigned)c);
		else if (c == '"' || c == '\\')
			strbuf_addf(out, "\\%c", (char)c);
		else
			strbuf_add(out, str_sub(s, 0, len));
		s = str_from(s, len);
	}
	strbuf_addc(out, '"');
}

/* Plain is safe only for plain words that resolve to a string; anything else is quoted. */
static void write_string_yaml(struct str s, struct strbuf *out)
{
	bool plain = scalar_type(s) == NODE_STRING;
	for (size_t i = 0; plain && i < s.len; i++)
		plain = plain_char(s.ptr[i], i == 0);
	if (plain)
		strbuf_add(out, s);
	else
		write_quoted_yaml(s, out);
}

static void write_yaml(const struct node *n, unsigned indent, struct strbuf *out);

static void write_indent(unsigned indent, struct strbuf *out)
{
	for (unsigned i = 0; i < indent; i++)
		strbuf_addc(out, ' ');
}

static void write_scalar_yaml(const struct node *n, struct strbuf *out)
{
	if (n->type == NODE_STRING)
		write_string_yaml(n->text, out);
	else if (n->type == NODE_NUMBER)
		strbuf_add(out, n->text);
	else if (n->type == NODE_LIST)
		strbuf_adds(out, "[]");
	else if (n->type == NODE_MAP)
		strbuf_adds(out, "{}");
	else
		write_scalar_json(n, out);
	strbuf_addc(out, '\n');
}

/* What stands after "key:" or "-": on the same line, or below when it is a block of its own. */
static void write_child(const struct node *n, bool in_map, unsigned indent, struct strbuf *out)
{
	bool block = (n->type == NODE_MAP || n->type == NODE_LIST) && n->len > 0;
	if (block && in_map) {
		strbuf_addc(out, '\n');
		write_indent(indent, out);
	} else {
		strbuf_addc(out, ' ');
	}
	if (block)
		write_yaml(n, indent, out);
	else
		write_scalar_yaml(n, out);
}

/* A key of more than 1024 characters needs the explicit form. */
static void write_key(struct str key, unsigned indent, struct strbuf *out)
{
	bool simple = key.len < 128;
	if (!simple)
		strbuf_adds(out, "? ");
	write_string_yaml(key, out);
	if (!simple) {
		strbuf_addc(out, '\n');
		write_indent(indent, out);
	}
	strbuf_addc(out, ':');
}

/* The cursor stands at column `indent` already. */
static void write_yaml(const struct node *n, unsigned indent, struct strbuf *out)
{
	for (size_t i = 0; i < n->len; i++) {
		if (i > 0)
			write_indent(indent, out);
		if (n->type == NODE_LIST) {
			strbuf_addc(out, '-');
			write_child(n->items[i], false, indent + 2, out);
			continue;
		}
		write_key(n->pairs[i].key, indent, out);
		const struct node *value = n->pairs[i].value;
		write_child(value, true, indent + (value->type == NODE_LIST ? 0 : 2), out);
	}
}

void node_write_yaml(const struct node *n, struct strbuf *out)
{
	bool block = (n->type == NODE_MAP || n->type == NODE_LIST) && n->len > 0;
	if (block)
		write_yaml(n, 0, out);
	else
		write_scalar_yaml(n, out);
}
