/*
 * DOC: Any text as the document of a message; the first byte chooses the type. What decodes must encode to a text that
 * decodes to an equal message, pack to bytes that unpack to it, and the second text must be the first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cfg/networking/virtual_service.pb-c.h"
#include "common/pb/json.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/field_mask.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "xds/hcm.pb-c.h"
#include "xds/route.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
	&cfg__virtual_service__descriptor,
	&rds__route_configuration__descriptor,
	&hcm__http_connection_manager__descriptor,
	&kube__service__descriptor,
	&wkt__struct__descriptor,
	&wkt__any__descriptor,
};

static void fail(const char *why, const char *text)
{
	(void)fprintf(stderr, "%s\n%s\n", why, text);
	abort();
}

static void check_message(struct arena *a, const void *m, const ProtobufCMessageDescriptor *type)
{
	struct strbuf text = {0};
	struct strbuf again = {0};
	struct err e = {0};
	pb_to_json(m, NULL, &text);
	const void *back = pb_from_json_text(a, type, strbuf_str(&text), &e);
	if (!back || !pb_equal(m, back))
		fail(e.text, text.ptr);
	pb_to_json(back, NULL, &again);
	if (!str_eq(strbuf_str(&text), strbuf_str(&again)))
		fail(text.ptr, again.ptr);
	struct str packed = pb_pack(a, m);
	back = pb_unpack(a, type, packed.ptr, packed.len, &e);
	if (!back || !pb_equal(m, back) || pb_hash(m) != pb_hash(back))
		fail(e.text, text.ptr);
	strbuf_done(&text);
	strbuf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct arena *a = arena_new();
	const ProtobufCMessageDescriptor *type = types[data[0] % ARRAY_LEN(types)];
	struct documents docs;
	struct diags d;
	diags_init(&d, a);
	(void)yaml_parse(a, str_n(data + 1, size - 1), "fuzz", &docs, &d);
	for (size_t i = 0; i < docs.len && i < 4; i++) {
		size_t errors = d.errors;
		void *m = pb_from_node(a, type, docs.items[i], NULL, &d);
		if ((m == NULL) != (d.errors > errors))
			fail("result and diagnostics disagree", "");
		if (m)
			check_message(a, m, type);
	}
	arena_free(a);
	return 0;
}
