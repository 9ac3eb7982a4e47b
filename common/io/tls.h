/*
 * TLS 1.2 by mbedTLS for grpc.h: contexts hold an identity (chain + key) and trust roots that can be replaced at any time;
 * connections that exist keep what they had, new ones use the new. AES-128-GCM is offered first (mbedTLS would prefer
 * ChaCha20), ALPN is h2. All functions on the loop's thread that uses the context. Keys are wiped when freed.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

struct tls_context;

enum tls_peer_auth {
	TLS_PEER_NONE, /* server: do not ask for a certificate */
	TLS_PEER_OPTIONAL, /* server: ask; a certificate that does not verify fails the handshake */
	TLS_PEER_REQUIRED, /* client: always this, by roots and names below */
};

struct tls_options {
	bool server;
	enum tls_peer_auth peer_auth;
	const char *
		trust_domain; /* a peer certificate must carry exactly one URI SAN spiffe://<trust_domain>/...; NULL: not checked */
};

struct tls_context *tls_context_new(const struct tls_options *o);
void tls_context_free(struct tls_context *c); /* connections keep it alive until they end */
/* PEM. chain: leaf first. NULL leaves that part as it is. On error nothing changes. */
bool tls_context_set_identity(
	struct tls_context *c, struct str chain_pem, struct str key_pem, struct err *e) MUST_CHECK;
bool tls_context_set_roots(struct tls_context *c, struct str roots_pem, struct err *e) MUST_CHECK;
/* Client: the server must carry one of these, as DNS name or IP (NULL list: none) or as URI SAN. Any one match is enough. */
bool tls_context_set_server_names(struct tls_context *c, const char *const *dns_or_uri, struct err *e) MUST_CHECK;

/* What a verified peer showed; borrowed from the connection. */
struct tls_peer {
	bool verified;
	struct str spiffe_id; /* the URI SAN, or empty */
	int64_t not_after_ms;
	struct str serial_hex;
};
