/* DOC: Diagnostics and errors: lists, one-line form, context, cutting. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "common/base/diag.h"
#include "common/base/err.h"

static void diagnostics_are_collected_in_order(void **state)
{
	struct arena *a = arena_new();
	struct diags d;

	diags_init(&d, a);
	for (int i = 0; i < 50; i++)
		diag_add(&d, i % 2 ? DIAG_WARNING : DIAG_ERROR, "rule", "path", "text %d", i);
	assert_int_equal(d.len, 50);
	assert_int_equal(d.errors, 25);
	assert_string_equal(d.items[49].text, "text 49");
	assert_string_equal(d.items[0].text, "text 0");
	arena_free(a);
}

static void a_diagnostic_reads_like_a_compilers(void **state)
{
	struct arena *a = arena_new();
	struct diags d;
	struct diag *item;
	char *line;

	diags_init(&d, a);
	item = diag_add(&d, DIAG_ERROR, "weight-range", "spec.http[0].timeout", "must be at least %s", "1ms");
	item->file = "samples/x.yaml";
	item->line = 12;
	item->object = "VirtualService default/reviews";
	line = diag_format(item);
	assert_string_equal(line, "samples/x.yaml:12: error: VirtualService default/reviews: spec.http[0].timeout: "
				  "must be at least 1ms [weight-range]");
	free(line);
	line = diag_format(diag_add(&d, DIAG_INFO, "r", "", "only text"));
	assert_string_equal(line, "info: only text [r]");
	free(line);
	arena_free(a);
}

static void long_texts_are_kept_whole(void **state)
{
	struct arena *a = arena_new();
	struct diags d;

	diags_init(&d, a);
	assert_int_equal(strlen(diag_add(&d, DIAG_ERROR, "r", "p", "%05000d", 1)->text), 5000);
	arena_free(a);
}

static void errors_get_context_on_the_way_up(void **state)
{
	struct err e = {0};

	assert_false(err_set(&e, ERR_PEER, "port %d is not 0..65535", 99999));
	assert_false(err_in(&e, "--listen"));
	assert_string_equal(e.text, "--listen: port 99999 is not 0..65535");
	assert_int_equal(e.kind, ERR_PEER);
	errno = ENOENT;
	assert_false(err_errno(&e, "open %s", "/x"));
	assert_string_equal(e.text, "open /x: No such file or directory");
	assert_int_equal(e.kind, ERR_SYSTEM);
	assert_string_equal(err_kind_name(ERR_DENIED), "denied");
	assert_string_equal(err_kind_name(ERR_COUNT), "unknown");
}

static void errors_are_cut_and_may_be_ignored(void **state)
{
	struct err e = {0};

	assert_false(err_set(&e, ERR_BUG, "%01000d", 0));
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_false(err_in(&e, "where"));
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_memory_equal(e.text, "where: 000", 10);
	assert_false(err_set(NULL, ERR_BUG, "x"));
	assert_false(err_errno(NULL, "x"));
	assert_false(err_in(NULL, "x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(diagnostics_are_collected_in_order),
		cmocka_unit_test(a_diagnostic_reads_like_a_compilers),
		cmocka_unit_test(long_texts_are_kept_whole),
		cmocka_unit_test(errors_get_context_on_the_way_up),
		cmocka_unit_test(errors_are_cut_and_may_be_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
