/*
 * How pilots and galley agree on what a pilot has: the sum of spread_mix() over all values of a topic. Equal sums, equal objects, at any
 * replica and whatever the order they came in.
 */
#pragma once

#include "common/base/hash.h"

/* hash: of the value, as the bus carries it. */
static inline uint64_t spread_mix(struct str key, uint64_t hash)
{
	return hash64_seed(key, hash * 0x9e3779b97f4a7c15u + 1);
}
