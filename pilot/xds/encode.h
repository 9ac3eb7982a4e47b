/*
 * A resource, packed once. Its bytes serve both protocols, because DiscoveryResponse.resources and Resource.resource have the same
 * field number: `body` is the field `resources = 2` of a state-of-the-world response, an Any; `head` is the beginning of the field
 * `resources = 2` of a delta response, a Resource with version and name, whose rest is `body`. Immutable and reference-counted.
 *
 * The version is the hash of the packed message: equal content has an equal version at every pilot and after every restart.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/io/grpc.h"
#include "pilot/xds/types.h"

/* Versions have 60 bits, so that a slot (slots.h) holds one with its flags in a word. */
#define XDS_VERSION_BITS 60
#define XDS_VERSION_NONE 0u /* nothing was sent */
#define XDS_VERSION_ABSENT 1u /* the client was told that it does not exist */

#define XDS_VERSION_TEXT 17 /* 16 hexadecimal digits and NUL */

struct xds_resource {
	struct ref ref;
	uint64_t version; /* > XDS_VERSION_ABSENT */
	struct buf *head;
	struct buf *body;
};

struct xds_resource *xds_encode(enum xds_type type, struct str name, const ProtobufCMessage *message);
struct xds_resource *xds_resource_ref(struct xds_resource *r);
void xds_resource_unref(struct xds_resource *r); /* NULL is fine */
size_t xds_resource_bytes(const struct xds_resource *r);
/* The packed message within `body`. */
struct str xds_resource_message(const struct xds_resource *r);

void xds_version_format(uint64_t version, char out[XDS_VERSION_TEXT]);
/* Anything that is not a version of ours is XDS_VERSION_NONE: then the resource is sent. */
uint64_t xds_version_parse(struct str text);
