/* DOC: gRPC framing and header values, by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/io/grpc_frame.h"

/* Two messages, "abc" and "", cut at every place. */
static void messages_survive_any_cut(void **state)
{
	(void)state;
	const uint8_t wire[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'z'};
	for (size_t cut = 0; cut <= sizeof(wire); cut++) {
		struct grpc_reader r = {0};
		struct strbuf got = {0};
		const uint8_t *parts[] = {wire, wire + cut};
		const size_t lens[] = {cut, sizeof(wire) - cut};
		for (int i = 0; i < 2; i++) {
			const uint8_t *data = parts[i];
			size_t len = lens[i];
			struct str m;
			while (grpc_reader_next(&r, 100, &data, &len, &m) == GRPC_READ_MESSAGE) {
				strbuf_add(&got, m);
				strbuf_addc(&got, '.');
			}
			assert_int_equal(len, 0);
		}
		assert_string_equal(got.ptr, "abc..z.");
		assert_false(grpc_reader_midway(&r));
		strbuf_done(&got);
		grpc_reader_done(&r);
	}
}

static void bad_prefixes_are_refused(void **state)
{
	(void)state;
	static const struct {
		uint8_t wire[6];
		enum grpc_read want;
	} rows[] = {
		{{1, 0, 0, 0, 1, 'x'}, GRPC_READ_COMPRESSED},
		{{2, 0, 0, 0, 1, 'x'}, GRPC_READ_BAD_FLAG},
		{{0, 0, 0, 0, 101, 'x'}, GRPC_READ_TOO_LARGE},
		{{0, 0xff, 0xff, 0xff, 0xff, 'x'}, GRPC_READ_TOO_LARGE},
		{{0, 0, 0, 0, 100, 'x'}, GRPC_READ_MORE},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct grpc_reader r = {0};
		const uint8_t *data = rows[i].wire;
		size_t len = 6;
		struct str m;
		assert_int_equal(grpc_reader_next(&r, 100, &data, &len, &m), rows[i].want);
		grpc_reader_done(&r);
	}
}

static void timeouts(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t ms;
		bool ok;
	} rows[] = {
		{"1H", 3600000, true},
		{"2M", 120000, true},
		{"3S", 3000, true},
		{"250m", 250, true},
		{"1500u", 2, true},
		{"1n", 1, true},
		{"99999999m", 99999999, true},
		{"100000000m", 0, false},
		{"m", 0, false},
		{"5", 0, false},
		{"-1S", 0, false},
		{"5x", 0, false},
		{"", 0, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t ms = 0;
		assert_int_equal(grpc_timeout_parse(str_of(rows[i].text), &ms), rows[i].ok);
		assert_int_equal(ms, rows[i].ms);
	}
	char text[16];
	grpc_timeout_format(20000, text);
	assert_string_equal(text, "20000m");
	grpc_timeout_format(100000000, text);
	assert_string_equal(text, "100000S");
}

static void messages_are_percent_encoded(void **state)
{
	(void)state;
	struct strbuf wire = {0}, back = {0};
	grpc_message_encode(&wire, STR("50% ü\n"));
	assert_string_equal(wire.ptr, "50%25 %C3%BC%0A");
	grpc_message_decode(&back, strbuf_str(&wire));
	assert_string_equal(back.ptr, "50% ü\n");
	strbuf_clear(&back);
	grpc_message_decode(&back, STR("%4 %zz %"));
	assert_string_equal(back.ptr, "%4 %zz %");
	strbuf_done(&wire);
	strbuf_done(&back);
}

static void other_values(void **state)
{
	(void)state;
	assert_true(grpc_content_type(STR("application/grpc")));
	assert_true(grpc_content_type(STR("application/grpc+proto")));
	assert_false(grpc_content_type(STR("application/grpc-web")));
	assert_false(grpc_content_type(STR("text/html")));
	assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
	assert_int_equal(grpc_status_of_rst(8), GRPC_CANCELLED);
	assert_string_equal(grpc_status_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_survive_any_cut),
		cmocka_unit_test(bad_prefixes_are_refused),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(messages_are_percent_encoded),
		cmocka_unit_test(other_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
