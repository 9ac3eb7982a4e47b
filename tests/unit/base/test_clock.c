/* DOC: Clocks and randomness: fixing, formatting, parsing, the spread of jitter. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/str.h"

static void fixed_clocks_stand_still(void **state)
{
	clock_fix_for_tests(true, 5000, 1767323045678);
	assert_int_equal(clock_mono_ms(), 5000);
	assert_int_equal(clock_mono_us(), 5000000);
	assert_true(clock_wall_ms() == 1767323045678);
	clock_fix_for_tests(false, 0, 0);
	assert_true(clock_wall_ms() > 1700000000000);
}

static void the_monotonic_clock_never_goes_back(void **state)
{
	uint64_t before = clock_mono_us();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_mono_us();

		assert_true(now >= before);
		before = now;
	}
}

static void formats_and_parses_rfc3339(void **state)
{
	char text[32];
	int64_t ms = 0;

	clock_format(1767323045678, text);
	assert_string_equal(text, "2026-01-02T03:04:05Z");
	clock_format(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59Z");
	assert_true(clock_parse("2026-01-02T03:04:05Z", &ms));
	assert_true(ms == 1767323045000);
	assert_true(clock_parse("2026-01-02T03:04:05.678912Z", &ms));
	assert_true(ms == 1767323045678);
	assert_true(clock_parse("2026-01-02T05:04:05+02:00", &ms));
	assert_true(ms == 1767323045000);
	assert_true(clock_parse("2026-01-01T21:34:05-05:30", &ms));
	assert_true(ms == 1767323045000);
	assert_true(clock_parse("2024-02-29T00:00:00Z", &ms));
}

static void refuses_what_is_no_time(void **state)
{
	static const char *const rows[] = {"", "2026", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z",
		"2026-00-02T03:04:05Z", "2026-02-29T03:04:05Z", "2026-01-32T03:04:05Z", "2026-01-02T24:04:05Z",
		"2026-01-02T03:60:05Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05Zx", "2026-01-02T03:04:05+0200",
		"2026-1-2T03:04:05Z", "+026-01-02T03:04:05Z"};
	int64_t ms = 42;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (clock_parse(rows[i], &ms))
			fail_msg("\"%s\" was taken", rows[i]);
	}
	assert_true(ms == 42);
}

static void jitter_stays_within_its_spread(void **state)
{
	uint64_t low = UINT64_MAX;
	uint64_t high = 0;

	for (int i = 0; i < 2000; i++) {
		uint64_t v = random_jitter(1000, 0.1);

		assert_in_range(v, 899, 1100);
		low = v < low ? v : low;
		high = v > high ? v : high;
	}
	assert_true(high - low > 100);
	assert_int_equal(random_jitter(1000, 0), 1000);
	assert_int_equal(random_jitter(0, 0.5), 0);
}

static void backoff_doubles_up_to_its_bound(void **state)
{
	static const struct {
		unsigned failures;
		uint64_t ms;
	} rows[] = {{0, 200}, {1, 200}, {2, 400}, {3, 800}, {6, 6400}, {7, 10000}, {8, 10000}, {UINT32_MAX, 10000}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(random_backoff(rows[i].failures, 200, 10000, 0), rows[i].ms);
	assert_int_equal(random_backoff(9, 500, 100, 0), 100);
	assert_int_equal(random_backoff(9, 0, 100, 0), 0);
	assert_true(random_backoff(UINT32_MAX, 1, UINT64_C(1) << 52, 0) == UINT64_C(1) << 52);
	for (int i = 0; i < 1000; i++)
		assert_in_range(random_backoff(2, 200, 10000, 0.3), 279, 520);
}

static void random_numbers_differ(void **state)
{
	unsigned char none[1] = {7};

	assert_true(random_u64() != random_u64());
	random_bytes(none, 0);
	assert_int_equal(none[0], 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_clocks_stand_still),
		cmocka_unit_test(the_monotonic_clock_never_goes_back),
		cmocka_unit_test(formats_and_parses_rfc3339),
		cmocka_unit_test(refuses_what_is_no_time),
		cmocka_unit_test(jitter_stays_within_its_spread),
		cmocka_unit_test(backoff_doubles_up_to_its_bound),
		cmocka_unit_test(random_numbers_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
