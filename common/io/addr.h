/*
 * Socket addresses as text: "127.0.0.1:15010", "[::1]:15010", "0.0.0.0:0", "unix:/run/x.sock", and to listen "*:15012": every address, of IPv4 and
 * IPv6. Names are not resolved here.
 */
#pragma once

#include <sys/socket.h>

#include "common/base/err.h"
#include "common/base/ip.h"
#include "common/base/str.h"

struct addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

bool addr_parse(struct str text, struct addr *out, struct err *e) MUST_CHECK;
void addr_format(const struct addr *a, char out[128]);
bool addr_is_unix(const struct addr *a);
/* Splits "host:port" / "[v6]:port"; host may be a DNS name. */
bool addr_split(struct str text, struct str *host, uint16_t *port, struct err *e) MUST_CHECK;
