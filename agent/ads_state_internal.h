/* What ads_state.c and ads_cache.c share; nobody else includes this. All maps own their values. */
#pragma once

#include "agent/ads_state.h"
#include "common/base/map.h"

#define ADS_TYPES_MAX 32u

/* An accepted or waiting resource. */
struct ads_resource {
	char *version;
	size_t len;
	uint8_t *packed; /* envoy.service.discovery.v3.Resource */
};

/* A response that Envoy has not answered yet. */
struct ads_pending {
	char *nonce;
	bool own; /* from the last good configuration: pilot never hears of it */
	bool orphan; /* of a pilot stream that is no more */
	bool whole; /* all that there is: what it does not name is not */
	struct map *resources; /* name -> struct ads_resource */
	struct map *removed; /* name -> the name */
	struct ads_pending *next;
};

struct ads_type {
	char *url;
	bool subscribed; /* on the present stream of Envoy; so are the next three */
	bool wildcard;
	bool answered; /* had a response, or began with versions that Envoy holds */
	bool fresh; /* pilot was asked for everything and told that Envoy holds nothing */
	bool known; /* Envoy once accepted an answer of pilot: an empty last good configuration is one too */
	struct map *names; /* subscribed to by name, beside the wildcard: name -> this type */
	struct map *versions; /* name -> char *: what Envoy holds; "" when that is not known */
	struct map *accepted; /* name -> struct ads_resource: the last good configuration */
	struct ads_pending *pending; /* oldest first */
	size_t n_pending;
	uint64_t nacks;
};

struct ads_state {
	struct ads_type *types[ADS_TYPES_MAX];
	size_t n_types;
	uint64_t next_nonce;
	bool dirty;
};

struct ads_type *ads_type_need(struct ads_state *s, const char *url); /* NULL: no name, or ADS_TYPES_MAX others */
void ads_state_clear(struct ads_state *s);
void ads_resource_free(struct ads_resource *r);
struct ads_resource *ads_resource_of(const Ads__Resource *in);
