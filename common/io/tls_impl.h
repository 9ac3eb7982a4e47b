/* Internal to tls.c and tls_conn.c: what a context holds, and the immutable set of it that a connection keeps. */
#pragma once

#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include "common/io/tls_conn.h"

struct tls_identity {
	unsigned refs;
	mbedtls_x509_crt chain;
	mbedtls_pk_context key;
};

struct tls_roots {
	unsigned refs;
	mbedtls_x509_crt certs;
};

/* One generation of a context; connections count it. */
struct tls_setup {
	unsigned refs;
	mbedtls_ssl_config conf;
	struct tls_identity *identity; /* NULL: none */
	struct tls_roots *roots;
	char **names; /* client: what the server may be called, NULL-terminated, or NULL */
	char *trust_domain; /* NULL: not checked */
	bool server;
	enum tls_peer_auth peer_auth;
};

struct tls_setup *tls_context_setup(
	struct tls_context *c, struct err *e); /* counted for the caller; NULL and e on error */
void tls_setup_unref(struct tls_setup *s);
bool tls_error(struct err *e, const char *what, int code); /* false */

/* tls_peer.c: is this leaf what the setup asks for? Fills *peer. */
bool tls_peer_check(
	const struct tls_setup *s, const mbedtls_x509_crt *leaf, struct tls_peer *peer, struct err *e) MUST_CHECK;
