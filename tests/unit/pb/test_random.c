/*
 * DOC: Properties that hold for every message: it survives packing, copying and its JSON form, and equal content has an
 * equal hash and equal text. Run over messages of several thousand fields in all, made from fixed seeds.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "cfg/model.pb-c.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "common/pb/json.h"
#include "kube/kube.pb-c.h"
#include "tests/unit/pb/random_message.h"
#include "wkt/any.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "xds/cluster.pb-c.h"
#include "xds/hcm.pb-c.h"
#include "xds/listener.pb-c.h"
#include "xds/route.pb-c.h"

static const ProtobufCMessageDescriptor *const types[] = {
	&rds__route_configuration__descriptor,
	&cfg__virtual_service__descriptor,
	&hcm__http_connection_manager__descriptor,
	&lds__listener__descriptor,
	&cds__cluster__descriptor,
	&wkt__struct__descriptor,
	&kube__service__descriptor,
	&wkt__any__descriptor,
};

static void each(void (*check)(struct arena *a, ProtobufCMessage *m))
{
	for (size_t t = 0; t < ARRAY_LEN(types); t++) {
		for (unsigned seed = 1; seed <= 60; seed++) {
			cleanup(arena_free_p) struct arena *a = arena_new();
			struct random r = {seed * 1000ul + t};
			check(a, random_message(&r, a, types[t], 1 + seed % 5));
		}
	}
}

static void check_json(struct arena *a, ProtobufCMessage *m)
{
	static const struct pb_encode_options forms[] = {
		{0}, {.indent = 2}, {.proto_names = true}, {.defaults = true, .indent = 1}};
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct strbuf text = {0};
		struct strbuf again = {0};
		struct err e = {0};
		pb_to_json(m, &forms[i], &text);
		void *back = pb_from_json_text(a, m->descriptor, strbuf_str(&text), &e);
		if (!back || !pb_equal(m, back))
			fail_msg("%s: %s\n%s", m->descriptor->name, e.text, text.ptr);
		pb_to_json(back, &forms[i], &again);
		assert_string_equal(text.ptr, again.ptr);
		strbuf_done(&text);
		strbuf_done(&again);
	}
}

static void a_message_survives_its_json_form(void **state)
{
	each(check_json);
}

static size_t packed_bytes;

static void check_wire(struct arena *a, ProtobufCMessage *m)
{
	struct err e = {0};
	struct str packed = pb_pack(a, m);
	packed_bytes += packed.len;
	ProtobufCMessage *back = pb_unpack(a, m->descriptor, packed.ptr, packed.len, &e);
	if (!back)
		fail_msg("%s", e.text);
	assert_true(pb_equal(m, back));
	assert_int_equal(pb_hash(m), pb_hash(back));
}

static void a_message_survives_packing(void **state)
{
	each(check_wire);
	assert_in_range(packed_bytes, 50000, SIZE_MAX); /* the generator makes more than empty messages */
}

static void check_copy(struct arena *a, ProtobufCMessage *m)
{
	cleanup(arena_free_p) struct arena *other = arena_new();
	ProtobufCMessage *copy = pb_copy(other, m);
	assert_true(pb_equal(m, copy));
	assert_int_equal(pb_hash(m), pb_hash(copy));
	pb_sort_maps(m);
	struct str x = pb_pack(a, m);
	struct str y = pb_pack(a, copy);
	assert_true(str_eq(x, y));
}

static void a_copy_is_equal_and_packs_to_the_same_bytes(void **state)
{
	each(check_copy);
}

/* Through YAML's reader and writer, whose quoting must keep every string a string. */
static void check_yaml(struct arena *a, ProtobufCMessage *m)
{
	struct strbuf json = {0};
	struct strbuf yaml = {0};
	struct node *n = NULL;
	struct diags d;
	struct documents docs;
	diags_init(&d, a);
	pb_to_json(m, NULL, &json);
	assert_true(json_parse(a, strbuf_str(&json), &n, &d));
	node_write_yaml(n, &yaml);
	bool ok = yaml_parse(a, strbuf_str(&yaml), "x.yaml", &docs, &d) && docs.len == 1;
	void *back = ok ? pb_from_node(a, m->descriptor, docs.items[0], NULL, &d) : NULL;
	if (!back || !pb_equal(m, back))
		fail_msg("%s:%u %s\n%s", m->descriptor->name, d.len ? d.items[0].line : 0,
			d.len ? d.items[0].text : "differs", yaml.ptr);
	strbuf_done(&json);
	strbuf_done(&yaml);
}

static void a_message_survives_its_yaml_form(void **state)
{
	each(check_yaml);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_survives_its_json_form),
		cmocka_unit_test(a_message_survives_packing),
		cmocka_unit_test(a_copy_is_equal_and_packs_to_the_same_bytes),
		cmocka_unit_test(a_message_survives_its_yaml_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
