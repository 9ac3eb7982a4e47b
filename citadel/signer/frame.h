/*
 * Frames between citadel and its signer: a type, a request number and up to FRAME_FIELDS byte strings. Little-endian lengths; both ends
 * are the same program. Pure: bytes in, views out.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

#define FRAME_FIELDS 16
#define FRAME_BYTES_MAX (4u << 20)
#define SIGNER_HELLO_FIELDS 7

enum frame_type {
	FRAME_HELLO, /* child: issuer certificate, chain, roots; the rotation's phase, since when, when to look again, the step just taken */
	FRAME_SIGN, /* parent: CSR in DER, SPIFFE URI, lifetime in ms, DNS names ... */
	FRAME_SIGNED, /* child: certificate in DER, serial number in hexadecimal, end in ms */
	FRAME_REFUSED, /* child: text; policy said no */
	FRAME_FAILED, /* child: text; it could not */
	FRAME_TYPE_COUNT
};

struct frame {
	enum frame_type type;
	uint32_t id;
	size_t n;
	struct str fields[FRAME_FIELDS];
};

void frame_write(struct strbuf *out, const struct frame *f);
/* One frame off the front: *used 0 = not complete yet; false = not well-formed. The fields are views into `in`. */
bool frame_read(struct str in, struct frame *out, size_t *used, struct err *e) MUST_CHECK;
