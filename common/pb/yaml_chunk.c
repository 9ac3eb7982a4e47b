/*
 * DOC: Cutting a YAML stream at its document markers. A line that begins with "---" starts a document, a line that begins
 * with "..." ends one, wherever it stands, also inside of a block scalar (YAML 1.1, section 4.3 and 7.2); so lines are all
 * one has to look at. Directives ("%YAML") and comments in front of a marker belong to the document that it starts.
 */
#include "common/pb/yaml_chunk.h"

#include "common/pb/utf8.h"

static struct str line_of(struct str text)
{
	size_t at;
	return str_find(text, '\n', &at) ? str_sub(text, 0, at + 1) : text;
}

static bool is_marker(struct str line, const char *marker)
{
	if (line.len < 3 || memcmp(line.ptr, marker, 3) != 0)
		return false;
	return line.len == 3 || strchr(" \t\r\n", line.ptr[3]) != NULL;
}

static bool has_content(struct str line)
{
	struct str trimmed = str_trim(line);
	return trimmed.len > 0 && trimmed.ptr[0] != '#' && line.ptr[0] != '%';
}

bool yaml_chunk_next(struct str *rest, unsigned *line, struct yaml_chunk *out)
{
	if (rest->len == 0)
		return false;
	*out = (struct yaml_chunk){*rest, *line};
	size_t len = 0;
	bool content = false;
	while (len < rest->len) {
		struct str next = line_of(str_from(*rest, len));
		if (content && is_marker(next, "---"))
			break;
		len += next.len;
		(*line)++;
		if (is_marker(next, "..."))
			break;
		content = content || has_content(next);
	}
	out->text = str_sub(*rest, 0, len);
	*rest = str_from(*rest, len);
	return true;
}

/* The printable characters of YAML 1.1, section 4.1.1, without the byte order mark. */
static bool is_printable(uint32_t c)
{
	return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0x7e) || c == 0x85 ||
	       (c >= 0xa0 && c <= 0xfffd && c != 0xfeff) || c >= 0x10000;
}

bool yaml_chunk_is_text(const struct yaml_chunk *c, struct yaml_bad_byte *bad)
{
	*bad = (struct yaml_bad_byte){.line = c->line, .column = 1};
	for (size_t at = 0; at < c->text.len;) {
		size_t len = 1;
		if (c->text.ptr[at] >= 0x20 && c->text.ptr[at] < 0x7f) { /* nearly all of it */
			bad->column++;
			at++;
			continue;
		}
		if (!utf8_next(str_from(c->text, at), &bad->value, &len)) {
			bad->rule = "invalid-utf8";
			bad->value = (uint8_t)c->text.ptr[at];
			return false;
		}
		if (!is_printable(bad->value)) {
			bad->rule = "control-character";
			return false;
		}
		if (bad->value == '\n') {
			bad->line++;
			bad->column = 0;
		}
		bad->column++;
		at += len;
	}
	return true;
}

bool yaml_line_has_tab(const struct yaml_chunk *c, unsigned line)
{
	struct str rest = c->text;
	for (unsigned at = c->line; at < line && rest.len > 0; at++)
		rest = str_from(rest, line_of(rest).len);
	for (size_t i = 0; i < rest.len && (rest.ptr[i] == ' ' || rest.ptr[i] == '\t'); i++)
		if (rest.ptr[i] == '\t')
			return true;
	return false;
}
