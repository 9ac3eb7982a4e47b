/* DOC: Tables: what a cell shows, how columns line up, and that sorting keeps the order of equals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/table.h"

static json_t *parse(const char *text)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
	assert_non_null(v);
	return v;
}

static void assert_table(const char *rows, const struct column *columns, size_t n, const char *want)
{
	struct strbuf out = {0};
	json_t *v = parse(rows);
	table_write(v, columns, n, &out);
	assert_string_equal(out.ptr, want);
	strbuf_done(&out);
	json_decref(v);
}

static void columns_line_up(void **state)
{
	(void)state;
	static const struct column columns[] = {{"NAME", "name"}, {"N", "n"}, {"LAST", "last"}};
	assert_table("[{\"name\":\"a\",\"n\":1,\"last\":\"x\"},{\"name\":\"longer\",\"n\":22,\"last\":\"yy\"}]",
		columns, 3,
		"NAME     N    LAST\n"
		"a        1    x\n"
		"longer   22   yy\n");
}

static void width_counts_characters(void **state)
{
	(void)state;
	static const struct column columns[] = {{"A", "a"}, {"B", "b"}};
	assert_table("[{\"a\":\"\u00e4\u00f6\u00fc\",\"b\":\"x\"},{\"a\":\"abc\",\"b\":\"y\"}]", columns, 2,
		"A     B\n\u00e4\u00f6\u00fc   x\nabc   y\n");
}

static void every_type_has_a_text(void **state)
{
	(void)state;
	static const struct column columns[] = {{"A", "a"}};
	assert_table("[{\"a\":true},{\"a\":false},{\"a\":null},{},{\"a\":\"\"},{\"a\":[\"x\",2]},{\"a\":[]},{\"a\":1."
		     "25},{\"a\":{}}]",
		columns, 1, "A\nyes\nno\n-\n-\n-\nx,2\n-\n1.2\n-\n");
}

static void keys_lead_into_objects(void **state)
{
	(void)state;
	static const struct column columns[] = {{"S", "cds.status"}, {"T", "cds.none.deeper"}};
	assert_table(
		"[{\"cds\":{\"status\":\"SYNCED\"}},{\"cds\":3}]", columns, 2, "S        T\nSYNCED   -\n-        -\n");
}

static void a_cell_is_one_line(void **state)
{
	(void)state;
	static const struct column columns[] = {{"A", "a"}};
	assert_table("[{\"a\":\"x\\ny\\u001b[31m\"}]", columns, 1, "A\nx y [31m\n");
}

static void no_rows_still_have_titles(void **state)
{
	(void)state;
	static const struct column columns[] = {{"A", "a"}, {"B", "b"}};
	assert_table("[]", columns, 2, "A   B\n");
}

static void rows_are_sorted_by_two_keys(void **state)
{
	(void)state;
	static const struct column columns[] = {{"A", "a"}, {"B", "b"}, {"N", "n"}};
	struct strbuf out = {0};
	json_t *v = parse("[{\"a\":\"y\",\"n\":1},{\"a\":\"x\",\"b\":\"2\",\"n\":2},{\"a\":\"x\",\"b\":\"1\",\"n\":3},{"
			  "\"a\":\"y\",\"n\":4}]");
	rows_sort(v, "a", "b");
	table_write(v, columns, 3, &out);
	assert_string_equal(out.ptr, "A   B   N\nx   1   3\nx   2   2\ny   -   1\ny   -   4\n");
	strbuf_done(&out);
	json_decref(v);
}

static void output_names(void **state)
{
	(void)state;
	enum output o = OUTPUT_TABLE;
	struct err e = {0};
	assert_true(output_parse("json", &o, &e));
	assert_int_equal(o, OUTPUT_JSON);
	assert_true(output_parse("table", &o, &e));
	assert_int_equal(o, OUTPUT_TABLE);
	assert_false(output_parse("yaml", &o, &e));
	assert_string_equal(e.text, "--output: \"yaml\" is neither table nor json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_line_up),
		cmocka_unit_test(width_counts_characters),
		cmocka_unit_test(every_type_has_a_text),
		cmocka_unit_test(keys_lead_into_objects),
		cmocka_unit_test(a_cell_is_one_line),
		cmocka_unit_test(no_rows_still_have_titles),
		cmocka_unit_test(rows_are_sorted_by_two_keys),
		cmocka_unit_test(output_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
