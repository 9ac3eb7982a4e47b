/* DOC: Where an application's metrics are, by its pod's annotations; OpenMetrics as Prometheus' text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "agent/scrape.h"
#include "common/base/limits.h"

static const struct place {
	const char *annotations;
	const char *urls; /* joined by spaces */
} places[] = {
	{NULL, ""},
	{"{}", ""},
	{"{\"app\":\"x\"}", ""},
	{"{\"prometheus.io/scrape\":\"true\"}", "http://127.0.0.1:80/metrics"},
	{"{\"prometheus.io/port\":\"8080\"}", "http://127.0.0.1:8080/metrics"},
	{"{\"prometheus.io/port\":\"8080\",\"prometheus.io/path\":\"stats\",\"prometheus.io/scheme\":\"https\"}",
		"https://127.0.0.1:8080/stats"},
	{"{\"prometheus.io/scrape\":\"False\",\"prometheus.io/port\":\"x\"}", ""},
	{"{\"prometheus.io/port\":\"8080\",\"prometheus.istio.io/merge-metrics\":\"false\"}", ""},
	{"{\"prometheus.io/port\":\"15999\"}", ""}, /* the agent's own: it would ask itself for ever */
	{"{\"prometheus.istio.io/scrape-targets\":\" 8080:/metrics , 9100:/custom ,, 9200, 9300: \"}",
		"http://127.0.0.1:8080/metrics http://127.0.0.1:9100/custom http://127.0.0.1:9200/metrics "
		"http://127.0.0.1:9300/metrics"},
	{"{\"prometheus.istio.io/scrape-targets\":\"9100:/a\",\"prometheus.io/port\":\"8080\"}",
		"http://127.0.0.1:9100/a"},
	{"{\"prometheus.istio.io/scrape-targets\":\"9100:/a\",\"prometheus.io/scrape\":\"false\"}", ""},
};

static void A10_annotations_say_where_the_metrics_are(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct scrape_targets t = {0};
		struct strbuf urls = {0};
		struct err e = {0};
		if (!scrape_targets_parse(places[i].annotations, 15999, &t, &e))
			fail_msg("%s: %s", places[i].annotations, e.text);
		for (size_t k = 0; k < t.urls.len; k++)
			strbuf_addf(&urls, "%s%s", k ? " " : "", t.urls.items[k]);
		assert_string_equal(urls.len ? urls.ptr : "", places[i].urls);
		strbuf_done(&urls);
		scrape_targets_done(&t);
	}
}

static const struct {
	const char *annotations, *why;
} wrong[] = {
	{"{\"prometheus.io/port\":\"http\"}", "annotation prometheus.io/port: \"http\" is not 1..65535"},
	{"{\"prometheus.io/scrape\":\"true\",\"prometheus.io/scheme\":\"ftp\"}",
		"annotation prometheus.io/scheme: \"ftp\" is neither http nor https"},
	{"{\"prometheus.io/port\":\"15090\"}", "annotation prometheus.io/port: port 15090 belongs to the proxy"},
	{"{\"prometheus.istio.io/scrape-targets\":\"8080,15020:/stats/prometheus\"}",
		"annotation prometheus.istio.io/scrape-targets: port 15020 belongs to the proxy"},
	{"{\"prometheus.istio.io/scrape-targets\":\":/metrics\"}",
		"annotation prometheus.istio.io/scrape-targets: \"\" is not 1..65535"},
	{"{\"prometheus.istio.io/scrape-targets\":\"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\"}",
		"annotation prometheus.istio.io/scrape-targets: more than 16 targets"},
};

static void A10_wrong_annotations_say_why(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct scrape_targets t = {0};
		struct err e = {0};
		assert_false(scrape_targets_parse(wrong[i].annotations, 15999, &t, &e));
		assert_string_equal(e.text, wrong[i].why);
		scrape_targets_done(&t);
	}
}

static const char openmetrics[] = "# HELP orders \\\"All\\\" orders\\nof the shop.\n"
				  "# TYPE orders counter\n"
				  "orders_total{kind=\"a }\\\"b\"} 5.0 # {trace_id=\"4bf92f\"} 1.0 1520879607.789\n"
				  "orders_created{kind=\"a }\\\"b\"} 1.5e9\n"
				  "# TYPE took_seconds histogram\n"
				  "# UNIT took_seconds seconds\n"
				  "took_seconds_bucket{le=\"0.5\"} 2 1520879607.5\n"
				  "took_seconds_bucket{le=\"+Inf\"} 3\n"
				  "took_seconds_created 1.5e9\n"
				  "# TYPE build info\n"
				  "build_info{version=\"1\"} 1\n"
				  "# TYPE odd unknown\n"
				  "odd NaN\n"
				  "undeclared_created 7\n"
				  "# TYPE silent gauge\n"
				  "# EOF\n"
				  "after 1\n";
static const char as_text[] = "# HELP orders_total \"All\" orders\\nof the shop.\n"
			      "# TYPE orders_total counter\n"
			      "orders_total{kind=\"a }\\\"b\"} 5.0\n"
			      "# TYPE took_seconds histogram\n"
			      "took_seconds_bucket{le=\"0.5\"} 2 1520879607500\n"
			      "took_seconds_bucket{le=\"+Inf\"} 3\n"
			      "# TYPE build_info gauge\n"
			      "build_info{version=\"1\"} 1\n"
			      "# TYPE odd untyped\n"
			      "odd NaN\n"
			      "undeclared_created 7\n";

static void A10_openmetrics_becomes_text(void **state)
{
	struct strbuf out = {0};
	assert_true(scrape_from_openmetrics(STR(openmetrics), &out));
	assert_string_equal(out.ptr, as_text);
	strbuf_done(&out);
}

static void A10_what_is_no_sample_is_refused(void **state)
{
	static const char *const lines[] = {
		"a", "a{b=\"c\" 1", "a{b=\"c\"}", "a x", "{a=\"b\"} 1", " 1", "a{b=\"c\"}1"};
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct strbuf out = {0};
		if (scrape_from_openmetrics(str_of(lines[i]), &out))
			fail_msg("%s was taken as: %s", lines[i], out.ptr);
		strbuf_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A10_annotations_say_where_the_metrics_are),
		cmocka_unit_test(A10_wrong_annotations_say_why),
		cmocka_unit_test(A10_openmetrics_becomes_text),
		cmocka_unit_test(A10_what_is_no_sample_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
