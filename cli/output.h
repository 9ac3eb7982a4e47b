/* The output format of a command: tables for people, JSON for programs. */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_COUNT };

/* The row of --output / -o; `type` is the command's config struct, `field` a const char *. */
#define OUTPUT_ROW(type, field) \
	{ \
		.name = "output", OPT_STR(type, field, "table", "table or json; also -o") \
	}
bool output_parse(const char *text, enum output *out, struct err *e) MUST_CHECK;
