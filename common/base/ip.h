/* IP addresses and CIDR blocks, as text and as bytes. */
#pragma once

#include "common/base/str.h"

bool ip_parse(struct str text, uint8_t out[16], unsigned *bits); /* v4 (bits 32) or v6 (bits 128); false = not an IP */
/* "address/length", or an address alone: a block of one. The bits behind the prefix may be set. */
bool cidr_parse(struct str text, uint8_t out[16], unsigned *family_bits, unsigned *prefix);
bool cidr_covers(struct str cidr, struct str ip, unsigned *prefix); /* false too when one of them is none */
