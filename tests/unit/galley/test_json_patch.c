/* DOC: The mutating webhook's patches: which operations make one document out of another. What they do when applied is in test_injector.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/str.h"
#include "galley/webhook/json_patch.h"

static const struct {
	const char *from, *to, *patch;
} rows[] = {
	{"{}", "{}", "[]"},
	{"{\"a\":1}", "{\"a\":1}", "[]"},
	{"{}", "{\"a\":{\"b\":1}}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"b\":1}}]"},
	{"{\"a\":1}", "{}", "[{\"op\":\"remove\",\"path\":\"/a\"}]"},
	{"{\"a\":1}", "{\"a\":2}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":2}]"},
	{"{\"a\":[]}", "{\"a\":{}}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":{}}]"},
	/* Keys with the characters that a JSON pointer has for itself. */
	{"{}", "{\"x.io/y~z\":\"\"}", "[{\"op\":\"add\",\"path\":\"/x.io~1y~0z\",\"value\":\"\"}]"},
	/* Lists: insertions wherever they are; the same item by its name. */
	{"[1,2]", "[0,1,3,2,4]",
		"[{\"op\":\"add\",\"path\":\"/0\",\"value\":0},{\"op\":\"add\",\"path\":\"/2\",\"value\":3},"
		"{\"op\":\"add\",\"path\":\"/4\",\"value\":4}]"},
	{"[{\"name\":\"a\",\"v\":1}]", "[{\"name\":\"b\"},{\"name\":\"a\",\"v\":2}]",
		"[{\"op\":\"add\",\"path\":\"/0\",\"value\":{\"name\":\"b\"}},"
		"{\"op\":\"replace\",\"path\":\"/1/v\",\"value\":2}]"},
	/* Taken away or moved: the whole list. */
	{"[1,2]", "[2]", "[{\"op\":\"replace\",\"path\":\"\",\"value\":[2]}]"},
	{"{\"l\":[{\"name\":\"a\"},{\"name\":\"b\"}]}", "{\"l\":[{\"name\":\"b\"},{\"name\":\"a\"}]}",
		"[{\"op\":\"replace\",\"path\":\"/l\",\"value\":[{\"name\":\"b\"},{\"name\":\"a\"}]}]"},
};

static void I01_operations(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		json_t *from = json_loads(rows[i].from, 0, NULL), *to = json_loads(rows[i].to, 0, NULL);
		json_t *patch = json_patch(from, to);
		char *text = json_dumps(patch, JSON_COMPACT);
		assert_string_equal(text, rows[i].patch);
		free(text);
		json_decref(patch);
		json_decref(from);
		json_decref(to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(I01_operations)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
