/* DOC: Ownership helpers, vectors, reference counts, and that the limits fit together. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/ref.h"
#include "common/base/str.h"
#include "common/base/vec.h"

static void take_hands_over_and_leaves_null(void **state)
{
	cleanup(free_p) char *mine = xstrdup("text");
	char *theirs = take(mine);

	assert_null(mine);
	assert_string_equal(theirs, "text");
	free(theirs);
}

static void descriptors_are_closed_at_the_end_of_scope(void **state)
{
	int number;

	{
		cleanup(close_p) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		assert_true(fd >= 0);
		number = fd;
	}
	assert_int_equal(fcntl(number, F_GETFD), -1);
}

static void copies_are_terminated(void **state)
{
	cleanup(free_p) char *part = xstrndup("abcdef", 3);
	cleanup(free_p) char *none = xstrdup(NULL);
	cleanup(free_p) char *made = xasprintf("%d/%s", 5, "x");
	cleanup(free_p) unsigned char *zero = xzalloc(64);

	assert_string_equal(part, "abc");
	assert_string_equal(none, "");
	assert_string_equal(made, "5/x");
	for (int i = 0; i < 64; i++)
		assert_int_equal(zero[i], 0);
	free(xmalloc(0));
}

static void vectors_grow(void **state)
{
	VEC(size_t) v = {0};

	for (size_t i = 0; i < 1000; i++)
		vec_push(&v, i * i);
	assert_int_equal(v.len, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(v.items[i], i * i);
	vec_done(&v);
	assert_null(v.items);
}

static int destroyed;

static void on_destroy(struct ref *r)
{
	destroyed++;
}

static void the_last_reference_destroys(void **state)
{
	struct ref r;

	ref_init(&r, on_destroy);
	assert_ptr_equal(ref_get(&r), &r);
	ref_put(&r);
	assert_int_equal(destroyed, 0);
	ref_put(&r);
	assert_int_equal(destroyed, 1);
	ref_put(NULL);
}

static void limits_fit_together(void **state)
{
	assert_true(LIMIT_DOCUMENT_BYTES <= LIMIT_FILE_BYTES);
	assert_true(LIMIT_GRPC_MESSAGE_BYTES <= LIMIT_GRPC_QUEUE_BYTES);
	assert_true(LIMIT_GRPC_MESSAGE_BYTES <= LIMIT_PB_MESSAGE_BYTES);
	assert_true(LIMIT_BUS_CHUNK_BYTES <= LIMIT_BUS_FRAME_BYTES);
	assert_true(LIMIT_BUS_FRAME_BYTES <= LIMIT_PB_MESSAGE_BYTES);
	assert_true(LIMIT_DOCUMENT_BYTES <= LIMIT_BUS_FRAME_BYTES);
	assert_true(LIMIT_CSR_BYTES <= LIMIT_PEM_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take_hands_over_and_leaves_null),
		cmocka_unit_test(descriptors_are_closed_at_the_end_of_scope),
		cmocka_unit_test(copies_are_terminated),
		cmocka_unit_test(vectors_grow),
		cmocka_unit_test(the_last_reference_destroys),
		cmocka_unit_test(limits_fit_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
