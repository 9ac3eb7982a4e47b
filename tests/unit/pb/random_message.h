/*
 * Random messages of any type from a stream of numbers that the caller owns: the same seed makes the same message. Every
 * message made is valid (well-known types within their ranges, map keys unique), so that decode(encode(x)) == x must hold.
 */
#pragma once

#include "common/pb/pb.h"

struct random {
	uint64_t state;
};

uint32_t random_next(struct random *r);
/* Below `depth` 1 messages stay empty. */
ProtobufCMessage *random_message(
	struct random *r, struct arena *a, const ProtobufCMessageDescriptor *d, unsigned depth);
