/*
 * Stream sockets of common/io: listening, connecting, and reading and writing with or without TLS. Never blocks.
 * All results name the reason; the caller adds the address.
 */
#pragma once

#include "common/io/addr.h"
#include "common/io/outq.h"
#include "common/io/tls_conn.h"

struct net {
	int fd;
	struct tls_conn *tls; /* NULL: plaintext */
};

enum net_result net_read(struct net *n, uint8_t *buf, size_t cap, size_t *got, struct err *e);
/* Writes from the front of q and consumes it, until it is empty (NET_OK) or the socket is full (NET_AGAIN). */
enum net_result net_write(struct net *n, struct outq *q, size_t *written, struct err *e);
void net_close(struct net *n);

/* A listening socket, non-blocking. A Unix socket's path is replaced when nobody listens on it any more. */
bool net_listen(const struct addr *a, int *out_fd, uint16_t *bound_port, struct err *e) MUST_CHECK;
/* Begins to connect; writable when done, net_connected() then tells how it went. source: the address to come from, NULL: the kernel's choice. */
bool net_connect(const struct addr *a, const struct addr *source, int *out_fd, struct err *e) MUST_CHECK;
bool net_connected(int fd, struct err *e) MUST_CHECK;
void net_tune(int fd); /* TCP: no delay */
void net_peer_address(int fd, char out[128]); /* "10.0.0.1:4711", "unix" */
