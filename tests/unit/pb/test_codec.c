/*
 * DOC: The codec's diagnostics (rule, path, line), its leniency where Istio is lenient, JSON forms of special messages, and
 * rule paths.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "cfg/networking/virtual_service.pb-c.h"
#include "common/base/limits.h"
#include "common/pb/json.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/duration.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "wkt/timestamp.pb-c.h"
#include "wkt/wrappers.pb-c.h"
#include "xds/core.pb-c.h"
#include "xds/route.pb-c.h"

static void *decode(struct arena *a, const ProtobufCMessageDescriptor *type, const char *yaml,
	const struct pb_decode_options *o, struct diags *d)
{
	struct documents docs;
	diags_init(d, a);
	assert_true(yaml_parse(a, str_of(yaml), "f", &docs, d));
	assert_int_equal(docs.len, 1);
	return pb_from_node(a, type, docs.items[0], o, d);
}

/* The diagnostics as "line rule path", one per line. */
static void complains(const ProtobufCMessageDescriptor *type, const char *yaml, const char *want)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const struct pb_decode_options o = {.path = "spec"};
	struct diags d;
	struct strbuf got = {0};
	assert_null(decode(a, type, yaml, &o, &d));
	for (size_t i = 0; i < d.len; i++)
		strbuf_addf(&got, "%u %s %s\n", d.items[i].line, d.items[i].rule, d.items[i].path);
	assert_string_equal(got.ptr, want);
	strbuf_done(&got);
}

/* The text of the first diagnostic. */
static void says(const ProtobufCMessageDescriptor *type, const char *yaml, const char *want)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	assert_null(decode(a, type, yaml, NULL, &d));
	assert_string_equal(d.items[0].text, want);
}

/* YAML in, canonical JSON out. */
static void becomes(const ProtobufCMessageDescriptor *type, const char *yaml, const char *json)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct strbuf got = {0};
	void *m = decode(a, type, yaml, NULL, &d);
	if (!m)
		fail_msg("%s: %s", d.items[0].path, d.items[0].text);
	pb_to_json(m, NULL, &got);
	assert_string_equal(got.ptr, json);
	strbuf_done(&got);
}

#define VS (&cfg__virtual_service__descriptor)

static void all_problems_with_path_and_line(void **state)
{
	complains(VS,
		"hosts: a\nhttp:\n- route:\n  - destination: {host: x}\n    wieght: 3\n  timeout: 5\n- retries: "
		"{attempts: 1.5}\n",
		"1 wrong-type spec.hosts\n"
		"5 unknown-field spec.http[0].route[0].wieght\n"
		"6 wrong-type spec.http[0].timeout\n"
		"7 wrong-type spec.http[1].retries.attempts\n");
}

static void unknown_fields_get_a_suggestion(void **state)
{
	says(VS, "http: [{route: [{wieght: 3}]}]", "unknown field, did you mean \"weight\"?");
	says(VS, "hots: []", "unknown field, did you mean \"hosts\"?");
	says(VS, "somethingElse: 1", "unknown field of VirtualService");
}

static void strings_are_quoted_or_words(void **state)
{
	says(&kube__service_port__descriptor, "name: on", "a string is expected, got the boolean on; quote it");
	says(&kube__service_port__descriptor, "name: 80", "a string is expected, got the number 80; quote it");
	says(&kube__object_meta__descriptor, "labels: {app: true}",
		"a string is expected, got the boolean true; quote it");
	says(&kube__service_port__descriptor, "name: [x]", "a string is expected, got a list");
	becomes(&kube__service_port__descriptor, "name: \"on\"\nport: 0x50", "{\"name\":\"on\",\"port\":80}");
}

static void numbers_have_ranges(void **state)
{
	const ProtobufCMessageDescriptor *u32 = &wkt__uint32_value__descriptor;
	complains(u32, "4294967296", "1 out-of-range spec\n");
	complains(u32, "-1", "1 out-of-range spec\n");
	complains(u32, "99999999999999999999999", "1 out-of-range spec\n");
	complains(u32, "'5'", "1 wrong-type spec\n");
	complains(u32, ".inf", "1 wrong-type spec\n");
	complains(&wkt__int32_value__descriptor, "2147483648", "1 out-of-range spec\n");
	complains(&wkt__int64_value__descriptor, "9223372036854775808", "1 out-of-range spec\n");
	complains(&wkt__float_value__descriptor, "1e39", "1 out-of-range spec\n");
	complains(&wkt__double_value__descriptor, ".nan", "1 wrong-type spec\n");
	becomes(u32, "1e3", "1000");
	becomes(&wkt__int32_value__descriptor, "-2147483648", "-2147483648");
	becomes(&wkt__int64_value__descriptor, "'-9223372036854775808'", "\"-9223372036854775808\"");
	becomes(&wkt__uint64_value__descriptor, "18446744073709551615", "\"18446744073709551615\"");
	becomes(&wkt__double_value__descriptor, "0.1", "0.1");
	becomes(&wkt__float_value__descriptor, "0.1", "0.1");
	becomes(&wkt__double_value__descriptor, "1e21", "1e+21");
	becomes(&wkt__double_value__descriptor, "Infinity", "\"Infinity\"");
}

static void enums_take_names_and_numbers(void **state)
{
	const ProtobufCMessageDescriptor *d = &core__socket_address__descriptor;
	becomes(d, "protocol: UDP", "{\"protocol\":\"UDP\"}");
	becomes(d, "protocol: 1", "{\"protocol\":\"UDP\"}");
	becomes(d, "protocol: 77", "{\"protocol\":77}");
	says(d, "protocol: SCTP", "one of TCP, UDP is expected, got the string \"SCTP\"");
	complains(d, "protocol: off", "1 bad-enum spec.protocol\n");
}

static void only_one_of_a_oneof(void **state)
{
	says(&cfg__string_match__descriptor, "exact: a\nprefix: b", "only one of \"exact\" and \"prefix\" may be set");
	becomes(&cfg__string_match__descriptor, "exact: ''", "{\"exact\":\"\"}");
	becomes(&cfg__string_match__descriptor, "exact: a\nprefix: null", "{\"exact\":\"a\"}");
}

static void both_names_of_a_field_are_one_field(void **state)
{
	complains(&kube__service_spec__descriptor, "externalName: a\nexternal_name: b",
		"2 duplicate-key spec.externalName\n");
	becomes(&kube__service_spec__descriptor, "external_name: b", "{\"externalName\":\"b\"}");
}

static void durations(void **state)
{
	const ProtobufCMessageDescriptor *d = &wkt__duration__descriptor;
	becomes(d, "1.5s", "\"1.500s\"");
	becomes(d, "250ms", "\"0.250s\"");
	becomes(d, "1h30m", "\"5400s\"");
	becomes(d, "-0.000000001s", "\"-0.000000001s\"");
	becomes(d, "315576000000s", "\"315576000000s\"");
	complains(d, "315576000001s", "1 bad-duration spec\n");
	complains(d, "soon", "1 bad-duration spec\n");
	complains(d, "''", "1 bad-duration spec\n");
	complains(d, "5", "1 wrong-type spec\n");
}

static void timestamps(void **state)
{
	const ProtobufCMessageDescriptor *d = &wkt__timestamp__descriptor;
	becomes(d, "2024-02-29T12:34:56.7Z", "\"2024-02-29T12:34:56.700Z\"");
	becomes(d, "1970-01-01T01:00:00+01:00", "\"1970-01-01T00:00:00Z\"");
	becomes(d, "0001-01-01T00:00:00Z", "\"0001-01-01T00:00:00Z\"");
	becomes(d, "9999-12-31T23:59:59.999999999Z", "\"9999-12-31T23:59:59.999999999Z\"");
	complains(d, "2023-02-29T00:00:00Z", "1 bad-timestamp spec\n");
	complains(d, "2023-02-28 00:00:00Z", "1 bad-timestamp spec\n");
	complains(d, "2023-13-01T00:00:00Z", "1 bad-timestamp spec\n");
	complains(d, "0001-01-01T00:00:00+01:00", "1 bad-timestamp spec\n");
}

static void bytes_are_base64(void **state)
{
	const ProtobufCMessageDescriptor *d = &wkt__bytes_value__descriptor;
	becomes(d, "'/+8='", "\"/+8=\"");
	becomes(d, "_-8", "\"/+8=\"");
	becomes(d, "'YQ=='", "\"YQ==\"");
	complains(d, "a", "1 bad-base64 spec\n");
	complains(d, "'a b='", "1 bad-base64 spec\n");
}

static void plain_json_stays_plain(void **state)
{
	becomes(&wkt__struct__descriptor, "{b: [1, null, {c: x}], a: true}",
		"{\"a\":true,\"b\":[1,null,{\"c\":\"x\"}]}");
	becomes(&wkt__value__descriptor, "[]", "[]");
	becomes(&wkt__value__descriptor, "-0.", "-0.0");
	complains(&wkt__struct__descriptor, "[]", "1 wrong-type spec\n");
	complains(&wkt__struct__descriptor, "a: {b: .inf}", "1 wrong-type spec[\"a\"][\"b\"]\n");
}

static void an_any_shows_its_content(void **state)
{
	const ProtobufCMessageDescriptor *d = &wkt__any__descriptor;
	becomes(d, "{'@type': type.googleapis.com/google.protobuf.Duration, value: 1s}",
		"{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"1s\"}");
	becomes(d, "{zone: z, '@type': type.googleapis.com/envoy.config.core.v3.Locality}",
		"{\"@type\":\"type.googleapis.com/envoy.config.core.v3.Locality\",\"zone\":\"z\"}");
	becomes(d, "{'@type': type.googleapis.com/not.Known, value: YQ==}",
		"{\"@type\":\"type.googleapis.com/not.Known\",\"value\":\"YQ==\"}");
	becomes(d, "{'@type': type.googleapis.com/envoy.config.core.v3.Locality, '@value': '/w=='}",
		"{\"@type\":\"type.googleapis.com/envoy.config.core.v3.Locality\",\"@value\":\"/w==\"}");
	complains(d, "{'@type': type.googleapis.com/not.Known, x: 1}", "1 unknown-type spec\n");
	complains(d, "{'@type': type.googleapis.com/envoy.config.core.v3.Locality, zon: z}",
		"1 unknown-field spec.zon\n");
	complains(d, "{a: 1}", "1 wrong-type spec\n");
}

static void numbers_or_names(void **state)
{
	becomes(&kube__service_port__descriptor, "targetPort: 80", "{\"targetPort\":80}");
	becomes(&kube__service_port__descriptor, "targetPort: http", "{\"targetPort\":\"http\"}");
	complains(&kube__service_port__descriptor, "targetPort: true", "1 wrong-type spec.targetPort\n");
}

static void lenient_for_objects_of_others(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const struct pb_decode_options o = {.ignore_unknown = true};
	struct diags d;
	Kube__ObjectMeta *m = decode(a, &kube__object_meta__descriptor,
		"name: x\nmanagedFields: [{a: 1}]\nlabels: {a: null, b: c}\ngeneration: null\n", &o, &d);
	assert_non_null(m);
	assert_int_equal(d.len, 0);
	assert_int_equal(m->n_labels, 1);
	assert_string_equal(m->labels[0]->key, "b");
}

static void diagnostics_are_limited(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct strbuf text = {0};
	for (unsigned i = 0; i < LIMIT_DIAGS_PER_DOCUMENT + 50; i++)
		strbuf_addf(&text, "unknown%u: 1\n", i);
	assert_null(decode(a, VS, text.ptr, NULL, &d));
	assert_int_equal(d.len, LIMIT_DIAGS_PER_DOCUMENT + 1);
	assert_string_equal(d.items[LIMIT_DIAGS_PER_DOCUMENT].rule, "limit-diags");
	assert_non_null(strstr(d.items[LIMIT_DIAGS_PER_DOCUMENT].text, "50 more"));
	strbuf_done(&text);
}

static void depth_of_messages_is_limited(void **state)
{
	struct strbuf text = {0};
	for (unsigned i = 0; i < 40; i++)
		strbuf_adds(&text, "{a: ");
	strbuf_adds(&text, "1");
	for (unsigned i = 0; i < 40; i++)
		strbuf_addc(&text, '}');
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	assert_null(decode(a, &wkt__struct__descriptor, text.ptr, NULL, &d));
	assert_string_equal(d.items[0].rule, "limit-depth");
	strbuf_done(&text);
}

static void defaults_and_proto_names(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	const struct pb_encode_options o = {.defaults = true, .proto_names = true, .indent = 2};
	struct strbuf got = {0};
	Kube__ServicePort *p = PB_NEW(a, Kube__ServicePort, kube__service_port);
	pb_to_json(p, &o, &got);
	assert_string_equal(got.ptr,
		"{\n  \"name\": \"\",\n  \"protocol\": \"\",\n  \"app_protocol\": \"\",\n  \"port\": 0,\n"
		"  \"node_port\": 0\n}");
	strbuf_done(&got);
}

static void errors_of_json_text_name_the_place(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct err e = {0};
	assert_null(pb_from_json_text(a, VS, STR("{\"http\":[{\"x\":1}]}"), &e));
	assert_int_equal(e.kind, ERR_PEER);
	assert_non_null(strstr(e.text, "http[0].x"));
	assert_null(pb_from_json_text(a, VS, STR("{"), &e));
	assert_non_null(pb_from_json_text(a, VS, STR("{}"), NULL));
}

struct places {
	struct strbuf text;
	const struct node *document;
};

static void note_place(void *ctx, const struct pb_place *p)
{
	struct places *all = ctx;
	const struct node *n = node_at_path(all->document, p->path);
	strbuf_addf(&all->text, "%s%s:%u\n", p->path, p->present ? "" : " absent", n->line);
}

static void places_of(const char *rule, const char *want)
{
	static const char yaml[] =
		"hosts:\n- a\n- ''\nhttp:\n- route:\n  - weight: 1\n  - destination: {host: x}\n"
		"- timeout: 1s\n  headers:\n    request:\n      set:\n        a.b: c\n        'd\"]': e\n";
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct documents docs;
	diags_init(&d, a);
	assert_true(yaml_parse(a, str_of(yaml), "f", &docs, &d));
	struct places all = {.document = docs.items[0]};
	void *m = pb_from_node(a, VS, docs.items[0], NULL, &d);
	assert_non_null(m);
	pb_each_place(a, m, rule, NULL, note_place, &all);
	assert_string_equal(all.text.ptr ? all.text.ptr : "", want);
	strbuf_done(&all.text);
}

static void rule_paths_find_every_place(void **state)
{
	places_of("hosts", "hosts:2\n");
	places_of("hosts[]", "hosts[0]:2\nhosts[1] absent:3\n");
	places_of("gateways", "gateways absent:1\n");
	places_of("gateways[]", "");
	places_of("http[].route[].weight", "http[0].route[0].weight:6\nhttp[0].route[1].weight absent:7\n");
	places_of("http[].route[].destination.host", "http[0].route[1].destination.host:7\n");
	places_of("http[].timeout", "http[0].timeout absent:5\nhttp[1].timeout:8\n");
	places_of("http[].headers.request.set{}",
		"http[1].headers.request.set[\"a.b\"]:12\nhttp[1].headers.request.set[\"d\\\"]\"]:13\n");
}

static void nodes_are_found_by_either_name(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct documents docs;
	diags_init(&d, a);
	assert_true(yaml_parse(a, STR("spec:\n  per_try_timeout: 1s\n"), "f", &docs, &d));
	assert_int_equal(node_at_path(docs.items[0], "spec.perTryTimeout")->line, 2);
	assert_int_equal(node_at_path(docs.items[0], "spec.perTryTimeout")->column, 20);
	assert_ptr_equal(node_at_path(docs.items[0], "spec[7].x"), node_get(docs.items[0], "spec"));
	assert_ptr_equal(node_at_path(docs.items[0], "spec[x"), node_get(docs.items[0], "spec"));
	assert_ptr_equal(node_at_path(docs.items[0], ""), docs.items[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_problems_with_path_and_line),
		cmocka_unit_test(unknown_fields_get_a_suggestion),
		cmocka_unit_test(strings_are_quoted_or_words),
		cmocka_unit_test(numbers_have_ranges),
		cmocka_unit_test(enums_take_names_and_numbers),
		cmocka_unit_test(only_one_of_a_oneof),
		cmocka_unit_test(both_names_of_a_field_are_one_field),
		cmocka_unit_test(durations),
		cmocka_unit_test(timestamps),
		cmocka_unit_test(bytes_are_base64),
		cmocka_unit_test(plain_json_stays_plain),
		cmocka_unit_test(an_any_shows_its_content),
		cmocka_unit_test(numbers_or_names),
		cmocka_unit_test(lenient_for_objects_of_others),
		cmocka_unit_test(diagnostics_are_limited),
		cmocka_unit_test(depth_of_messages_is_limited),
		cmocka_unit_test(defaults_and_proto_names),
		cmocka_unit_test(errors_of_json_text_name_the_place),
		cmocka_unit_test(rule_paths_find_every_place),
		cmocka_unit_test(nodes_are_found_by_either_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
