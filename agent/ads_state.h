/*
 * What Envoy holds and wants, per xDS type, seen from the middle of its delta ADS stream: the agent is a delta server towards Envoy and a delta
 * client towards pilot, and this is the state of both. Pure but for save and load: bytes in, bytes out; no sockets, no clock. The resources
 * that Envoy accepted are the last good configuration, which can be written to a file and read again.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "xds/discovery.pb-c.h"

struct ads_state;

struct ads_state *ads_state_new(void);
void ads_state_free(struct ads_state *s);

/* Envoy opened a new stream: its subscriptions start again, the accepted resources stay. */
void ads_state_stream_opened(struct ads_state *s);
/* A request of Envoy. What it says about subscriptions, versions and acceptance is taken over. Returns what the open stream to pilot must be
 * told, packed, in the arena; empty when pilot has no part in it (the answer to a response that is not of pilot's present stream). */
struct str ads_state_request(struct ads_state *s, const Ads__DeltaDiscoveryRequest *r, struct arena *a);
/* A response of pilot on its way to Envoy: remembered until Envoy accepts it. False: Envoy leaves too many unanswered. */
bool ads_state_response(struct ads_state *s, const Ads__DeltaDiscoveryResponse *r) MUST_CHECK;
/* Pilot is gone: its nonces mean nothing to another stream, and what Envoy has not answered yet it may hold or not. */
void ads_state_upstream_lost(struct ads_state *s);

/* What to ask a new pilot stream for: one request per type that Envoy is subscribed to, in the order in which Envoy first asked, with the
 * versions that Envoy holds. The node goes into the first. Packed, in the arena. */
size_t ads_state_resume(struct ads_state *s, const Core__Node *node, struct arena *a, struct str **out);
/* What Envoy wants of this type, does not hold, and the last good configuration has: a packed response, remembered like one of pilot's. Empty
 * when there is nothing to say. */
struct str ads_state_answer(struct ads_state *s, const char *type_url, struct arena *a);
/* Envoy waits for the first answer of some type, and ads_state_answer() would have one. */
bool ads_state_starved(const struct ads_state *s);
const char *ads_state_type(const struct ads_state *s, size_t i); /* NULL past the end */
bool ads_state_has_content(const struct ads_state *s);

/* Changed since the last save. */
bool ads_state_dirty(const struct ads_state *s);
/* The last good configuration as bytes, with a checksum. Decoding wants an empty state, and leaves it empty when it fails. */
void ads_state_encode(const struct ads_state *s, struct strbuf *out);
bool ads_state_decode(struct ads_state *s, struct str file, struct err *e) MUST_CHECK;
bool ads_state_save(struct ads_state *s, const char *path, struct err *e) MUST_CHECK;
bool ads_state_load(struct ads_state *s, const char *path, struct err *e) MUST_CHECK;
void ads_state_debug(const struct ads_state *s, struct strbuf *json);
