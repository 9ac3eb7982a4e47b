/* DOC: Base64: the examples of RFC 4648, section 10, every length there and back, and what is no base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/base/clock.h"

static void rfc_4648_examples(void **state)
{
	static const struct {
		const char *plain, *text;
	} rows[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
	struct arena *a = arena_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct strbuf out = {0};
		struct str back = {0};
		base64_write(str_of(rows[i].plain), &out);
		assert_true(str_eqc(strbuf_str(&out), rows[i].text));
		assert_true(base64_read(a, strbuf_str(&out), &back));
		assert_true(str_eqc(back, rows[i].plain));
		strbuf_done(&out);
	}
	arena_free(a);
}

static void every_length_there_and_back(void **state)
{
	uint8_t data[300];
	(void)state;
	random_bytes(data, sizeof(data));
	for (size_t len = 0; len <= sizeof(data); len++) {
		struct arena *a = arena_new();
		struct strbuf out = {0};
		struct str back = {0};
		base64_write(str_n(data, len), &out);
		assert_int_equal(out.len, (len + 2) / 3 * 4);
		assert_true(base64_read(a, strbuf_str(&out), &back));
		assert_true(str_eq(back, str_n(data, len)));
		strbuf_done(&out);
		arena_free(a);
	}
}

static void both_alphabets_are_read_and_nothing_else(void **state)
{
	static const char *const bad[] = {"A", "Z=g=", "Zm9\n", "Zm 9", "Zm9*", "Zm9\x80", "===="};
	struct arena *a = arena_new();
	struct str one = {0}, two = {0};
	(void)state;
	assert_true(base64_read(a, STR("+/+/"), &one) && base64_read(a, STR("-_-_"), &two) && str_eq(one, two));
	assert_true(base64_read(a, STR("Zg"), &one) && str_eqc(one, "f")); /* padding may be left out */
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (base64_read(a, str_of(bad[i]), &one))
			fail_msg("\"%s\" was read", bad[i]);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc_4648_examples),
		cmocka_unit_test(every_length_there_and_back),
		cmocka_unit_test(both_alphabets_are_read_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
