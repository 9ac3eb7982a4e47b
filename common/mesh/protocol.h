/*
 * What the protocol of a port means. Names are Istio's (protocol selection), compared without case; the first spelling of a meaning is the
 * canonical one.
 */
#pragma once

#include "common/base/str.h"

enum protocol { PROTOCOL_HTTP, PROTOCOL_TCP, PROTOCOL_TLS, PROTOCOL_SNIFF, PROTOCOL_UDP };

struct protocol_row {
	const char *name;
	enum protocol protocol;
};

/* NULL: not known. HTTPS is PROTOCOL_TLS. */
const struct protocol_row *protocol_find(struct str name);
/* Not known, and empty: PROTOCOL_SNIFF. */
enum protocol protocol_of(const char *name);
