/*
 * DOC: YAML as Kubernetes reads it: what plain scalars mean, which errors come with which line, what one bad document does
 * to the others, aliases and merges, and every limit. Texts are short YAML in, JSON or the first diagnostic out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/pb/node.h"

/* All documents as JSON, one per line; then the diagnostics as "line:rule". */
static char *outcome(struct arena *a, struct str text)
{
	struct diags d;
	struct documents docs;
	struct strbuf out = {0};
	diags_init(&d, a);
	bool ok = yaml_parse(a, text, "f.yaml", &docs, &d);
	assert_int_equal(ok, d.errors == 0);
	for (size_t i = 0; i < docs.len; i++) {
		node_write_json(docs.items[i], &out);
		strbuf_addc(&out, '\n');
	}
	for (size_t i = 0; i < d.len; i++) {
		assert_string_equal(d.items[i].file, "f.yaml");
		strbuf_addf(&out, "%u:%s\n", d.items[i].line, d.items[i].rule);
	}
	return strbuf_take(&out);
}

static void reads(const char *yaml, const char *want)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(free_p) char *got = outcome(a, str_of(yaml));
	assert_string_equal(got, want);
}

static void plain_scalars_mean_what_they_mean_to_kubernetes(void **state)
{
	reads("[yes, No, on, OFF, true, y, N, ye, tRue]", "[true,false,true,false,true,true,false,\"ye\",\"tRue\"]\n");
}

static void nulls(void **state)
{
	reads("a: ~\nb: null\nc:\nd: ''\ne: nULL", "{\"a\":null,\"b\":null,\"c\":null,\"d\":\"\",\"e\":\"nULL\"}\n");
}

static void numbers(void **state)
{
	reads("[1, -7, 0x1F, 010, 0o17, 0b101, 1_000, +5]", "[1,-7,31,8,15,5,1000,5]\n");
	reads("[08, 1.5, .5, 1e3, 1., -0.25e-3]", "[8,1.5,0.5,1000,1,-0.00025]\n");
	reads("[18446744073709551615, -9223372036854775808]", "[18446744073709551615,-9223372036854775808]\n");
	reads("[1.2.3, 1:30, 2020-01-02, 0x, 1e, -, ., +, 1e999]",
		"[\"1.2.3\",\"1:30\",\"2020-01-02\",\"0x\",\"1e\",\"-\",\".\",\"+\",\"1e999\"]\n");
	reads("[.inf, -.Inf]", "[\".inf\",\"-.Inf\"]\n");
}

static void quotes_and_tags_decide(void **state)
{
	reads("['on', \"1\", !!str 1, ! on, !!int \"0x10\", !!bool 'yes']", "[\"on\",\"1\",\"1\",\"on\",16,true]\n");
	reads("a: !!int x", "1:wrong-type\n");
	reads("a: !thing x", "1:unknown-tag\n");
	reads("a: !!binary eA==", "1:unknown-tag\n");
	reads("a: !!map []", "1:wrong-type\n");
}

static void keys_become_strings(void **state)
{
	reads("{1: a, on: b, 0x10: c, 1.50: d}", "{\"1\":\"a\",\"true\":\"b\",\"16\":\"c\",\"1.5\":\"d\"}\n");
	reads("~: a", "1:bad-key\n");
	reads("? [a]\n: b", "1:bad-key\n");
}

static void duplicate_keys_are_errors_with_their_line(void **state)
{
	reads("a: 1\nb: 2\na: 3\n", "3:duplicate-key\n");
	reads("1: x\n\"1\": y\n", "2:duplicate-key\n");
	reads("a: {x: 1, x: 2}\nb: {y: 1, y: 2}\n", "1:duplicate-key\n2:duplicate-key\n");
}

static void many_keys_are_compared_by_hash(void **state)
{
	struct strbuf text = {0};
	for (unsigned i = 0; i < 30000; i++)
		strbuf_addf(&text, "key-%u: %u\n", i, i);
	strbuf_adds(&text, "key-7: again\n");
	reads(text.ptr, "30001:duplicate-key\n");
	strbuf_done(&text);
}

static void one_bad_document_harms_no_other(void **state)
{
	reads("a: 1\n---\nb: [\n---\nc: 3\n", "{\"a\":1}\n{\"c\":3}\n4:yaml-syntax\n");
}

static void syntax_errors_have_lines(void **state)
{
	reads("a: 1\n---\nb: \"x\n---\nc: 3\n---\nd: {\n", "{\"a\":1}\n{\"c\":3}\n4:yaml-syntax\n8:yaml-syntax\n");
}

static void documents_and_their_markers(void **state)
{
	reads("# only a comment\n", "");
	reads("", "");
	reads("---\n---\na: 1\n...\n%YAML 1.1\n---\nb: 2\n", "{\"a\":1}\n{\"b\":2}\n");
	reads("# c\n%YAML 1.1\n---\na: 1\n", "{\"a\":1}\n");
	reads("a: |\n  x\n  --- y\n---\nb: 1\n", "{\"a\":\"x\\n--- y\\n\"}\n{\"b\":1}\n");
	reads("\xef\xbb\xbf"
	      "a: 1\r\nb: 2\r\n",
		"{\"a\":1,\"b\":2}\n");
}

static void lists_of_objects_are_flattened(void **state)
{
	reads("kind: List\nitems:\n- kind: A\n- kind: List\n  items: [{kind: B}, null]\n---\nkind: C\n",
		"{\"kind\":\"A\"}\n{\"kind\":\"B\"}\n{\"kind\":\"C\"}\n");
	reads("{\"kind\": \"List\", \"items\": [{\"a\": \"\\ud83d\\ude00\"}]}", "{\"a\":\"\xf0\x9f\x98\x80\"}\n");
}

static void bytes_that_are_no_text(void **state)
{
	reads("a: 1\n---\nb: x\xff\n---\nc: 1\n", "{\"a\":1}\n{\"c\":1}\n3:invalid-utf8\n");
	reads("a: \x01\n", "1:control-character\n");
	reads("a: \"\\0\"\n", "1:control-character\n");
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(free_p) char *zero = outcome(a, STR("a: x\0y"));
	assert_string_equal(zero, "1:control-character\n");
}

static void tabs_are_named(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct documents docs;
	diags_init(&d, a);
	assert_false(yaml_parse(a, STR("a:\n\tb: 1\n"), "f", &docs, &d));
	assert_int_equal(d.items[0].line, 2);
	assert_non_null(strstr(d.items[0].text, "tab"));
}

static void aliases_share_and_merges_fill_up(void **state)
{
	reads("a: &x {p: 1}\nb: *x\nc: [*x, &y 3, *y]\n", "{\"a\":{\"p\":1},\"b\":{\"p\":1},\"c\":[{\"p\":1},3,3]}\n");
	reads("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n", "{\"a\":{\"p\":1,\"q\":2},\"b\":{\"q\":3,\"p\":1}}\n");
	reads("a: {<<: [{p: 1}, {p: 2, q: 3}]}\n", "{\"a\":{\"p\":1,\"q\":3}}\n");
	reads("a: {\"<<\": 1}\n", "{\"a\":{\"<<\":1}}\n");
	reads("a: {<<: 1}\n", "1:bad-merge\n");
	reads("a: *none\n", "1:unknown-alias\n");
	reads("a: &x [*x]\n", "1:unknown-alias\n");
	reads("a: &x 1\n---\nb: *x\n", "{\"a\":1}\n3:unknown-alias\n");
}

static void expanding_aliases_meets_the_limit(void **state)
{
	struct strbuf text = {0};
	strbuf_adds(&text, "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n");
	for (unsigned i = 1; i < 9; i++) {
		strbuf_addf(&text, "l%u: &l%u [", i, i);
		for (unsigned k = 0; k < 10; k++)
			strbuf_addf(&text, "%s*l%u", k ? ", " : "", i - 1);
		strbuf_adds(&text, "]\n");
	}
	reads(text.ptr, "6:limit-nodes\n");
	strbuf_done(&text);
}

static void nested(unsigned depth, const char *want)
{
	struct strbuf text = {0};
	for (unsigned i = 0; i < depth; i++)
		strbuf_addc(&text, '[');
	for (unsigned i = 0; i < depth; i++)
		strbuf_addc(&text, ']');
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(free_p) char *got = outcome(a, strbuf_str(&text));
	if (want)
		assert_string_equal(got, want);
	else
		assert_int_equal(strlen(got), 2 * depth + 1);
	strbuf_done(&text);
}

static void depth_is_limited(void **state)
{
	nested(LIMIT_DOCUMENT_DEPTH, NULL);
	nested(LIMIT_DOCUMENT_DEPTH + 1, "1:limit-depth\n");
	nested(100000, "1:limit-depth\n");
}

static void aliases_do_not_evade_the_depth(void **state)
{
	struct strbuf text = {0};
	for (unsigned i = 0; i < 70; i++)
		strbuf_addf(&text, i ? "k%u: &a%u [*a%u]\n" : "k%u: &a%u [x]\n", i, i, i - 1);
	reads(text.ptr, "64:limit-depth\n");
	strbuf_done(&text);
}

static void sizes_are_limited(void **state)
{
	struct strbuf text = {0};
	strbuf_adds(&text, "a: 1\n---\nb: '");
	for (size_t i = 0; i < LIMIT_DOCUMENT_BYTES; i++)
		strbuf_addc(&text, 'x');
	strbuf_adds(&text, "'\n---\nc: 3\n");
	reads(text.ptr, "{\"a\":1}\n{\"c\":3}\n2:limit-document-bytes\n");
	strbuf_clear(&text);
	for (unsigned i = 0; i <= LIMIT_YAML_ALIASES; i++)
		strbuf_addf(&text, "- %s\n", i ? "*a" : "&a 1");
	strbuf_adds(&text, "- *a\n");
	reads(text.ptr, "1002:limit-aliases\n");
	strbuf_done(&text);
}

static void files_are_limited(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	cleanup(free_p) char *huge = xmalloc((size_t)LIMIT_FILE_BYTES + 1);
	memset(huge, '#', (size_t)LIMIT_FILE_BYTES + 1);
	cleanup(free_p) char *got = outcome(a, str_n(huge, (size_t)LIMIT_FILE_BYTES + 1));
	assert_string_equal(got, "0:limit-file-bytes\n");
}

static void positions_are_those_of_the_file(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct documents docs;
	diags_init(&d, a);
	assert_true(yaml_parse(a, STR("a: 1\n---\nmetadata:\n  name: x\n"), "f", &docs, &d));
	const struct node *name = node_get(node_get(docs.items[1], "metadata"), "name");
	assert_int_equal(name->line, 4);
	assert_int_equal(name->column, 9);
	assert_true(str_eqc(node_text_at(docs.items[1], "metadata.name"), "x"));
	assert_int_equal(node_text_at(docs.items[1], "metadata.none").len, 0);
	assert_int_equal(node_text(docs.items[1], "metadata").len, 0);
}

static void written_yaml_reads_well(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct node *n = NULL;
	struct strbuf out = {0};
	diags_init(&d, a);
	const char *json = "{\"a\":{\"b\":[1,{\"c\":\"on\",\"d\":[[]]},\"x y\"]},\"e\":{},\"1\":null,\"f\":true}";
	assert_true(json_parse(a, str_of(json), &n, &d));
	node_write_yaml(n, &out);
	assert_string_equal(out.ptr,
		"a:\n  b:\n  - 1\n  - c: \"on\"\n    d:\n    - []\n  - \"x y\"\ne: {}\n\"1\": null\nf: true\n");
	reads(out.ptr, arena_printf(a, "%s\n", json));
	strbuf_done(&out);
}

static void json_errors_have_lines(void **state)
{
	cleanup(arena_free_p) struct arena *a = arena_new();
	struct diags d;
	struct node *n = NULL;
	diags_init(&d, a);
	assert_false(json_parse(a, STR("{\n\"a\": 1,\n\"a\": 2}"), &n, &d));
	assert_int_equal(d.items[0].line, 3);
	assert_false(json_parse(a, STR(""), &n, &d));
	assert_false(json_parse(a, STR("{} x"), &n, &d));
	assert_int_equal(d.errors, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_scalars_mean_what_they_mean_to_kubernetes),
		cmocka_unit_test(nulls),
		cmocka_unit_test(numbers),
		cmocka_unit_test(quotes_and_tags_decide),
		cmocka_unit_test(keys_become_strings),
		cmocka_unit_test(duplicate_keys_are_errors_with_their_line),
		cmocka_unit_test(many_keys_are_compared_by_hash),
		cmocka_unit_test(one_bad_document_harms_no_other),
		cmocka_unit_test(syntax_errors_have_lines),
		cmocka_unit_test(documents_and_their_markers),
		cmocka_unit_test(lists_of_objects_are_flattened),
		cmocka_unit_test(bytes_that_are_no_text),
		cmocka_unit_test(tabs_are_named),
		cmocka_unit_test(aliases_share_and_merges_fill_up),
		cmocka_unit_test(expanding_aliases_meets_the_limit),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(aliases_do_not_evade_the_depth),
		cmocka_unit_test(sizes_are_limited),
		cmocka_unit_test(files_are_limited),
		cmocka_unit_test(positions_are_those_of_the_file),
		cmocka_unit_test(written_yaml_reads_well),
		cmocka_unit_test(json_errors_have_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
