/* DOC: Metrics: the text format, escaping, order, the limit on series, counting from several threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/metric.h"

METRIC(pushes, COUNTER, "test_b_pushes_total", "Responses sent", "type", "result");
METRIC(plain, COUNTER, "test_a_plain_total", "Never touched");
METRIC(level, GAUGE, "test_c_level", "With \\ and\nline end");
METRIC(latency, HISTOGRAM, "test_d_seconds", "Time taken", "op");
METRIC(many, COUNTER, "test_e_many_total", "Too many series", "id");
METRIC(shared, COUNTER, "test_f_shared_total", "Counted by threads", "who");

static char *scrape(void)
{
	struct strbuf b = {0};

	metric_write(&b);
	return strbuf_take(&b);
}

static void text_format_is_stable_and_escaped(void **state)
{
	cleanup(free_p) char *text = NULL;
	static const char wanted[] = "# HELP test_a_plain_total Never touched\n"
				     "# TYPE test_a_plain_total counter\n"
				     "test_a_plain_total 0\n"
				     "# HELP test_b_pushes_total Responses sent\n"
				     "# TYPE test_b_pushes_total counter\n"
				     "test_b_pushes_total{type=\"a\\\"b\\\\c\\nd\",result=\"\"} 1.5\n"
				     "test_b_pushes_total{type=\"cds\",result=\"ok\"} 3\n"
				     "# HELP test_c_level With \\\\ and\\nline end\n"
				     "# TYPE test_c_level gauge\n"
				     "test_c_level -2\n";

	metric_add(&pushes, 1, "cds", "ok");
	metric_add(&pushes, 2, "cds", "ok");
	metric_add(&pushes, 1.5, "a\"b\\c\nd", "");
	metric_set(&level, -2);
	text = scrape();
	assert_memory_equal(text, wanted, sizeof(wanted) - 1);
	assert_true(metric_get(&pushes, "cds", "ok") == 3);
	assert_true(metric_get(&pushes, "cds", "none") == 0);
}

static void values_do_not_mix_between_label_splits(void **state)
{
	metric_add(&pushes, 1, "xy", "z");
	metric_add(&pushes, 5, "x", "yz");
	assert_true(metric_get(&pushes, "xy", "z") == 1);
	assert_true(metric_get(&pushes, "x", "yz") == 5);
}

static void histograms_have_cumulative_buckets(void **state)
{
	cleanup(free_p) char *text = NULL;

	metric_observe(&latency, 0.004, "get");
	metric_observe(&latency, 0.005, "get");
	metric_observe(&latency, 0.3, "get");
	metric_observe(&latency, 99, "get");
	text = scrape();
	assert_non_null(strstr(text, "test_d_seconds_bucket{op=\"get\",le=\"0.005\"} 2\n"));
	assert_non_null(strstr(text, "test_d_seconds_bucket{op=\"get\",le=\"0.25\"} 2\n"));
	assert_non_null(strstr(text, "test_d_seconds_bucket{op=\"get\",le=\"0.5\"} 3\n"));
	assert_non_null(strstr(text, "test_d_seconds_bucket{op=\"get\",le=\"10\"} 3\n"));
	assert_non_null(strstr(text, "test_d_seconds_bucket{op=\"get\",le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(text, "test_d_seconds_sum{op=\"get\"} 99.309\n"));
	assert_non_null(strstr(text, "test_d_seconds_count{op=\"get\"} 4\n"));
	assert_true(metric_get(&latency, "get") == 4);
}

/* After the two above: what they have counted. */
static void as_json_families_have_labels_and_numbers_as_text(void **state)
{
	struct strbuf out = {0};

	metric_write_json(&out);
	assert_non_null(strstr(out.ptr,
		"[{\"name\":\"test_a_plain_total\",\"help\":\"Never touched\",\"type\":\"COUNTER\",\"metrics\":["
		"{\"labels\":{},\"value\":\"0\"}]},\n"));
	assert_non_null(strstr(out.ptr,
		"\"type\":\"COUNTER\",\"metrics\":[{\"labels\":{\"type\":\"a\\\"b\\\\c\\nd\",\"result\":\"\"},"
		"\"value\":\"1.5\"},{\"labels\":{\"type\":\"cds\",\"result\":\"ok\"},\"value\":\"3\"}"));
	assert_non_null(strstr(out.ptr, "\"help\":\"With \\\\ and\\nline end\",\"type\":\"GAUGE\""));
	assert_non_null(strstr(out.ptr, "\"type\":\"HISTOGRAM\",\"metrics\":[{\"labels\":{\"op\":\"get\"},"
					"\"buckets\":{\"0.005\":\"2\""));
	assert_non_null(strstr(out.ptr, "\"10\":\"3\",\"+Inf\":\"4\"},\"count\":\"4\",\"sum\":\"99.309\"}]}"));
	assert_true(str_ends(strbuf_str(&out), STR("]")));
	strbuf_done(&out);
}

static void a_missing_label_value_is_empty(void **state)
{
	const char *absent = NULL;

	metric_add(&pushes, 1, absent, "ok");
	assert_true(metric_get(&pushes, "", "") == 1);
}

static void beyond_the_limit_series_overflow(void **state)
{
	char id[16];

	for (unsigned i = 0; i < LIMIT_METRIC_SERIES + 100; i++) {
		snprintf(id, sizeof(id), "%u", i);
		metric_add(&many, 1, id);
	}
	assert_true(metric_get(&many, "0") == 1);
	assert_true(metric_get(&many, id) == 0);
	assert_true(metric_get(&many, "overflow") == 100);
	/* Room again: the next new one is kept. The overflow series takes a place of its own. */
	metric_remove_series_(&many, (const char *[]){"0", NULL});
	metric_remove_series_(&many, (const char *[]){"1", NULL});
	metric_add(&many, 1, id);
	assert_true(metric_get(&many, id) == 1);
	assert_true(metric_get(&many, "0") == 0);
}

static void *count(void *ctx)
{
	for (int i = 0; i < 20000; i++) {
		metric_add(&shared, 1, "all");
		if (i % 1000 == 0) {
			metric_add(&shared, 1, (const char *)ctx);
			metric_remove_series_(&shared, (const char *[]){ctx, NULL});
		}
	}
	return NULL;
}

static void threads_lose_no_counts(void **state)
{
	static char names[4][2] = {"1", "2", "3", "4"};
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, names[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(metric_get(&shared, "all") == 80000);
}

static void on_scrape(void *ctx)
{
	metric_set(&level, ++*(int *)ctx);
}

static void hooks_run_before_a_scrape(void **state)
{
	static int scrapes;
	cleanup(free_p) char *text = NULL;

	metric_on_scrape(on_scrape, &scrapes);
	free(scrape());
	text = scrape();
	assert_int_equal(scrapes, 2);
	assert_non_null(strstr(text, "\ntest_c_level 2\n"));
	assert_ptr_equal(metric_find("test_c_level"), &level);
	assert_null(metric_find("test_none"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_format_is_stable_and_escaped),
		cmocka_unit_test(values_do_not_mix_between_label_splits),
		cmocka_unit_test(histograms_have_cumulative_buckets),
		cmocka_unit_test(as_json_families_have_labels_and_numbers_as_text),
		cmocka_unit_test(a_missing_label_value_is_empty),
		cmocka_unit_test(beyond_the_limit_series_overflow),
		cmocka_unit_test(threads_lose_no_counts),
		cmocka_unit_test(hooks_run_before_a_scrape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
