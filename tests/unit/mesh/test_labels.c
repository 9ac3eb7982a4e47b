/* DOC: Label selectors over protobuf-c map entries. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/mesh/labels.h"
#include "kube/kube.pb-c.h"

#define ENTRY(k, v) \
	{ \
		.base = PROTOBUF_C_MESSAGE_INIT(&kube__object_meta__labels_entry__descriptor), .key = (k), \
		.value = (v) \
	}

static Kube__ObjectMeta__LabelsEntry app = ENTRY((char *)"app", (char *)"reviews");
static Kube__ObjectMeta__LabelsEntry version = ENTRY((char *)"version", (char *)"v1");
static Kube__ObjectMeta__LabelsEntry other = ENTRY((char *)"version", (char *)"v2");
static Kube__ObjectMeta__LabelsEntry empty = ENTRY((char *)"version", NULL);

static void selectors_match_subsets(void **state)
{
	Kube__ObjectMeta__LabelsEntry *both[] = {&app, &version};
	Kube__ObjectMeta meta = KUBE__OBJECT_META__INIT;
	Kube__ObjectMeta__LabelsEntry *one[] = {&version};
	Kube__ObjectMeta__LabelsEntry *wrong[] = {&app, &other};
	struct label_set none = {0};
	struct label_set labels;

	meta.labels = both;
	meta.n_labels = 2;
	labels = LABELS(&meta, labels);
	assert_true(labels_match(none, labels));
	assert_true(labels_match(none, none));
	assert_true(labels_match(labels, labels));
	assert_true(labels_match((struct label_set){1, (void *const *)one}, labels));
	assert_false(labels_match((struct label_set){2, (void *const *)wrong}, labels));
	assert_false(labels_match(labels, (struct label_set){1, (void *const *)one}));
	assert_string_equal(label_get(labels, "version"), "v1");
	assert_null(label_get(labels, "versio"));
	assert_string_equal(label_at(labels, 0).key, "app");
}

static void an_empty_value_is_not_an_absent_label(void **state)
{
	Kube__ObjectMeta__LabelsEntry *selector[] = {&empty};
	Kube__ObjectMeta__LabelsEntry *labels[] = {&app};

	assert_false(labels_match(
		(struct label_set){1, (void *const *)selector}, (struct label_set){1, (void *const *)labels}));
	assert_true(labels_match(
		(struct label_set){1, (void *const *)selector}, (struct label_set){1, (void *const *)selector}));
	assert_string_equal(label_get((struct label_set){1, (void *const *)selector}, "version"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selectors_match_subsets),
		cmocka_unit_test(an_empty_value_is_not_an_absent_label),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
