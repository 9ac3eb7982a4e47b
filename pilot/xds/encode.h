/*
 * Resources, packed once. A resource's bytes serve both protocols, because DiscoveryResponse.resources and Resource.resource have the
 * same field number: the *body* is the field `resources = 2` of a state-of-the-world response, an Any; the *head* before it is the
 * beginning of the field `resources = 2` of a delta response, a Resource with version and name, whose rest is the body.
 *
 * The version is the hash of the packed message: equal content has an equal version at every pilot and after every restart. A store
 * holds each resource once, whatever number of scopes have it, and packs those that are made together behind one another, so that a
 * response of a thousand resources is a few slices. Immutable, counted; owner thread: the worker's (the bytes may be sent from any).
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/io/buf.h"
#include "pilot/xds/types.h"

/* Versions have 60 bits, so that a slot (slots.h) holds one with its flags in a word. */
#define XDS_VERSION_BITS 60
#define XDS_VERSION_NONE 0u /* nothing was sent */
#define XDS_VERSION_ABSENT 1u /* the client was told that it does not exist */

#define XDS_VERSION_TEXT 17 /* 16 hexadecimal digits and NUL */

struct xds_store;

struct xds_resource {
	unsigned refs;
	uint32_t head_len, body_len;
	uint64_t version; /* > XDS_VERSION_ABSENT */
	uint64_t key; /* of the store's table */
	struct xds_store *store; /* NULL: it is not in the table */
	struct xds_resource *next; /* of the same place in the table */
	struct buf *home; /* NULL: the bytes were dropped */
	const uint8_t *bytes; /* head and body, in home */
};

struct xds_store *xds_store_new(void);
void xds_store_free(struct xds_store *s); /* after its resources */
/* Between begin and end resources are packed behind one another. */
void xds_store_bulk(struct xds_store *s, bool on);
size_t xds_store_len(const struct xds_store *s);

/* One use. */
struct xds_resource *xds_encode(
	struct xds_store *s, enum xds_type type, struct str name, const ProtobufCMessage *message);
struct xds_resource *xds_resource_ref(struct xds_resource *r);
void xds_resource_unref(struct xds_resource *r); /* NULL is fine */
/* Gives up the bytes, if nobody else has the resource; its version stays. */
void xds_resource_drop_bytes(struct xds_resource *r);
size_t xds_resource_bytes(const struct xds_resource *r);
struct buf_slice xds_resource_slice(const struct xds_resource *r, enum xds_mode mode); /* borrowed */
/* The packed message within the body. */
struct str xds_resource_message(const struct xds_resource *r);

void xds_version_format(uint64_t version, char out[XDS_VERSION_TEXT]);
/* Anything that is not a version of ours is XDS_VERSION_NONE: then the resource is sent. */
uint64_t xds_version_parse(struct str text);
