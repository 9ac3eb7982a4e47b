/*
 * DOC: Any bytes as a packed message; the first byte chooses the type. What unpacks must copy to an equal message, pack
 * and unpack to one, and have a JSON form without a crash (it may hold durations that no text has, so the form is not read).
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/pb/json.h"
#include "kube/kube.pb-c.h"
#include "wkt/any.pb-c.h"
#include "wkt/struct.pb-c.h"
#include "xds/cluster.pb-c.h"
#include "xds/discovery.pb-c.h"
#include "xds/hcm.pb-c.h"
#include "xds/route.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
	&ads__discovery_request__descriptor,
	&rds__route_configuration__descriptor,
	&hcm__http_connection_manager__descriptor,
	&cds__cluster__descriptor,
	&kube__service__descriptor,
	&wkt__struct__descriptor,
	&wkt__any__descriptor,
};

static void fail(const char *why)
{
	(void)fprintf(stderr, "%s\n", why);
	abort();
}

static void check_message(struct arena *a, ProtobufCMessage *m)
{
	struct strbuf text = {0};
	struct err e = {0};
	ProtobufCMessage *copy = pb_copy(a, m);
	if (!pb_equal(m, copy) || pb_hash(m) != pb_hash(copy))
		fail("the copy is another message");
	struct str packed = pb_pack(a, copy);
	ProtobufCMessage *back = pb_unpack(a, m->descriptor, packed.ptr, packed.len, &e);
	if (!back)
		fail(e.text);
	if (!pb_equal(copy, back))
		fail("packing changed the message");
	pb_to_json(m, NULL, &text);
	strbuf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct arena *a = arena_new();
	struct err e = {0};
	ProtobufCMessage *m = pb_unpack(a, types[data[0] % ARRAY_LEN(types)], data + 1, size - 1, &e);
	if (m)
		check_message(a, m);
	else if (e.kind == ERR_NONE)
		fail("refused without a reason");
	arena_free(a);
	return 0;
}
