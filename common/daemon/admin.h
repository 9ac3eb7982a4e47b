/*
 * The admin HTTP server (libmicrohttpd driven by the loop: no thread of its own). daemon.c mounts the standard pages on it; the agent
 * also uses it for its status port (15020), galley for webhooks later. Handlers run on the loop's thread and answer at once or later.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/loop.h"

struct admin;
struct admin_request;

struct admin *admin_new(struct loop *l, const char *address, uint16_t *bound_port, struct err *e) MUST_CHECK;
/* The same over TLS (GnuTLS by libmicrohttpd), for webhooks. PEM, the leaf first; copied, the key is wiped when freed. */
struct admin *admin_new_tls(struct loop *l, const char *address, const char *chain_pem, const char *key_pem,
	uint16_t *bound_port, struct err *e) MUST_CHECK;
void admin_free(struct admin *a); /* ends all requests; those that wait must not be answered afterwards */
/* Path exact, or a prefix when it ends with "/". method "GET", "POST"; HEAD is answered from GET. The longest match wins. */
void admin_route(struct admin *a, const char *method, const char *path, void (*fn)(void *ctx, struct admin_request *r),
	void *ctx);
struct str admin_request_path(const struct admin_request *r);
struct str admin_request_query(const struct admin_request *r, const char *key); /* one parameter; empty if absent */
struct str admin_request_query_string(const struct admin_request *r);
struct str admin_request_header(const struct admin_request *r, const char *name);
struct str admin_request_body(const struct admin_request *r);
/* The caller is on 127.0.0.1, ::1 or a Unix socket; 127.0.0.6, from where a sidecar passes on what came from outside, is not local. */
bool admin_request_is_local(const struct admin_request *r);
/* Exactly once per request, now or later. The body is copied; it goes out in gzip to who takes that. */
void admin_respond(struct admin_request *r, unsigned status, const char *content_type, struct str body);
