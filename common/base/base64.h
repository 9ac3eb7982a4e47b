/* Base64 by RFC 4648: bytes in protobuf's JSON form, and between the lines of PEM. Not in constant time: nothing secret. */
#pragma once

#include "common/base/arena.h"

void base64_write(struct str data, struct strbuf *out);
/* The standard and the URL alphabet, with or without padding; white space is refused. */
bool base64_read(struct arena *a, struct str text, struct str *out) MUST_CHECK;
