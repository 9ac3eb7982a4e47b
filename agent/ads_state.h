/*
 * What Envoy holds and wants, per xDS type, seen from the middle of its delta ADS stream: the agent is a delta server towards Envoy and a delta
 * client towards pilot, and this is the state of both. Pure: bytes in, bytes out; no sockets, no clock. The resources that Envoy accepted
 * are the last good configuration, which can be written to a file and read again.
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
/* A request of Envoy. What it says about subscriptions and versions is taken over. True when `nonce` is that of a response that pilot sent on
 * the present upstream stream, or when the request carries more than an acknowledgement: then it must be passed on to pilot. */
bool ads_state_request(struct ads_state *s, const Ads__DeltaDiscoveryRequest *r);
/* A response of pilot on its way to Envoy: remembered until Envoy accepts it. */
void ads_state_response(struct ads_state *s, const Ads__DeltaDiscoveryResponse *r);
/* Pilot is gone: nonces of its stream mean nothing any more. */
void ads_state_upstream_lost(struct ads_state *s);

/* What to ask a new pilot stream for: one request per type that Envoy is subscribed to, in the order in which Envoy first asked, with the
 * versions that Envoy holds. The node goes into the first. Packed, in the arena. */
size_t ads_state_resume(const struct ads_state *s, const Core__Node *node, struct arena *a, struct str **out);
/* Answers from the last good configuration for a request of Envoy while there is no pilot: packed response, or an empty str when there is nothing
 * to say. */
struct str ads_state_answer(struct ads_state *s, const char *type_url, struct arena *a);
/* All types, in order: for a stream that waited for pilot in vain. */
const char *ads_state_type(const struct ads_state *s, size_t i); /* NULL past the end */
bool ads_state_has_content(const struct ads_state *s);

/* Changed since the last save. */
bool ads_state_dirty(const struct ads_state *s);
bool ads_state_save(struct ads_state *s, const char *path, struct err *e) MUST_CHECK;
bool ads_state_load(struct ads_state *s, const char *path, struct err *e) MUST_CHECK;
void ads_state_debug(const struct ads_state *s, struct strbuf *json);
