/* Base64 by RFC 4648, as protobuf's JSON form has bytes. Internal to common/pb. */
#pragma once

#include "common/base/arena.h"

void base64_write(struct str data, struct strbuf *out);
/* The standard and the URL alphabet, with or without padding; white space is refused. */
bool base64_read(struct arena *a, struct str text, struct str *out) MUST_CHECK;
