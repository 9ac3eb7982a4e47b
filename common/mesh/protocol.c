/* DOC: One table for galley, which checks the names, and pilot, which acts by them. */
#include "common/mesh/protocol.h"

static const struct protocol_row rows[] = {
	{"HTTP", PROTOCOL_HTTP},
	{"HTTP2", PROTOCOL_HTTP},
	{"GRPC", PROTOCOL_HTTP},
	{"GRPC-WEB", PROTOCOL_HTTP},
	{"HTTPS", PROTOCOL_TLS},
	{"TLS", PROTOCOL_TLS},
	{"TCP", PROTOCOL_TCP},
	{"MONGO", PROTOCOL_TCP},
	{"REDIS", PROTOCOL_TCP},
	{"MYSQL", PROTOCOL_TCP},
	{"UDP", PROTOCOL_UDP},
	{"HTTP_PROXY", PROTOCOL_HTTP},
	{"HTTP-PROXY", PROTOCOL_HTTP},
	{"HBONE", PROTOCOL_TCP},
};

const struct protocol_row *protocol_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (str_ieq(name, str_of(rows[i].name)))
			return &rows[i];
	return NULL;
}

enum protocol protocol_of(const char *name)
{
	const struct protocol_row *row = protocol_find(str_of(name));
	return row ? row->protocol : PROTOCOL_SNIFF;
}
