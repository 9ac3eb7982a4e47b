/*
 * What the load client knows of resources. A resource is kept once, however many of the clients hold it: it is found by the hash of its
 * bytes, so that what a thousand streams receive is unpacked once. Clients hold 32-bit numbers of resources, per type and name.
 *
 * Markers: a changed endpoint has an address of 10.250.0.0/15 and a changed VirtualService the header value
 * "bench-change-N"; the number in them tells which change a resource shows.
 */
#pragma once

#include "common/base/map.h"
#include "common/base/vec.h"

enum load_type { LOAD_CDS, LOAD_EDS, LOAD_LDS, LOAD_RDS, LOAD_VHDS, LOAD_TYPE_COUNT };
extern const char *const load_urls[LOAD_TYPE_COUNT];
extern const char *const load_names[LOAD_TYPE_COUNT]; /* "cds" */

#define LOAD_NONE 0u /* no such resource, name, marker */

struct load_resource {
	uint32_t name; /* number of the name within its type */
	uint32_t marker; /* of the change that it shows */
	enum load_type type, refers_to; /* clusters to endpoints, listeners to routes */
	struct str version; /* delta */
	uint32_t *refs; /* numbers of names of refers_to */
	size_t n_refs;
};

struct load_store;
struct load_store *load_store_new(void);
void load_store_free(struct load_store *s);
/* The number of a resource: `bytes` is an Any, or with delta a Resource. Aborts on what does not unpack: the peer is our own server's. */
uint32_t load_store_resource(struct load_store *s, enum load_type t, bool delta, struct str bytes);
const struct load_resource *load_store_get(
	const struct load_store *s, uint32_t resource); /* valid until the next call */
uint32_t load_store_name(struct load_store *s, enum load_type t, struct str name); /* its number */
struct str load_store_name_text(const struct load_store *s, enum load_type t, uint32_t name);
bool load_type_find(struct str url, enum load_type *out);
size_t load_store_unique(const struct load_store *s); /* different resources seen */

/* ---- the wire format, by hand: messages are only looked through */
struct wire_field {
	uint32_t number;
	struct str bytes; /* length-delimited fields; else empty */
};
bool wire_next(struct str *rest, struct wire_field *out);
void wire_put(struct strbuf *b, uint32_t field, struct str bytes);
