/*
 * DOC: Messages on arenas: what unpacking refuses, that lists grow after every way they can come into being, and what
 * equality and names mean.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "common/base/limits.h"
#include "common/pb/field.h"
#include "common/pb/pb.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "wkt/wrappers.pb-c.h"
#include "xds/core.pb-c.h"
#include "xds/route.pb-c.h"

static void refused(const ProtobufCMessageDescriptor *d, struct str bytes, enum err_kind kind, const char *words)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct err e = {0};
	assert_null(pb_unpack(a, d, bytes.ptr, bytes.len, &e));
	assert_int_equal(e.kind, kind);
	assert_non_null(strstr(e.text, words));
}

static void unpack_refuses_what_is_not_such_a_message(void **state)
{
	const ProtobufCMessageDescriptor *text = &wkt__string_value__descriptor;
	refused(text,
		STR("\x0a\x05"
		    "ab"),
		ERR_PEER, "cut off");
	refused(text, STR("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), ERR_PEER, "cut off");
	refused(text,
		STR("\x0a\x02"
		    "a\xff"),
		ERR_PEER, "not UTF-8");
	refused(text,
		STR("\x0a\x03"
		    "a\0b"),
		ERR_PEER, "zero byte");
	refused(text, STR("\x08\x01"), ERR_PEER, "wire type 0");
	refused(text, STR("\x0b\x0c"), ERR_PEER, "wire type 3");
	refused(text, STR("\x00\x01"), ERR_PEER, "tag");
	refused(text, STR("\x80"), ERR_PEER, "tag");
}

static void no_bytes_are_an_empty_message(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	Kube__Service *s = PB_UNPACK(a, Kube__Service, kube__service, NULL, 0, NULL);
	assert_non_null(s);
	assert_string_equal(s->kind, "");
}

/* A Value in a ListValue in a Value ...: two levels of messages for each turn. */
static struct str nested_lists(struct arena *a, unsigned turns)
{
	Wkt__Value *v = PB_NEW(a, Wkt__Value, wkt__value);
	v->kind_case = WKT__VALUE__KIND_BOOL_VALUE;
	for (unsigned i = 0; i < turns; i++) {
		Wkt__Value *outer = PB_NEW(a, Wkt__Value, wkt__value);
		outer->kind_case = WKT__VALUE__KIND_LIST_VALUE;
		outer->list_value = PB_NEW(a, Wkt__ListValue, wkt__list_value);
		pb_add(a, outer->list_value, values, v);
		v = outer;
	}
	return pb_pack(a, v);
}

static void unpack_bounds_the_depth(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct str fits = nested_lists(a, (LIMIT_PB_DEPTH - 1) / 2);
	assert_non_null(pb_unpack(a, &wkt__value__descriptor, fits.ptr, fits.len, NULL));
	refused(&wkt__value__descriptor, nested_lists(a, LIMIT_PB_DEPTH / 2), ERR_LIMIT, "LIMIT_PB_DEPTH");
	refused(&wkt__value__descriptor, nested_lists(a, 5000), ERR_LIMIT, "LIMIT_PB_DEPTH");
}

static void unpack_bounds_the_memory(void **state)
{
	/* Empty routes, two bytes each on the wire. */
	size_t n = LIMIT_PB_UNPACKED_BYTES / rds__route__descriptor.sizeof_message + 1;
	cleanup(free_p) char *bytes = xmalloc(n * 2);
	for (size_t i = 0; i < n; i++)
		memcpy(bytes + 2 * i, "\x1a\x00", 2);
	refused(&rds__virtual_host__descriptor, str_n(bytes, 2 * n), ERR_LIMIT, "LIMIT_PB_UNPACKED_BYTES");
}

static void unpack_drops_unknown_fields(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct str bytes = STR("\x0a\x01x\xfa\x3f\x01y");
	Wkt__StringValue *m = PB_UNPACK(a, Wkt__StringValue, wkt__string_value, bytes.ptr, bytes.len, NULL);
	assert_string_equal(m->value, "x");
	assert_int_equal(m->base.n_unknown_fields, 0);
	assert_int_equal(pb_packed_size(m), 3);
}

static void add_names(struct arena *a, Kube__ServiceSpec *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pb_add(a, s, ip_families, arena_printf(a, "name-%u", i));
}

static void check_names(const Kube__ServiceSpec *s, unsigned first, unsigned then)
{
	assert_int_equal(s->n_ip_families, first + then);
	for (unsigned i = 0; i < first + then; i++) {
		char want[32];
		(void)snprintf(want, sizeof(want), "name-%u", i < first ? i : i - first);
		assert_string_equal(s->ip_families[i], want);
	}
}

static void lists_grow_however_they_were_made(void **state)
{
	for (unsigned n = 0; n < 40; n++) {
		cleanup(arena_free_p) struct arena *a = arena_new();
		Kube__ServiceSpec *built = PB_NEW(a, Kube__ServiceSpec, kube__service_spec);
		add_names(a, built, n);
		struct str packed = pb_pack(a, built);
		Kube__ServiceSpec *copy = pb_copy(a, built);
		Kube__ServiceSpec *read = PB_UNPACK(
			a, Kube__ServiceSpec, kube__service_spec, packed.ptr, packed.len, NULL);
		add_names(a, copy, 20);
		add_names(a, read, 20);
		check_names(built, n, 0);
		check_names(copy, n, 20);
		check_names(read, n, 20);
	}
}

static Kube__ObjectMeta *labelled(struct arena *a, const char *const *keys, size_t n)
{
	Kube__ObjectMeta *m = PB_NEW(a, Kube__ObjectMeta, kube__object_meta);
	for (size_t i = 0; i < n; i++) {
		Kube__ObjectMeta__LabelsEntry *e = PB_NEW(
			a, Kube__ObjectMeta__LabelsEntry, kube__object_meta__labels_entry);
		e->key = arena_strdup(a, keys[i]);
		e->value = arena_printf(a, "v-%s", keys[i]);
		pb_add(a, m, labels, e);
	}
	return m;
}

static void maps_are_equal_as_sets(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	static const char *const one[] = {"a", "b", "c"};
	static const char *const other[] = {"c", "a", "b"};
	static const char *const third[] = {"c", "a", "x"};
	Kube__ObjectMeta *x = labelled(a, one, 3);
	Kube__ObjectMeta *y = labelled(a, other, 3);
	assert_true(pb_equal(x, y));
	assert_int_equal(pb_hash(x), pb_hash(y));
	assert_string_equal(y->labels[0]->key, "c"); /* neither of them changed it */
	assert_false(pb_equal(x, labelled(a, third, 3)));
	assert_false(pb_equal(x, labelled(a, one, 2)));
	pb_sort_maps(y);
	assert_string_equal(y->labels[0]->key, "a");
}

static void absent_and_default_are_equal(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	static char empty[] = "";
	Kube__ServicePort *x = PB_NEW(a, Kube__ServicePort, kube__service_port);
	Kube__ServicePort *y = PB_NEW(a, Kube__ServicePort, kube__service_port);
	x->name = NULL;
	y->name = empty;
	assert_true(pb_equal(x, y));
	y->port = 1;
	assert_false(pb_equal(x, y));
	assert_false(pb_equal(x, NULL));
	assert_true(pb_equal(NULL, NULL));
}

static void json_names(void **state)
{
	const ProtobufCMessageDescriptor *d = &kube__service_spec__descriptor;
	char name[64];
	const ProtobufCFieldDescriptor *f = pb_field_by_json_name(d, STR("publishNotReadyAddresses"));
	assert_non_null(f);
	assert_string_equal(f->name, "publish_not_ready_addresses");
	pb_json_name(f, name, sizeof(name));
	assert_string_equal(name, "publishNotReadyAddresses");
	assert_ptr_equal(pb_field_by_json_name(d, STR("publish_not_ready_addresses")), f);
	assert_string_equal(pb_field_by_json_name(d, STR("clusterIP"))->name, "clusterIP");
	assert_string_equal(pb_field_by_json_name(d, STR("loadBalancerIP"))->name, "loadBalancerIP");
	assert_null(pb_field_by_json_name(d, STR("clusterIp")));
	assert_null(pb_field_by_json_name(d, STR("publishNotReady_addresses")));
	assert_null(pb_field_by_json_name(d, STR("")));
}

static void every_message_is_found_by_name(void **state)
{
	assert_true(pb_registry_len > 200);
	for (size_t i = 0; i < pb_registry_len; i++)
		assert_ptr_equal(pb_find_descriptor(str_of(pb_registry[i]->name)), pb_registry[i]);
	assert_null(pb_find_descriptor(STR("google.protobuf.Nothing")));
	assert_null(pb_find_descriptor(STR("")));
}

static void map_entries_are_told_from_messages(void **state)
{
	assert_true(pb_is_map_entry(&kube__object_meta__labels_entry__descriptor));
	assert_false(pb_is_map_entry(&core__tlv_entry__descriptor));
	assert_false(pb_is_map_entry(&kube__object_meta__descriptor));
}

static void an_any_has_the_type_and_the_bytes(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	Wkt__StringValue *m = PB_NEW(a, Wkt__StringValue, wkt__string_value);
	m->value = arena_strdup(a, "hello");
	Wkt__Any *any = pb_any(a, m);
	assert_string_equal(any->type_url, "type.googleapis.com/google.protobuf.StringValue");
	void *back = pb_unpack(a, m->base.descriptor, any->value.data, any->value.len, NULL);
	assert_true(pb_equal(m, back));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unpack_refuses_what_is_not_such_a_message),
		cmocka_unit_test(no_bytes_are_an_empty_message),
		cmocka_unit_test(unpack_bounds_the_depth),
		cmocka_unit_test(unpack_bounds_the_memory),
		cmocka_unit_test(unpack_drops_unknown_fields),
		cmocka_unit_test(lists_grow_however_they_were_made),
		cmocka_unit_test(maps_are_equal_as_sets),
		cmocka_unit_test(absent_and_default_are_equal),
		cmocka_unit_test(json_names),
		cmocka_unit_test(every_message_is_found_by_name),
		cmocka_unit_test(map_entries_are_told_from_messages),
		cmocka_unit_test(an_any_has_the_type_and_the_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
