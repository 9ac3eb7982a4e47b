/* What galley makes of the reports of pilots: who is current, what is listed, who has gone. */
#include "galley/status/distribution.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cfg/model.pb-c.h"
#include "common/mesh/kinds.h"
#include "common/mesh/spread.h"
#include "common/pb/pb.h"

#define TOPIC TOPIC_VIRTUAL_SERVICE

static void publish(struct distribution *d, const char *key, const char *value)
{
	struct bus_change c = {.topic = TOPIC, .key = str_of(key), .value = value ? str_of(value) : (struct str){0} };
	c.hash = value ? hash64(c.value) : 0;
	distribution_published(d, &c, 1);
}

static uint64_t sum(const char *const *pairs)
{
	uint64_t s = 0;
	for (size_t i = 0; pairs[i]; i += 2)
		s += spread_mix(str_of(pairs[i]), hash64(str_of(pairs[i + 1])));
	return s;
}

struct listed {
	const char *key;
	uint32_t accepted, rejected;
	const char *error;
};

static void report(struct distribution *d, const char *who, uint32_t proxies, uint32_t behind, uint64_t content,
	const struct listed *l, uint64_t now_ms)
{
	struct arena *a = arena_new();
	Fl__Distribution *r = PB_NEW(a, Fl__Distribution, fl__distribution);
	Fl__Distribution__Content *c = PB_NEW(a, Fl__Distribution__Content, fl__distribution__content);
	struct err e = {0};
	r->proxies = proxies;
	r->behind = behind;
	c->topic = TOPIC;
	c->sum = content;
	pb_add(a, r, content, c);
	for (; l && l->key; l++) {
		Fl__Distribution__Pending *p = PB_NEW(a, Fl__Distribution__Pending, fl__distribution__pending);
		p->topic = TOPIC;
		p->key = arena_strdup(a, l->key);
		p->accepted = l->accepted;
		p->rejected = l->rejected;
		p->error = arena_strdup(a, l->error ? l->error : "");
		pb_add(a, r, pending, p);
	}
	assert_true(distribution_reported(d, who, pb_pack(a, r), now_ms, &e));
	arena_free(a);
}

static void expect(
	const struct distribution *d, const char *key, uint32_t accepted, uint32_t rejected, uint32_t proxies)
{
	struct share s = distribution_of(d, TOPIC, str_of(key));
	assert_int_equal(s.accepted, accepted);
	assert_int_equal(s.rejected, rejected);
	assert_int_equal(s.proxies, proxies);
}

static const char *const one[] = {"ns/a", "1", NULL}, *const both[] = {"ns/a", "1", "ns/b", "1", NULL},
			 *const changed[] = {"ns/a", "2", "ns/b", "1", NULL};

static void N08_what_is_not_listed_all_proxies_have(void **state)
{
	struct distribution *d = distribution_new();
	publish(d, "ns/a", "1");
	publish(d, "ns/b", "1");
	const struct listed l[] = {{"ns/b", 1, 1, "bad"}, {0}};
	report(d, "pilot-1", 3, 0, sum(both), l, 0);
	expect(d, "ns/a", 3, 0, 3);
	expect(d, "ns/b", 1, 1, 3);
	assert_string_equal(distribution_of(d, TOPIC, STR("ns/b")).error, "bad");
	expect(d, "ns/unknown", 0, 0, 3);
	distribution_free(d);
}

static void N08_a_pilot_that_has_not_heard_of_a_change_has_what_was_before(void **state)
{
	struct distribution *d = distribution_new();
	publish(d, "ns/a", "1");
	report(d, "pilot-1", 2, 0, sum(one), NULL, 0);
	publish(d, "ns/b", "1");
	expect(d, "ns/a", 2, 0, 2);
	expect(d, "ns/b", 0, 0, 2);
	report(d, "pilot-1", 2, 0, sum(one), NULL, 1); /* on its way: an old report does not make it current */
	expect(d, "ns/b", 0, 0, 2);
	report(d, "pilot-1", 2, 0, sum(both), NULL, 2);
	expect(d, "ns/b", 2, 0, 2);
	publish(d, "ns/a", "2");
	expect(d, "ns/a", 0, 0, 2);
	expect(d, "ns/b", 2, 0, 2);
	distribution_free(d);
}

/* Another galley told the pilot first: its content is known here as soon as we have it ourselves. */
static void N08_a_pilot_may_know_more_than_galley(void **state)
{
	struct distribution *d = distribution_new();
	publish(d, "ns/a", "1");
	publish(d, "ns/b", "1");
	report(d, "pilot-1", 1, 0, sum(changed), NULL, 0);
	expect(d, "ns/b", 0, 0, 1);
	publish(d, "ns/a", "2");
	expect(d, "ns/a", 1, 0, 1);
	expect(d, "ns/b", 1, 0, 1);
	distribution_free(d);
}

static void N08_pilots_add_up_and_silent_ones_are_forgotten(void **state)
{
	struct distribution *d = distribution_new();
	struct err e = {0};
	publish(d, "ns/a", "1");
	report(d, "pilot-1", 2, 0, sum(one), NULL, 1000);
	report(d, "pilot-2", 3, 0, sum(one), NULL, 2000);
	expect(d, "ns/a", 5, 0, 5);
	uint64_t version = distribution_version(d);
	assert_false(distribution_expire(d, 1000 + DISTRIBUTION_EXPIRY_MS - 1));
	assert_int_equal(distribution_version(d), version);
	assert_true(distribution_expire(d, 1000 + DISTRIBUTION_EXPIRY_MS));
	assert_true(distribution_version(d) != version);
	expect(d, "ns/a", 3, 0, 3);
	assert_true(distribution_reported(d, "pilot-2", (struct str){0}, 3000, &e));
	expect(d, "ns/a", 0, 0, 0);
	assert_int_equal(distribution_of(d, TOPIC, STR("ns/a")).pilots, 0);
	distribution_free(d);
}

static void N08_a_list_that_is_too_long_counts_the_rest_as_behind(void **state)
{
	struct distribution *d = distribution_new();
	publish(d, "ns/a", "1");
	publish(d, "ns/b", "1");
	const struct listed l[] = {{"ns/b", 3, 0, NULL}, {0}};
	report(d, "pilot-1", 4, 1, sum(both), l, 0);
	expect(d, "ns/a", 3, 0, 4);
	report(d, "pilot-1", 4, 9, sum(both), l, 0); /* nonsense does not wrap round */
	expect(d, "ns/a", 0, 0, 4);
	distribution_free(d);
}

static void a_report_that_is_none_is_refused(void **state)
{
	struct distribution *d = distribution_new();
	struct err e = {0};
	assert_false(distribution_reported(d, "pilot-1", STR("\xff\xff"), 0, &e));
	assert_non_null(strstr(e.text, "pilot-1"));
	assert_int_equal(distribution_of(d, TOPIC, STR("ns/a")).pilots, 0);
	distribution_free(d);
}

static void a_value_that_went_and_came_back_is_a_new_one(void **state)
{
	struct distribution *d = distribution_new();
	publish(d, "ns/a", "1");
	report(d, "pilot-1", 1, 0, sum(one), NULL, 0);
	publish(d, "ns/a", NULL);
	expect(d, "ns/a", 0, 0, 1);
	report(d, "pilot-1", 1, 0, 0, NULL, 0);
	publish(d, "ns/a", "1");
	expect(d, "ns/a", 0, 0, 1);
	report(d, "pilot-1", 1, 0, sum(one), NULL, 0);
	expect(d, "ns/a", 1, 0, 1);
	distribution_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(N08_what_is_not_listed_all_proxies_have),
		cmocka_unit_test(N08_a_pilot_that_has_not_heard_of_a_change_has_what_was_before),
		cmocka_unit_test(N08_a_pilot_may_know_more_than_galley),
		cmocka_unit_test(N08_pilots_add_up_and_silent_ones_are_forgotten),
		cmocka_unit_test(N08_a_list_that_is_too_long_counts_the_rest_as_behind),
		cmocka_unit_test(a_report_that_is_none_is_refused),
		cmocka_unit_test(a_value_that_went_and_came_back_is_a_new_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
