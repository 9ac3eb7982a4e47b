/* DOC: IP addresses and CIDR blocks as text. Pure: what listens and connects is in common/io. */
#include "common/base/ip.h"

#include <arpa/inet.h>
#include <string.h>

bool ip_parse(struct str text, uint8_t out[16], unsigned *bits)
{
	char copy[INET6_ADDRSTRLEN];
	if (!text.len || text.len >= sizeof(copy) || memchr(text.ptr, 0, text.len))
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	uint8_t ip[16] = {0};
	if (inet_pton(AF_INET, copy, ip) == 1)
		*bits = 32;
	else if (inet_pton(AF_INET6, copy, ip) == 1)
		*bits = 128;
	else
		return false;
	memcpy(out, ip, sizeof(ip));
	return true;
}

bool cidr_parse(struct str text, uint8_t out[16], unsigned *family_bits, unsigned *prefix)
{
	struct str ip, rest;
	uint8_t bytes[16];
	unsigned bits;
	bool has_prefix = str_cut(text, '/', &ip, &rest);
	uint32_t len;
	if (!ip_parse(ip, bytes, &bits))
		return false;
	len = bits;
	if (has_prefix && !str_u32(rest, bits, &len))
		return false;
	memcpy(out, bytes, sizeof(bytes));
	*family_bits = bits;
	*prefix = len;
	return true;
}

bool cidr_covers(struct str cidr, struct str ip, unsigned *prefix)
{
	uint8_t net[16], address[16];
	unsigned net_bits, bits, len;
	if (!cidr_parse(cidr, net, &net_bits, &len) || !ip_parse(ip, address, &bits) || net_bits != bits)
		return false;
	for (unsigned i = 0; i < len; i++)
		if (((net[i / 8] ^ address[i / 8]) >> (7 - i % 8)) & 1)
			return false;
	*prefix = len;
	return true;
}
