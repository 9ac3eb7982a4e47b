/* The name that the writer of an unknown one probably meant. Internal to common/pb. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/base/str.h"

/* The JSON name of the field nearest to `name`, at most two edits away; false when none is near. */
bool suggest_field(const ProtobufCMessageDescriptor *d, struct str name, char *out, size_t out_size);
