/*
 * DOC: Content hashes by XXH3. The library's header is used inline: keys are short, and a call through the shared
 * library would cost more than the hash itself.
 */
#include "common/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash64(struct str data)
{
	return XXH3_64bits(data.len ? data.ptr : "", data.len);
}

uint64_t hash64_seed(struct str data, uint64_t seed)
{
	return XXH3_64bits_withSeed(data.len ? data.ptr : "", data.len, seed);
}
