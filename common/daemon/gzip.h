/* Answers in gzip for callers that take it: metrics and debug pages shrink to a tenth. Pure. */
#pragma once

#include "common/base/str.h"

/* By the header Accept-Encoding: gzip, x-gzip or *, not with q=0; what is named counts before *. */
bool gzip_accepted(struct str accept_encoding);
/* The caller frees *out. False: it would not be smaller. */
bool gzip_pack(struct str in, void **out, size_t *len);
