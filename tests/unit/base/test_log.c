/* DOC: Log lines: format, quoting, levels by scope, JSON. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/log.h"

LOG_SCOPE(ads, "ads", "streams");
LOG_SCOPE(bus, "bus", "the bus");
LOG_SCOPE(late, "late", "used after its level was set");
LOG_SCOPE(late_too, "late", "of another file");

static struct strbuf lines;

static void sink(enum log_level level, struct str line, void *ctx)
{
	strbuf_add(&lines, line);
	strbuf_addc(&lines, '\n');
}

static int setup(void **state)
{
	clock_fix_for_tests(true, 0, 1767323045678);
	log_set_sink(sink, NULL);
	log_set_json(false);
	strbuf_clear(&lines);
	return log_set_levels(STR("info,ads:info,bus:info"), NULL) ? 0 : -1;
}

static int finish(void **state)
{
	log_set_sink(NULL, NULL);
	strbuf_done(&lines);
	return 0;
}

static void text_lines_have_time_level_scope_and_pairs(void **state)
{
	log_info(&ads, "connected", KV("proxy", "reviews-v1.default"), KV("n", 3), KV("ok", (bool)true),
		KV("ratio", 0.5));
	assert_string_equal(lines.ptr,
		"2026-01-02T03:04:05.678Z info  ads  connected proxy=reviews-v1.default n=3 ok=true ratio=0.5\n");
}

static void values_are_quoted_when_needed(void **state)
{
	const char *none = NULL;

	log_warn(&ads, "odd", KV("a", "two words"), KV("b", ""), KV("c", none), KV("d", "x=\"y\"\n"),
		KV("e", STR("gr\xc3\xbcn")));
	assert_string_equal(lines.ptr, "2026-01-02T03:04:05.678Z warn  ads  odd a=\"two words\" b=\"\" c=\"\" "
				       "d=\"x=\\\"y\\\"\\n\" e=\"gr\xc3\xbcn\"\n");
}

static void numbers_keep_their_sign_and_size(void **state)
{
	log_info(&ads, "n", KV("u", UINT64_MAX), KV("i", INT64_MIN), KV("s", (size_t)1), KV("inf", 1e308 * 10));
	assert_string_equal(lines.ptr, "2026-01-02T03:04:05.678Z info  ads  n u=18446744073709551615 "
				       "i=-9223372036854775808 s=1 inf=\"inf\"\n");
}

static void json_lines_are_one_object_each(void **state)
{
	log_set_json(true);
	log_error(&bus, "lost", KV("peer", "a \"b\""), KV("n", 1), KV("up", (bool)false));
	log_set_json(false);
	assert_string_equal(lines.ptr, "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"error\",\"scope\":\"bus\","
				       "\"message\":\"lost\",\"peer\":\"a \\\"b\\\"\",\"n\":1,\"up\":false}\n");
}

static void a_scope_has_its_own_level(void **state)
{
	assert_true(log_set_levels(STR("default:warn,ads:debug"), NULL));
	log_debug(&ads, "shown");
	log_info(&bus, "shown too, by its own level");
	log_debug(&bus, "hidden");
	assert_non_null(strstr(lines.ptr, "debug ads  shown\n"));
	assert_null(strstr(lines.ptr, "hidden"));
	assert_int_equal(log_default_level(), LOG_WARN);
}

static void a_level_may_be_set_before_the_scope_is_used(void **state)
{
	assert_true(log_set_levels(STR("late:debug"), NULL));
	assert_true(log_enabled(&late, LOG_DEBUG));
}

static void scopes_of_one_name_are_one(void **state)
{
	struct log_name name;

	assert_true(log_set_levels(STR("late:warn"), NULL));
	assert_false(log_enabled(&late, LOG_INFO));
	assert_false(log_enabled(&late_too, LOG_INFO));
	assert_true(log_name_get(STR("late"), &name));
	assert_string_equal(name.name, "late");
	assert_int_equal(name.level, LOG_WARN);
	assert_false(log_name_get(STR("nobody"), &name));
}

static void names_come_sorted_and_once(void **state)
{
	const char *names[] = {"ads", "bus", "default", "late"};
	const char *name = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		name = log_name_after(name);
		assert_string_equal(name, names[i]);
	}
	assert_null(log_name_after(name));
}

static void none_hides_errors_too(void **state)
{
	assert_true(log_set_levels(STR("default:info,bus:none"), NULL));
	log_error(&bus, "hidden");
	assert_int_equal(lines.len, 0);
	assert_string_equal(log_level_name(LOG_NONE), "none");
	assert_true(log_set_levels(STR("none,bus:error"), NULL));
	assert_int_equal(log_default_level(), LOG_NONE);
	assert_true(log_enabled(&bus, LOG_ERROR));
	assert_false(log_enabled(&bus, LOG_WARN));
}

static void lines_say_where_they_come_from_when_asked(void **state)
{
	log_set_callers(STR("bus"), true);
	log_info(&bus, "one");
	log_info(&ads, "two");
	log_set_callers(STR("bus"), false);
	assert_non_null(strstr(lines.ptr, "info  bus  one caller=test_log.c:"));
	assert_non_null(strstr(lines.ptr, "info  ads  two\n"));
	log_set_callers(STR("default"), true);
	log_set_json(true);
	log_info(&ads, "three");
	log_set_json(false);
	log_set_callers(STR("default"), false);
	assert_non_null(strstr(lines.ptr, "\"three\",\"caller\":\"test_log.c:"));
}

static void a_bad_specification_changes_nothing(void **state)
{
	struct err e = {0};

	assert_false(log_set_levels(STR("ads:error,bus:loud"), &e));
	assert_non_null(strstr(e.text, "bus:loud"));
	assert_true(log_enabled(&ads, LOG_INFO));
	assert_false(log_set_levels(STR(""), &e));
	assert_false(log_set_levels(STR(":info"), &e));
	assert_false(log_set_levels(STR("ads:"), &e));
	assert_false(log_set_levels(STR("ads:info,"), &e));
}

static void arguments_of_hidden_lines_are_not_evaluated(void **state)
{
	int evaluated = 0;

	log_debug(&bus, "hidden", KV("n", ++evaluated));
	assert_int_equal(evaluated, 0);
	assert_int_equal(lines.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(text_lines_have_time_level_scope_and_pairs, setup),
		cmocka_unit_test_setup(values_are_quoted_when_needed, setup),
		cmocka_unit_test_setup(numbers_keep_their_sign_and_size, setup),
		cmocka_unit_test_setup(json_lines_are_one_object_each, setup),
		cmocka_unit_test_setup(a_scope_has_its_own_level, setup),
		cmocka_unit_test_setup(a_level_may_be_set_before_the_scope_is_used, setup),
		cmocka_unit_test_setup(scopes_of_one_name_are_one, setup),
		cmocka_unit_test_setup(names_come_sorted_and_once, setup),
		cmocka_unit_test_setup(none_hides_errors_too, setup),
		cmocka_unit_test_setup(lines_say_where_they_come_from_when_asked, setup),
		cmocka_unit_test_setup(a_bad_specification_changes_nothing, setup),
		cmocka_unit_test_setup(arguments_of_hidden_lines_are_not_evaluated, setup),
	};

	return cmocka_run_group_tests(tests, NULL, finish);
}
