/*
 * DOC: Which publisher a replica follows: whose turn it is among several addresses, and names that are resolved. Several real publishers behind a
 * name are in tests/daemons/test_bus_replicas.py.
 */
#include "tests/unit/bus/bus_test.h"

#include <stdio.h>

#include "common/bus/link.h"

#define N 5u

static void addresses(struct addr list[N])
{
	static const char *const texts[N] = {
		"10.0.0.1:15030", "10.0.0.2:15030", "[fd00::1]:15030", "10.0.0.3:15030", "10.0.0.4:15030"};
	struct err e = {0};
	for (size_t i = 0; i < N; i++)
		assert_true(addr_parse(str_of(texts[i]), &list[i], &e));
}

static void every_address_has_its_turn(void **state)
{
	struct addr list[N];
	addresses(list);
	for (uint64_t seed = 1; seed < 20; seed++) {
		bool seen[N] = {0};
		size_t at = bus_link_pick(list, N, seed * 0x9e3779b97f4a7c15u, NULL);
		for (size_t turn = 0; turn < N; turn++) {
			assert_false(seen[at]);
			seen[at] = true;
			at = bus_link_pick(list, N, seed * 0x9e3779b97f4a7c15u, &list[at]);
		}
		assert_true(seen[at]); /* and then the first again */
	}
}

static void replicas_spread(void **state)
{
	struct addr list[N];
	unsigned chosen[N] = {0};
	addresses(list);
	for (uint64_t i = 1; i <= 1000; i++)
		chosen[bus_link_pick(list, N, i * 0x9e3779b97f4a7c15u, NULL)]++;
	for (size_t i = 0; i < N; i++)
		assert_true(chosen[i] > 50);
}

static void the_only_one_stays_and_one_that_is_gone_is_left(void **state)
{
	struct addr list[N];
	addresses(list);
	assert_int_equal(bus_link_pick(list, 1, 7, &list[0]), 0);
	assert_int_equal(bus_link_pick(list, 1, 7, &list[3]), 0);
	for (uint64_t seed = 0; seed < 100; seed++)
		assert_true(bus_link_pick(list, 3, seed, &list[4]) < 3);
}

static void what_is_a_name(void **state)
{
	static const struct {
		const char *address, *host;
		bool named;
	} rows[] = {{"tcp://galley.example:15030", "galley.example", true}, {"tcp://localhost:1", "localhost", true},
		{"tcp://127.0.0.1:15030", "127.0.0.1", false}, {"tcp://[::1]:15030", "::1", false},
		{"tcp://*:15030", "*", false}, {"tcp://[fd00::zz]:15030", "fd00::zz", true},
		{"ipc:///run/fairlead/{role}", "", false}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bus_address a;
		struct err e = {0};
		assert_true(bus_address_parse(rows[i].address, "galley", &a, &e));
		assert_string_equal(a.host, rows[i].host);
		assert_int_equal(a.named, rows[i].named);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_address_has_its_turn),
		cmocka_unit_test(replicas_spread),
		cmocka_unit_test(the_only_one_stays_and_one_that_is_gone_is_left),
		cmocka_unit_test(what_is_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
