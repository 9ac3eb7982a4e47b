/* DOC: The kind and topic registries: lookups, versions, and that every row is complete and unique. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/mesh/kinds.h"

static void kinds_are_found_by_group_version_and_name(void **state)
{
	const struct kind *known;
	const struct kind *k = kind_find(STR("networking.istio.io/v1beta1"), STR("VirtualService"), &known);

	assert_ptr_equal(k, kind_get(KIND_VIRTUAL_SERVICE));
	assert_string_equal(k->message->name, "istio.networking.v1alpha3.VirtualService");
	assert_int_equal(k->topic, TOPIC_VIRTUAL_SERVICE);
	assert_false(k->kubernetes);
	assert_false(k->cluster_scoped);
	assert_null(known);
	k = kind_find(STR("v1"), STR("Service"), NULL);
	assert_ptr_equal(k, kind_get(KIND_SERVICE));
	assert_true(k->kubernetes);
	assert_int_equal(k->topic, TOPIC_NONE);
	assert_true(kind_get(KIND_NAMESPACE)->cluster_scoped);
}

static void a_wrong_version_names_the_known_kind(void **state)
{
	const struct kind *known = NULL;

	assert_null(kind_find(STR("networking.istio.io/v7"), STR("VirtualService"), &known));
	assert_ptr_equal(known, kind_get(KIND_VIRTUAL_SERVICE));
	assert_null(kind_find(STR("networking.istio.io/"), STR("VirtualService"), &known));
	assert_ptr_equal(known, kind_get(KIND_VIRTUAL_SERVICE));
}

static void other_kinds_are_not_ours(void **state)
{
	const struct kind *known = kind_get(KIND_SERVICE);

	assert_null(kind_find(STR("apps/v1"), STR("Deployment"), &known));
	assert_null(known);
	/* The group belongs to the kind: a Knative Service is no Service. */
	assert_null(kind_find(STR("serving.knative.dev/v1"), STR("Service"), &known));
	assert_null(known);
	assert_null(kind_find(STR("v1"), STR("service"), &known));
	assert_null(kind_find(STR(""), STR(""), &known));
	assert_null(kind_get(KIND_COUNT));
}

static void every_kind_is_complete_and_unique(void **state)
{
	for (int i = 0; i < KIND_COUNT; i++) {
		const struct kind *k = kind_get((enum kind_id)i);

		assert_int_equal(k->id, i);
		assert_true(k->name[0] && k->versions[0] && k->plural[0]);
		assert_int_equal(k->message->magic, PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
		assert_int_equal(k->kubernetes, strncmp(k->message->name, "fairlead.kube.", 14) == 0);
		for (int j = 0; j < i; j++)
			assert_true(strcmp(k->plural, kind_get((enum kind_id)j)->plural) != 0);
		if (k->topic != TOPIC_NONE)
			assert_non_null(topic_get(k->topic));
	}
}

static void topics_are_found_by_id_and_name(void **state)
{
	size_t n;
	const struct topic *all = topics_all(&n);

	assert_true(n >= 10);
	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(topic_get(all[i].id), &all[i]);
		assert_ptr_equal(topic_find(str_of(all[i].name)), &all[i]);
		assert_int_equal(all[i].message->magic, PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
		assert_true(all[i].publisher[0] && all[i].about[0]);
	}
	assert_string_equal(topic_get(TOPIC_TRUST)->publisher, "citadel");
	assert_null(topic_get(TOPIC_NONE));
	assert_null(topic_get(UINT32_MAX));
	assert_null(topic_find(STR("none")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_are_found_by_group_version_and_name),
		cmocka_unit_test(a_wrong_version_names_the_known_kind),
		cmocka_unit_test(other_kinds_are_not_ours),
		cmocka_unit_test(every_kind_is_complete_and_unique),
		cmocka_unit_test(topics_are_found_by_id_and_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
