/* DOC: Maps: order, replacement, deletion while iterating, growth with holes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/base/map.h"

static int values[4096];

static struct str key_of(int i, char text[16])
{
	snprintf(text, 16, "key-%d", i);
	return str_of(text);
}

static void iteration_is_in_insertion_order(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	char text[16];
	int expected = 999;
	struct str key;
	void *value;

	for (int i = 999; i >= 0; i--)
		assert_null(map_put(m, key_of(i, text), &values[i]));
	for (size_t i = 0; map_next(m, &i, &key, &value); expected--) {
		assert_ptr_equal(value, &values[expected]);
		assert_true(str_eq(key, key_of(expected, text)));
	}
	assert_int_equal(expected, -1);
}

static void replacing_returns_the_old_value_and_keeps_the_place(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	size_t cursor = 0;
	struct str key;
	void *value;

	map_put(m, STR("a"), &values[0]);
	map_put(m, STR("b"), &values[1]);
	assert_ptr_equal(map_put(m, STR("a"), &values[2]), &values[0]);
	assert_int_equal(map_len(m), 2);
	assert_true(map_next(m, &cursor, &key, &value));
	assert_true(str_eqc(key, "a"));
	assert_ptr_equal(value, &values[2]);
}

static void deleting_keeps_the_order_of_the_rest(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	char text[16];
	int expected = 2;
	void *value;

	for (int i = 0; i < 3000; i++)
		map_put(m, key_of(i, text), &values[i]);
	for (int i = 0; i < 3000; i++) {
		if (i % 3 != 2)
			assert_ptr_equal(map_del(m, key_of(i, text)), &values[i]);
	}
	assert_null(map_del(m, STR("key-0")));
	/* Makes it compact its holes. */
	for (int i = 3000; i < 4096; i++)
		map_put(m, key_of(i, text), &values[i]);
	for (size_t i = 0; map_next(m, &i, NULL, &value); expected += expected < 2999 ? 3 : 1)
		assert_ptr_equal(value, &values[expected]);
	assert_int_equal(map_len(m), 1000 + 1096);
	for (int i = 0; i < 3000; i++)
		assert_ptr_equal(map_get(m, key_of(i, text)), i % 3 == 2 ? &values[i] : NULL);
}

static void the_entry_just_given_may_be_deleted(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	char text[16];
	struct str key;
	int seen = 0;

	for (int i = 0; i < 100; i++)
		map_put(m, key_of(i, text), &values[i]);
	for (size_t i = 0; map_next(m, &i, &key, NULL); seen++)
		map_del(m, key);
	assert_int_equal(seen, 100);
	assert_int_equal(map_len(m), 0);
}

static void putting_and_deleting_for_ever_does_not_grow(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	char text[16];

	map_put(m, STR("stays"), &values[0]);
	for (int i = 0; i < 20000; i++) {
		map_put(m, key_of(i, text), &values[1]);
		map_del(m, key_of(i, text));
	}
	assert_int_equal(map_len(m), 1);
	assert_ptr_equal(map_get(m, STR("stays")), &values[0]);
}

static void keys_may_be_empty_or_hold_any_byte(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();

	map_put(m, STR(""), &values[0]);
	map_put(m, STR("a\0b"), &values[1]);
	map_put(m, STR("a\0c"), &values[2]);
	assert_ptr_equal(map_get(m, (struct str){0}), &values[0]);
	assert_ptr_equal(map_get(m, STR("a\0b")), &values[1]);
	assert_ptr_equal(map_get(m, STR("a\0c")), &values[2]);
	assert_null(map_get(m, STR("a")));
	map_clear(m);
	assert_null(map_get(m, STR("")));
	assert_int_equal(map_len(m), 0);
}

static void sorted_keys_are_in_byte_order(void **state)
{
	cleanup(map_free_p) struct map *m = map_new();
	struct str *keys;

	map_put(m, STR("b"), values);
	map_put(m, STR("ab"), values);
	map_put(m, STR("a"), values);
	map_put(m, STR("B"), values);
	keys = map_keys_sorted(m);
	assert_true(str_eqc(keys[0], "B"));
	assert_true(str_eqc(keys[1], "a"));
	assert_true(str_eqc(keys[2], "ab"));
	assert_true(str_eqc(keys[3], "b"));
	free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iteration_is_in_insertion_order),
		cmocka_unit_test(replacing_returns_the_old_value_and_keeps_the_place),
		cmocka_unit_test(deleting_keeps_the_order_of_the_rest),
		cmocka_unit_test(the_entry_just_given_may_be_deleted),
		cmocka_unit_test(putting_and_deleting_for_ever_does_not_grow),
		cmocka_unit_test(keys_may_be_empty_or_hold_any_byte),
		cmocka_unit_test(sorted_keys_are_in_byte_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
