/*
 * The text of a file in pieces that are parsed each by itself: a piece is a YAML document with its "---" line and the
 * directives and comments before it. So an error in one document cannot hide the next. Internal to common/pb.
 */
#pragma once

#include "common/base/diag.h"

struct yaml_chunk {
	struct str text;
	unsigned line; /* of its first byte, 1-based */
};

/* Takes the next chunk off *rest, whose first line is *line; false at the end. */
bool yaml_chunk_next(struct str *rest, unsigned *line, struct yaml_chunk *out);

/* What YAML does not allow in a text: bytes that are not UTF-8, control characters. */
struct yaml_bad_byte {
	const char *rule;
	unsigned line;
	unsigned column;
	uint32_t value; /* the byte, or the code point */
};
bool yaml_chunk_is_text(const struct yaml_chunk *c, struct yaml_bad_byte *bad);
/* The white space in front of a line (1-based, of the file) has a tab. */
bool yaml_line_has_tab(const struct yaml_chunk *c, unsigned line);
