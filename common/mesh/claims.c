/*
 * DOC: Names of JWT claims as header conditions have them. After the prefix comes a path, either dotted or in brackets; a claim whose own
 * name holds a dot needs brackets. The prefix is read in any case, claims are case-sensitive.
 */
#include "common/mesh/claims.h"

#include <string.h>

#define CLAIMS_DEPTH_MAX 16

static const struct str prefix = {CLAIMS_PREFIX, sizeof(CLAIMS_PREFIX) - 1};

bool claims_is(struct str header)
{
	return header.len >= prefix.len && str_ieq(str_sub(header, 0, prefix.len), prefix);
}

/* Takes the next part off the rest; `brackets`: it stands in them. */
static bool next_part(struct str *rest, bool brackets, struct str *part)
{
	struct str head, tail;
	size_t dot;

	if (brackets) {
		if (!rest->len || rest->ptr[0] != '[' || !str_cut(str_from(*rest, 1), ']', &head, &tail))
			return false;
		*part = head;
		*rest = tail;
		return head.len > 0 && !memchr(head.ptr, '[', head.len);
	}
	if (!rest->len || rest->ptr[0] != '.')
		return false;
	tail = str_from(*rest, 1);
	if (!str_find(tail, '.', &dot))
		dot = tail.len;
	*part = str_sub(tail, 0, dot);
	*rest = str_from(tail, dot);
	return part->len > 0;
}

bool claims_path(struct arena *a, struct str header, struct str **out, size_t *n)
{
	struct str rest;
	bool brackets;

	if (!claims_is(header))
		return false;
	rest = str_from(header, prefix.len);
	brackets = rest.len && rest.ptr[0] == '[';
	*out = arena_array(a, CLAIMS_DEPTH_MAX, sizeof(**out));
	*n = 0;
	do {
		if (*n == CLAIMS_DEPTH_MAX || !next_part(&rest, brackets, &(*out)[*n]))
			return false;
		(*n)++;
	} while (rest.len);
	return true;
}
