/*
 * Text forms of google.protobuf's Duration, Timestamp and FieldMask. Internal to common/pb.
 */
#pragma once

#include "common/base/arena.h"

/* "1.500s" as protobuf's JSON has it (any range), or a Go duration ("1m30s", "250ms"). Both parts have one sign. */
bool duration_read(struct str text, int64_t *seconds, int32_t *nanos) MUST_CHECK;
void duration_write(int64_t seconds, int32_t nanos, struct strbuf *out);
/* RFC 3339, years 1 to 9999. */
bool timestamp_read(struct str text, int64_t *seconds, int32_t *nanos) MUST_CHECK;
/* False when it is outside of the years that the text form has. */
bool timestamp_write(int64_t seconds, int32_t nanos, struct strbuf *out) MUST_CHECK;
