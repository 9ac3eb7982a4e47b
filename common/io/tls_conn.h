/*
 * One TLS connection over a non-blocking socket, for net.c. The socket stays the caller's. Writing goes record by record: what
 * mbedTLS has taken but the socket has not counts as written when it has left.
 */
#pragma once

#include "common/io/tls.h"

struct tls_conn;

enum net_result {
	NET_OK,
	NET_AGAIN, /* the socket is not ready: see wants_read / wants_write */
	NET_EOF,
	NET_FAILED,
};

/* Keeps the context alive. server_name: for SNI, NULL when the peer is an IP or a Unix socket. */
struct tls_conn *tls_conn_new(struct tls_context *c, int fd, const char *server_name);
void tls_conn_free(struct tls_conn *t);
/* NET_OK once: then peer and ALPN are checked. NET_FAILED: e says what was wrong with whose certificate. */
enum net_result tls_conn_handshake(struct tls_conn *t, struct err *e);
enum net_result tls_conn_read(struct tls_conn *t, uint8_t *buf, size_t cap, size_t *got, struct err *e);
enum net_result tls_conn_write(struct tls_conn *t, const uint8_t *data, size_t len, size_t *written, struct err *e);
bool tls_conn_wants_write(const struct tls_conn *t); /* during the handshake */
void tls_conn_bye(struct tls_conn *t); /* close_notify, as far as the socket takes it */
const struct tls_peer *tls_conn_peer(const struct tls_conn *t);
void tls_context_ref(struct tls_context *c);
