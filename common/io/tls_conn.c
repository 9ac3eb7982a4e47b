/*
 * DOC: A TLS connection. The verify callback runs our own rules on the leaf inside the handshake, so that the peer gets an alert
 * and we get a reason in words. mbedTLS would compare the common name too when a server name is set for SNI; that flag is dropped.
 */
#include "common/io/tls_conn.h"

#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/io/scopes.h"
#include "common/io/tls_impl.h"

struct tls_conn {
	struct tls_context *context;
	struct tls_setup *setup;
	mbedtls_ssl_context ssl;
	int fd;
	bool ready, wants_write, show_peer;
	size_t taken; /* by mbedTLS from us, not yet by the socket */
	struct err why; /* what a callback found wrong */
	uint32_t flags; /* of the whole chain */
	struct tls_peer peer;
	char serial[64];
};

static int on_send(void *ctx, const unsigned char *data, size_t len)
{
	struct tls_conn *t = ctx;
	ssize_t n;
	do
		n = send(t->fd, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (int)n;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return MBEDTLS_ERR_SSL_WANT_WRITE;
	(void)err_errno(&t->why, "write");
	return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static int on_recv(void *ctx, unsigned char *data, size_t len)
{
	struct tls_conn *t = ctx;
	ssize_t n;
	do
		n = recv(t->fd, data, len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (int)n;
	if (n == 0)
		return MBEDTLS_ERR_SSL_CONN_EOF;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return MBEDTLS_ERR_SSL_WANT_READ;
	(void)err_errno(&t->why, "read");
	return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static void say_flags(struct tls_conn *t)
{
	char text[320];
	int n = mbedtls_x509_crt_verify_info(text, sizeof(text), "", t->flags);
	for (int i = 0; i < n; i++)
		if (text[i] == '\n')
			text[i] = i + 1 < n ? ';' : 0;
	(void)err_set(
		&t->why, ERR_DENIED, "the peer's certificate does not verify: %s", n > 0 ? text : "unknown reason");
}

static int on_verify(void *ctx, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
	struct tls_conn *t = ctx;
	*flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
	t->flags |= *flags;
	if (depth)
		return 0;
	if (t->flags)
		say_flags(t);
	else if (!tls_peer_check(t->setup, cert, &t->peer, &t->why))
		*flags |= MBEDTLS_X509_BADCERT_OTHER;
	else
		t->peer.verified = true;
	/* With an optional certificate mbedTLS would go on in spite of the flags. */
	return t->peer.verified || t->setup->peer_auth == TLS_PEER_REQUIRED ? 0 : MBEDTLS_ERR_X509_FATAL_ERROR;
}

static bool prepare(struct tls_conn *t, const char *server_name, struct err *e)
{
	t->setup = tls_context_setup(t->context, e);
	if (!t->setup)
		return false;
	int bad = mbedtls_ssl_setup(&t->ssl, &t->setup->conf);
	if (!bad && server_name && !t->setup->server)
		bad = mbedtls_ssl_set_hostname(&t->ssl, server_name);
	if (bad)
		return tls_error(e, "TLS set-up", bad);
	mbedtls_ssl_set_bio(&t->ssl, t, on_send, on_recv, NULL);
	if (t->setup->peer_auth != TLS_PEER_NONE)
		mbedtls_ssl_set_verify(&t->ssl, on_verify, t);
	return true;
}

struct tls_conn *tls_conn_new(struct tls_context *c, int fd, const char *server_name)
{
	struct tls_conn *t = xzalloc(sizeof(*t));
	t->context = c;
	tls_context_ref(c);
	t->fd = fd;
	mbedtls_ssl_init(&t->ssl);
	t->wants_write = true; /* a client begins */
	if (!prepare(t, server_name, &t->why)) {
		tls_setup_unref(t->setup);
		t->setup = NULL; /* the handshake says why */
	} else {
		t->wants_write = !t->setup->server;
	}
	return t;
}

void tls_conn_free(struct tls_conn *t)
{
	if (!t)
		return;
	mbedtls_ssl_free(&t->ssl);
	tls_setup_unref(t->setup);
	tls_context_free(t->context);
	free(t);
}

static enum net_result result(struct tls_conn *t, int code, const char *what, struct err *e)
{
	t->wants_write = code == MBEDTLS_ERR_SSL_WANT_WRITE;
	if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE)
		return NET_AGAIN;
	if (code == MBEDTLS_ERR_SSL_CONN_EOF || code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
		return NET_EOF;
	if (t->why.text[0]) {
		if (e)
			*e = t->why;
		(void)err_in(e, "%s", what);
	} else {
		(void)tls_error(e, what, code);
	}
	return NET_FAILED;
}

static bool after_handshake(struct tls_conn *t, struct err *e)
{
	const char *protocol = mbedtls_ssl_get_alpn_protocol(&t->ssl);
	if (!t->setup->server && (!protocol || strcmp(protocol, "h2") != 0))
		return err_set(e, ERR_PEER, "TLS handshake: the server does not speak HTTP/2 (ALPN h2)");
	const mbedtls_x509_crt *leaf = mbedtls_ssl_get_peer_cert(&t->ssl);
	if (!leaf || !t->peer.verified) {
		t->peer = (struct tls_peer){0};
		return true; /* a client without a certificate, where that is allowed */
	}
	/* The names point into the certificate that mbedTLS keeps, not into the one the callback saw. */
	if (!tls_peer_check(t->setup, leaf, &t->peer, e))
		return false;
	size_t len = 0;
	for (size_t i = 0; i < leaf->serial.len && len + 3 < sizeof(t->serial); i++)
		len += (size_t)snprintf(t->serial + len, sizeof(t->serial) - len, "%02x", leaf->serial.p[i]);
	t->peer.serial_hex = str_n(t->serial, len);
	return true;
}

enum net_result tls_conn_handshake(struct tls_conn *t, struct err *e)
{
	if (!t->setup) {
		if (e)
			*e = t->why;
		return NET_FAILED;
	}
	int code = mbedtls_ssl_handshake(&t->ssl);
	if (code)
		return result(t, code, "TLS handshake", e);
	if (!after_handshake(t, e))
		return NET_FAILED;
	t->ready = true;
	t->wants_write = false;
	return NET_OK;
}

enum net_result tls_conn_read(struct tls_conn *t, uint8_t *buf, size_t cap, size_t *got, struct err *e)
{
	int n = mbedtls_ssl_read(&t->ssl, buf, cap);
	if (n > 0) {
		*got = (size_t)n;
		return NET_OK;
	}
	return n ? result(t, n, "TLS read", e) : NET_EOF;
}

enum net_result tls_conn_write(struct tls_conn *t, const uint8_t *data, size_t len, size_t *written, struct err *e)
{
	/* After WANT_WRITE mbedTLS has the bytes already; the same length again only flushes them. */
	size_t ask = t->taken ? t->taken : len;
	int n = mbedtls_ssl_write(&t->ssl, data, ask);
	if (n > 0) {
		t->taken = 0;
		*written = (size_t)n;
		return NET_OK;
	}
	t->taken = ask;
	return result(t, n, "TLS write", e);
}

bool tls_conn_wants_write(const struct tls_conn *t)
{
	return t->wants_write;
}

void tls_conn_bye(struct tls_conn *t)
{
	if (t->ready && !t->taken)
		(void)mbedtls_ssl_close_notify(&t->ssl);
}

const struct tls_peer *tls_conn_peer(const struct tls_conn *t)
{
	return t->ready && t->peer.verified ? &t->peer : NULL;
}
