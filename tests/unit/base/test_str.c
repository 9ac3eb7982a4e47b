/* DOC: Views and buffers: cutting, splitting, JSON escaping. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/str.h"

static void order_is_by_bytes_and_shorter_first(void **state)
{
	assert_int_equal(str_cmp(STR("a"), STR("a")), 0);
	assert_true(str_cmp(STR("a"), STR("ab")) < 0);
	assert_true(str_cmp(STR("b"), STR("ab")) > 0);
	assert_true(str_cmp((struct str){0}, STR("a")) < 0);
	assert_true(str_ieq(STR("Content-TYPE"), STR("content-type")));
	assert_false(str_ieq(STR("a"), STR("ab")));
	assert_false(str_ieq(STR("["), STR("{")));
}

static void prefixes_suffixes_and_parts(void **state)
{
	size_t at = 99;

	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_true(str_ends(STR("abc"), STR("bc")));
	assert_true(str_ends(STR("abc"), STR("")));
	assert_false(str_ends(STR("c"), STR("bc")));
	assert_true(str_eqc(str_trim(STR(" \t a b\r\n")), "a b"));
	assert_int_equal(str_trim(STR("   ")).len, 0);
	assert_true(str_eqc(str_from(STR("abc"), 2), "c"));
	assert_int_equal(str_from(STR("abc"), 9).len, 0);
	assert_true(str_eqc(str_sub(STR("abcdef"), 2, 3), "cde"));
	assert_true(str_eqc(str_sub(STR("abc"), 2, 30), "c"));
	assert_true(str_find(STR("a.b.c"), '.', &at));
	assert_int_equal(at, 1);
	assert_true(str_rfind(STR("a.b.c"), '.', &at));
	assert_int_equal(at, 3);
	assert_false(str_find(STR("abc"), 'x', &at));
	assert_false(str_rfind(STR(""), 'x', &at));
	assert_int_equal(at, 3);
}

static void splitting_keeps_empty_parts(void **state)
{
	static const char *const wanted[] = {"a", "", "b", ""};
	struct str part;
	size_t n = 0;

	for (struct str rest = STR("a,,b,"); str_split(&rest, ',', &part); n++)
		assert_true(n < ARRAY_LEN(wanted) && str_eqc(part, wanted[n]));
	assert_int_equal(n, ARRAY_LEN(wanted));
	n = 0;
	for (struct str rest = {0}; str_split(&rest, ',', &part);)
		n++;
	assert_int_equal(n, 0);
}

static void cutting_at_the_first_separator(void **state)
{
	struct str head, tail;

	assert_true(str_cut(STR("a/b/c"), '/', &head, &tail));
	assert_true(str_eqc(head, "a") && str_eqc(tail, "b/c"));
	assert_true(str_cut(STR("a/"), '/', &head, &tail));
	assert_true(str_eqc(head, "a") && tail.len == 0);
	assert_false(str_cut(STR("abc"), '/', &head, &tail));
	assert_true(str_eqc(head, "abc") && tail.len == 0);
}

static void null_counts_as_empty(void **state)
{
	assert_true(streq(NULL, ""));
	assert_true(streq(NULL, NULL));
	assert_false(streq(NULL, "a"));
	assert_true(str_empty(NULL));
	assert_true(str_eq(str_of(NULL), STR("")));
}

static void buffers_grow_and_stay_terminated(void **state)
{
	struct strbuf b = {0};
	char *taken;

	assert_true(str_eqc(strbuf_str(&b), ""));
	for (int i = 0; i < 1000; i++)
		strbuf_addf(&b, "%03d,", i);
	assert_int_equal(b.len, 4000);
	assert_int_equal(b.ptr[b.len], 0);
	assert_memory_equal(b.ptr, "000,001,", 8);
	strbuf_clear(&b);
	assert_string_equal(b.ptr, "");
	strbuf_addf(&b, "%0300d", 1);
	assert_int_equal(b.len, 300);
	taken = strbuf_take(&b);
	assert_int_equal(strlen(taken), 300);
	free(taken);
	taken = strbuf_take(&b);
	assert_string_equal(taken, "");
	free(taken);
}

static void check_json(struct str in, const char *wanted)
{
	struct strbuf b = {0};

	strbuf_add_json(&b, in);
	assert_string_equal(b.ptr, wanted);
	strbuf_done(&b);
}

static void json_strings_are_escaped(void **state)
{
	check_json(STR(""), "\"\"");
	check_json(STR("a\"b\\c/d"), "\"a\\\"b\\\\c/d\"");
	check_json(STR("\b\f\n\r\t\x01\x7f"), "\"\\b\\f\\n\\r\\t\\u0001\\u007f\"");
	check_json(STR("nul\0end"), "\"nul\\u0000end\"");
	check_json(STR("gr\xc3\xbc\xc3\x9f \xf0\x9f\x9a\xa2"), "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x9a\xa2\"");
}

static void bytes_that_are_no_utf8_are_replaced(void **state)
{
	check_json(STR("a\xff"
		       "b"),
		"\"a\xef\xbf\xbd"
		"b\"");
	check_json(STR("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\""); /* overlong */
	check_json(STR("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* surrogate */
	check_json(STR("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\""); /* cut off */
	check_json(STR("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void hashes_depend_on_content_and_seed_only(void **state)
{
	char copy[] = "xcontent";

	assert_true(hash64(STR("content")) == hash64(str_of(copy + 1)));
	assert_true(hash64(STR("content")) != hash64(STR("contenT")));
	assert_true(hash64_seed(STR("content"), 1) != hash64_seed(STR("content"), 2));
	/* XXH3's published value for no input: equal on every machine. */
	assert_true(hash64((struct str){0}) == UINT64_C(0x2d06800538d394c2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_is_by_bytes_and_shorter_first),
		cmocka_unit_test(prefixes_suffixes_and_parts),
		cmocka_unit_test(splitting_keeps_empty_parts),
		cmocka_unit_test(cutting_at_the_first_separator),
		cmocka_unit_test(null_counts_as_empty),
		cmocka_unit_test(buffers_grow_and_stay_terminated),
		cmocka_unit_test(json_strings_are_escaped),
		cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
		cmocka_unit_test(hashes_depend_on_content_and_seed_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
