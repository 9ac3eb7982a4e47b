/* CURVE keys by role, and who may follow whom. Internal to the bus; loading and generating are in bus.h. */
#pragma once

#include "common/bus/bus.h"
#include "common/bus/socket.h"

/* The role that owns this public key (32 bytes), or NULL. */
const char *bus_keys_role_of(const struct bus_keys *k, struct str public_key);
bool bus_role_may_follow(const char *role, const char *publisher);
const char *bus_keys_own_role(const struct bus_keys *k);
/* CURVE options of a socket that binds (authenticated in `domain`) or connects to the publisher. */
bool bus_keys_serve(const struct bus_keys *k, struct zsock *s, const char *domain, struct err *e) MUST_CHECK;
bool bus_keys_connect(const struct bus_keys *k, struct zsock *s, const char *publisher, struct err *e) MUST_CHECK;

/*
 * The authenticator of the process (ZAP, ZeroMQ RFC 27): one per ZeroMQ context, shared by all publishers of it, each
 * with a domain of its own. It runs on the loop of the first publisher, so publishers with keys must share a loop.
 */
struct zap_client {
	const struct bus_keys *keys;
	const char *publisher;
	void (*on_refused)(void *ctx, const char *reason, struct str address);
	void *ctx;
	char domain[32]; /* filled in by zap_join() */
};
bool zap_join(struct loop *l, struct bus_context *c, struct zap_client *client, struct err *e) MUST_CHECK;
void zap_leave(struct bus_context *c, struct zap_client *client);
