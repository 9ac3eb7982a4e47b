/* Content hashes (XXH3, 64 bits): equal content has an equal hash at every replica and on every machine. Not for secrets. */
#pragma once

#include "common/base/str.h"

uint64_t hash64(struct str data);
uint64_t hash64_seed(struct str data, uint64_t seed);
