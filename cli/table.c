/* DOC: Tables. Widths count characters, not bytes; the last column is not padded. */
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>

#define GAP 3

json_t *json_at(const json_t *object, const char *key)
{
	struct str rest = str_of(key), part;
	json_t *at = (json_t *)(uintptr_t)object;
	while (at && str_split(&rest, '.', &part))
		at = json_object_getn(at, part.ptr, part.len);
	return at;
}

const char *json_text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_at(object, key));
	return text ? text : "";
}

static void cell_text(const json_t *v, struct strbuf *out)
{
	size_t start = out->len;
	if (json_is_string(v))
		strbuf_adds(out, json_string_value(v));
	else if (json_is_boolean(v))
		strbuf_adds(out, json_is_true(v) ? "yes" : "no");
	else if (json_is_integer(v))
		strbuf_addf(out, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		strbuf_addf(out, "%.1f", json_real_value(v));
	for (size_t i = 0; i < json_array_size(v); i++) {
		strbuf_adds(out, i ? "," : "");
		cell_text(json_array_get(v, i), out);
	}
	if (out->len == start)
		strbuf_addc(out, '-');
}

static size_t width_of(struct str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80; /* not the rest of a UTF-8 character */
	return n;
}

/* A cell is one line: what came from outside may hold anything. */
static char *cell(const json_t *row, const struct column *c)
{
	struct strbuf b = {0};
	cell_text(json_at(row, c->key), &b);
	for (size_t i = 0; i < b.len; i++)
		if ((unsigned char)b.ptr[i] < ' ' || b.ptr[i] == 0x7f)
			b.ptr[i] = ' ';
	return strbuf_take(&b);
}

static void write_cell(struct strbuf *out, struct str text, size_t width, bool last)
{
	strbuf_add(out, text);
	for (size_t i = width_of(text); !last && i < width + GAP; i++)
		strbuf_addc(out, ' ');
	if (last)
		strbuf_addc(out, '\n');
}

void table_write(const json_t *rows, const struct column *columns, size_t n, struct strbuf *out)
{
	size_t n_rows = json_array_size(rows);
	char **cells = xzalloc((n_rows * n + 1) * sizeof(*cells));
	size_t *widths = xzalloc((n + 1) * sizeof(*widths));
	for (size_t k = 0; k < n; k++) {
		widths[k] = width_of(str_of(columns[k].title));
		for (size_t i = 0; i < n_rows; i++) {
			cells[i * n + k] = cell(json_array_get(rows, i), &columns[k]);
			widths[k] = max_size(widths[k], width_of(str_of(cells[i * n + k])));
		}
	}
	for (size_t k = 0; k < n; k++)
		write_cell(out, str_of(columns[k].title), widths[k], k + 1 == n);
	for (size_t i = 0; i < n_rows * n; i++) {
		write_cell(out, str_of(cells[i]), widths[i % n], (i + 1) % n == 0);
		free(cells[i]);
	}
	free(cells);
	free(widths);
}

struct sortable {
	json_t *row;
	const char *first, *second;
	size_t place; /* equal rows keep their order */
};

static int by_keys(const void *x, const void *y)
{
	const struct sortable *a = x, *b = y;
	int c = strcmp(a->first, b->first);
	c = c ? c : strcmp(a->second, b->second);
	return c ? c : (a->place > b->place) - (a->place < b->place);
}

void rows_sort(json_t *rows, const char *key, const char *then)
{
	size_t n = json_array_size(rows);
	struct sortable *list = xzalloc((n + 1) * sizeof(*list));
	for (size_t i = 0; i < n; i++) {
		json_t *row = json_incref(json_array_get(rows, i));
		list[i] = (struct sortable){row, json_text_at(row, key), json_text_at(row, then), i};
	}
	qsort(list, n, sizeof(*list), by_keys);
	(void)json_array_clear(rows);
	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(rows, list[i].row);
	free(list);
}

void print_value(const json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	(void)printf("%s\n", text ? text : "null");
	free(text);
}

void print_text(struct strbuf *text)
{
	(void)fputs(text->ptr ? text->ptr : "", stdout);
	strbuf_done(text);
}
