/* DOC: Arenas: alignment, zeroing, growth, references that die with them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "common/base/arena.h"

static void allocations_are_zeroed_and_aligned(void **state)
{
	struct arena *a = arena_new();

	for (size_t size = 0; size < 3000; size += 37) {
		unsigned char *p = arena_alloc(a, size);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, size);
	}
	arena_free(a);
}

static void allocations_do_not_overlap(void **state)
{
	struct arena *a = arena_new();
	unsigned char *p[200];

	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		p[i] = arena_alloc(a, i + 1);
		memset(p[i], (int)i, i + 1);
	}
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		for (size_t j = 0; j <= i; j++)
			assert_int_equal(p[i][j], i);
	}
	arena_free(a);
}

static void an_empty_arena_is_small_and_a_small_one_stays_small(void **state)
{
	struct arena *a = arena_new();

	assert_true(arena_bytes(a) < 128);
	arena_strdup(a, "one request");
	assert_true(arena_bytes(a) < 1400);
	arena_free(a);
}

static void a_big_allocation_leaves_room_in_the_current_chunk(void **state)
{
	struct arena *a = arena_new();
	char *first = arena_alloc(a, 16);
	size_t before;
	char *next;

	arena_alloc(a, 1 << 20);
	before = arena_bytes(a);
	next = arena_alloc(a, 16);
	assert_int_equal(arena_bytes(a), before);
	assert_true(next > first && next - first < 1024);
	arena_free(a);
}

static void strings_are_copied_and_terminated(void **state)
{
	struct arena *a = arena_new();
	char text[] = "abcdef";
	char *copy = arena_cstr(a, str_n(text, 3));
	char *longer;

	text[0] = 'x';
	assert_string_equal(copy, "abc");
	assert_string_equal(arena_cstr(a, (struct str){0}), "");
	assert_string_equal(arena_strdup(a, NULL), "");
	assert_string_equal(arena_printf(a, "%s-%d", "n", 7), "n-7");
	longer = arena_printf(a, "%0600d", 5);
	assert_int_equal(strlen(longer), 600);
	assert_int_equal(longer[599], '5');
	assert_true(str_eq(arena_str(a, STR("a\0b")), STR("a\0b")));
	arena_free(a);
}

struct thing {
	struct ref ref;
	int *destroyed;
};

static void thing_destroy(struct ref *r)
{
	struct thing *t = container_of(r, struct thing, ref);

	(*t->destroyed)++;
	free(t);
}

static void attached_references_die_with_the_arena(void **state)
{
	struct arena *a = arena_new();
	struct thing *t = xzalloc(sizeof(*t));
	int destroyed = 0;

	t->destroyed = &destroyed;
	ref_init(&t->ref, thing_destroy);
	arena_attach(a, &t->ref);
	arena_attach(a, &t->ref);
	ref_put(&t->ref);
	assert_int_equal(destroyed, 0);
	arena_free(a);
	assert_int_equal(destroyed, 1);
}

static void freeing_nothing_is_fine(void **state)
{
	cleanup(arena_free_p) struct arena *none = NULL;

	arena_free(NULL);
	assert_null(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations_are_zeroed_and_aligned),
		cmocka_unit_test(allocations_do_not_overlap),
		cmocka_unit_test(an_empty_arena_is_small_and_a_small_one_stays_small),
		cmocka_unit_test(a_big_allocation_leaves_room_in_the_current_chunk),
		cmocka_unit_test(strings_are_copied_and_terminated),
		cmocka_unit_test(attached_references_die_with_the_arena),
		cmocka_unit_test(freeing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
