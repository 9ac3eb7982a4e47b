/* JWT claims in the names of header conditions: "@request.auth.claims.group.name" or "@request.auth.claims[group][name]". */
#pragma once

#include "common/base/arena.h"

#define CLAIMS_PREFIX "@request.auth.claims"

bool claims_is(struct str header); /* begins like one, whether well-formed or not */
/* The path of the claim; false: not well-formed (an empty name in it, an open bracket). Parts borrow from the header. */
bool claims_path(struct arena *a, struct str header, struct str **out, size_t *n);
