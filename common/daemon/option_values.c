/*
 * DOC: From the text of an option to the field it fills, and back to words: ranges, the names of sources, the help
 * page, and the nearest known name for a mistyped one. Each type has one conversion; a value that does not convert
 * leaves the field alone.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/daemon/option_internal.h"

static bool store_bool(struct str text, void *field)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {{"true", true}, {"yes", true}, {"on", true}, {"1", true}, {"false", false}, {"no", false},
		{"off", false}, {"0", false}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_ieq(text, str_of(words[i].word))) {
			*(bool *)field = words[i].value;
			return true;
		}
	}
	return false;
}

static bool parse_ms(struct str text, uint64_t *out)
{
	int64_t ns;

	if (str_u64(text, UINT64_MAX, out))
		return true;
	if (!str_duration(text, &ns) || ns < 0)
		return false;
	*out = (uint64_t)ns / 1000000;
	return true;
}

static const char **split_list(struct arena *a, struct str text)
{
	size_t commas = 0;
	size_t n = 0;
	const char **list;
	struct str part;

	for (size_t i = 0; i < text.len; i++)
		commas += text.ptr[i] == ',';
	list = ARENA_ARRAY(a, const char *, commas + 2);
	while (str_split(&text, ',', &part)) {
		part = str_trim(part);
		if (part.len > 0)
			list[n++] = arena_cstr(a, part);
	}
	return list;
}

static const char *range_text(struct arena *a, const struct option_row *row)
{
	const char *unit = row->type == OPTION_MS ? " ms" : "";

	if (row->max == 0)
		return arena_printf(a, "at least %llu%s", (unsigned long long)row->min, unit);
	return arena_printf(a, "%llu..%llu%s", (unsigned long long)row->min, (unsigned long long)row->max, unit);
}

static bool in_range(const struct option_row *row, uint64_t value)
{
	return value >= row->min && (row->max == 0 || value <= row->max);
}

static bool store_number(
	struct arena *a, const struct option_row *row, const char *text, void *field, const char **problem)
{
	uint64_t value = 0;
	bool parsed = !text || (row->type == OPTION_MS ? parse_ms(str_of(text), &value)
						       : str_u64(str_of(text), UINT32_MAX, &value));

	if (!parsed) {
		*problem = arena_printf(a, "\"%.100s\" is not %s (%s)", text,
			row->type == OPTION_MS ? "a duration like 250ms, 5s or 1h" : "a whole number",
			range_text(a, row));
		return false;
	}
	if (text && !in_range(row, value)) {
		*problem = arena_printf(a, "%.100s is out of range (%s)", text, range_text(a, row));
		return false;
	}
	if (row->type == OPTION_MS)
		*(uint64_t *)field = value;
	else
		*(uint32_t *)field = (uint32_t)value;
	return true;
}

bool option_store(struct arena *a, const struct option_row *row, const char *text, void *config, const char **problem)
{
	void *field = (char *)config + row->offset;

	switch (row->type) {
	case OPTION_STRING:
		*(const char **)field = text ? arena_strdup(a, text) : NULL;
		return true;
	case OPTION_LIST:
		*(const char ***)field = split_list(a, str_of(text));
		return true;
	case OPTION_BOOL:
		if (store_bool(str_of(text ? text : "false"), field))
			return true;
		*problem = arena_printf(a, "\"%.100s\" is neither true nor false", text);
		return false;
	case OPTION_U32:
	case OPTION_MS:
		return store_number(a, row, text, field, problem);
	}
	return false;
}

const char *option_source_name(enum option_source s)
{
	static const char *const names[OPTION_SOURCE_COUNT] = {"default", "file", "environment", "flag"};

	return names[s];
}

bool option_is_secret(const struct option_row *row)
{
	static const char *const words[] = {"secret", "password", "token", "key"};
	struct str name = str_of(row->name);

	/* "token-path" names a file and may be shown; "admin-token" may not. */
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct str word = str_of(words[i]);

		if (str_ends(name, word) && (name.len == word.len || name.ptr[name.len - word.len - 1] == '-'))
			return true;
	}
	return false;
}

#define NAME_MAX_BYTES 63u

/* How many single-character changes make one name of the other. */
static size_t distance(struct str x, struct str y)
{
	size_t row[NAME_MAX_BYTES + 1];

	if (x.len > NAME_MAX_BYTES || y.len > NAME_MAX_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= y.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= x.len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= y.len; j++) {
			size_t change = diagonal + (x.ptr[i - 1] != y.ptr[j - 1]);

			diagonal = row[j];
			row[j] = min_size(change, min_size(row[j], row[j - 1]) + 1);
		}
	}
	return row[y.len];
}

const char *name_nearest(struct str word, const void *rows, size_t n, size_t row_size)
{
	const char *best = NULL;
	/* Further than a third of the name is no slip of the finger any more; two swapped letters count as two. */
	size_t best_distance = max_size(word.len / 3, word.len > 3 ? 2 : 1) + 1;

	for (size_t i = 0; i < n; i++) {
		const char *const *name = (const void *)((const char *)rows + i * row_size);
		size_t d = distance(word, str_of(*name));

		if (d < best_distance) {
			best_distance = d;
			best = *name;
		}
	}
	return best;
}

const char *options_nearest(const struct option_set *set, struct str name)
{
	return name_nearest(name, set->rows, set->n, sizeof(*set->rows));
}

static const char *value_word(enum option_type type)
{
	static const char *const words[] = {[OPTION_STRING] = "=TEXT",
		[OPTION_BOOL] = "",
		[OPTION_U32] = "=N",
		[OPTION_MS] = "=DURATION",
		[OPTION_LIST] = "=A,B"};

	return words[type];
}

static void help_row(const struct option_row *row, struct strbuf *out)
{
	char flag[80];
	bool numeric = row->type == OPTION_U32 || row->type == OPTION_MS;

	snprintf(flag, sizeof(flag), "--%s%s", row->name, value_word(row->type));
	strbuf_addf(out, "  %-28s %s", flag, row->help ? row->help : "");
	if (!str_empty(row->fallback) && row->type != OPTION_BOOL)
		strbuf_addf(out, " (default %s)", row->fallback);
	if (numeric && row->max > 0)
		strbuf_addf(out, " (%llu..%llu%s)", (unsigned long long)row->min, (unsigned long long)row->max,
			row->type == OPTION_MS ? " ms" : "");
	strbuf_addc(out, '\n');
}

void options_help(const char *program, const char *summary, const struct option_row *rows, size_t n, struct strbuf *out)
{
	if (summary)
		strbuf_addf(out, "%s - %s\n\n", program, summary);
	strbuf_addf(out, "Usage: %s [options]\n\nOptions:\n", program);
	options_help_rows(rows, n, out);
}

void options_help_rows(const struct option_row *rows, size_t n, struct strbuf *out)
{
	for (size_t i = 0; i < n; i++)
		help_row(&rows[i], out);
}
