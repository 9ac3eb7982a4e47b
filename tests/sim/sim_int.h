/* Between the files of the simulator only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/str.h"

struct request {
	bool inbound, tls, http;
	const char *ip;
	unsigned port;
	const char *sni, *method, *authority, *path, *scheme;
	json_t *alpn, *headers, *claims;
};

const char *text(json_t *o, const char *key, const char *fallback);
json_t *named(json_t *list, const char *key, const char *name); /* the element whose key is name; borrowed */
bool string_matches(json_t *matcher, const char *value);
json_t *sim_chain(json_t *listener, const struct request *r);
json_t *sim_virtual_host(json_t *routes, const struct request *r);
json_t *sim_route(json_t *host, const struct request *r); /* NULL: 404 */
