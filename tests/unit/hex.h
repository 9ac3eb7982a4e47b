/* Hex text of the tests' vectors. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"

/* Bytes into out; their number. Text that is too long or no hex ends the test program. */
static inline size_t unhex(const char *text, uint8_t *out, size_t cap)
{
	size_t len = strlen(text) / 2;
	if (strlen(text) % 2 || len > cap)
		abort();
	for (size_t i = 0; i < len; i++) {
		char two[3] = {text[2 * i], text[2 * i + 1], 0}, *end = NULL;
		out[i] = (uint8_t)strtoul(two, &end, 16);
		if (end != two + 2)
			abort();
	}
	return len;
}
