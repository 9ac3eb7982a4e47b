/* DOC: Numbers and durations: what is taken, what is refused, and that a refusal leaves the output alone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/str.h"

static void unsigned_numbers(void **state)
{
	uint64_t v = 7;
	uint32_t w = 7;

	assert_true(str_u64(STR("0"), 10, &v));
	assert_true(v == 0);
	assert_true(str_u64(STR("18446744073709551615"), UINT64_MAX, &v));
	assert_true(v == UINT64_MAX);
	v = 7;
	assert_false(str_u64(STR("18446744073709551616"), UINT64_MAX, &v));
	assert_false(str_u64(STR("11"), 10, &v));
	assert_false(str_u64(STR(""), 10, &v));
	assert_false(str_u64(STR("+1"), 10, &v));
	assert_false(str_u64(STR("-1"), 10, &v));
	assert_false(str_u64(STR("1 "), 10, &v));
	assert_false(str_u64(STR("0x1"), 10, &v));
	assert_true(v == 7);
	assert_true(str_u32(STR("65535"), 65535, &w));
	assert_int_equal(w, 65535);
	assert_false(str_u32(STR("65536"), 65535, &w));
	assert_int_equal(w, 65535);
}

static void signed_numbers(void **state)
{
	int64_t v = 7;

	assert_true(str_i64(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v));
	assert_true(v == INT64_MIN);
	assert_true(str_i64(STR("9223372036854775807"), INT64_MIN, INT64_MAX, &v));
	assert_true(v == INT64_MAX);
	v = 7;
	assert_false(str_i64(STR("9223372036854775808"), INT64_MIN, INT64_MAX, &v));
	assert_false(str_i64(STR("-9223372036854775809"), INT64_MIN, INT64_MAX, &v));
	assert_false(str_i64(STR("-"), INT64_MIN, INT64_MAX, &v));
	assert_false(str_i64(STR("--1"), INT64_MIN, INT64_MAX, &v));
	assert_false(str_i64(STR("-6"), -5, 5, &v));
	assert_true(v == 7);
}

static void decimals(void **state)
{
	double v = 7;

	assert_true(str_double(STR("0.25"), &v));
	assert_true(v == 0.25);
	assert_true(str_double(STR("-1e3"), &v));
	assert_true(v == -1000);
	v = 7;
	assert_false(str_double(STR(""), &v));
	assert_false(str_double(STR("inf"), &v));
	assert_false(str_double(STR("nan"), &v));
	assert_false(str_double(STR("0x10"), &v));
	assert_false(str_double(STR("1e999"), &v));
	assert_false(str_double(STR("1.2.3"), &v));
	assert_false(str_double(STR(" 1"), &v));
	assert_false(str_double(STR("1\0002"), &v));
	assert_true(v == 7);
}

static void durations_as_go_writes_them(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} rows[] = {
		{"0", 0},
		{"0s", 0},
		{"250ms", 250000000},
		{"1.5s", 1500000000},
		{".5s", 500000000},
		{"1.s", 1000000000},
		{"1h30m", INT64_C(5400000000000)},
		{"1h1m1s1ms1us1ns", INT64_C(3661001001001)},
		{"2\xc2\xb5s", 2000},
		{"2\xce\xbcs", 2000},
		{"-5s", -5000000000},
		{"+5s", 5000000000},
		{"0.000000001s", 1},
		{"0.0000000001s", 0},
		{"9223372036854775807ns", INT64_MAX},
		{"2562047h", INT64_C(9223369200000000000)},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t ns = -1;

		if (!str_duration(str_of(rows[i].text), &ns) || ns != rows[i].ns)
			fail_msg("%s gave %lld", rows[i].text, (long long)ns);
	}
}

static void durations_that_are_refused(void **state)
{
	static const char *const rows[] = {"", "-", "5", "s", ".s", "1x", "1s ", " 1s", "1 s", "1s-1s", "1,5s", "1d",
		"2562048h", "9223372036854775808ns", "99999999999999999999s", "18446744073709551615h",
		"3000000h3000000h"};
	int64_t ns = 42;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (str_duration(str_of(rows[i]), &ns))
			fail_msg("\"%s\" was taken as %lld", rows[i], (long long)ns);
	}
	assert_true(ns == 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unsigned_numbers),
		cmocka_unit_test(signed_numbers),
		cmocka_unit_test(decimals),
		cmocka_unit_test(durations_as_go_writes_them),
		cmocka_unit_test(durations_that_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
